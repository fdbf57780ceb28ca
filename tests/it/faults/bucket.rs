//! An S3 server that refuses requests, fails, responds incorrectly, loses uploads, is slow, or is cut off.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use url::Url;

use crate::support::client::id;
use crate::support::s3_faults::{Fault, FaultyS3, Rule};
use crate::support::tcp_proxy::{TcpProxy, Trap};
use crate::support::{Answer, OBJECTS_ONLY, StoreKind, TestApp};

/// A Windlass whose S3 server is behind a fault-injecting proxy; `None` if there is no S3 server.
async fn app_with_fault_proxy() -> Option<(TestApp, FaultyS3)> {
    let app = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await?;
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    Some((app, faults))
}

/// A body that is one request to the store, and one that is several: a multipart upload of three chunks.
fn bodies() -> [Vec<u8>; 2] {
    [b"small".to_vec(), b"windlass ".iter().copied().cycle().take(11 * 1024 * 1024).collect()]
}

const fn rule(method: &'static str, about: &'static str, times: usize, fault: Fault) -> Rule {
    Rule { method, about, after: 0, times, fault }
}

/// Checks that the response to adding a Part is true: after a 200 the Part is stored with these bytes, otherwise it is
/// not listed. Returns whether it is stored.
async fn is_stored_as_answered(app: &TestApp, upload: &str, bytes: &[u8], answer: Answer) -> bool {
    let path = format!("/v1/uploads/{upload}/parts");
    let listed = app.client.get(&path).await.ok()["data"].as_array().unwrap().len();
    if answer.status.as_u16() == 200 {
        assert_eq!(listed, 1);
        let file = id(&app.client.complete(upload, &[&id(&answer.json())]).await.ok()["file"]);
        assert!(app.client.download(&file).await == bytes, "acknowledged bytes have changed");
        true
    } else {
        answer.error(503, None);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(listed, 0, "a refused part is listed");
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_acknowledged_only_when_stored_whatever_the_fault() {
    let Some((app, faults)) = app_with_fault_proxy().await else { return };
    let (slow_down, denied) = (Fault::Refuses(503, "SlowDown"), Fault::Refuses(403, "AccessDenied"));
    let forgotten = Fault::Refuses(404, "NoSuchUpload");
    for (must_succeed, rule) in [
        (Some(true), rule("PUT", "parts/", 1, slow_down)),
        (Some(true), rule("PUT", "parts/", 2, Fault::Refuses(500, "InternalError"))),
        (Some(false), rule("PUT", "parts/", 1, denied)),
        (Some(true), rule("PUT", "parts/", 1, Fault::DoesItAndFails)),
        (Some(true), rule("PUT", "parts/", 1, Fault::IsLate(Duration::from_millis(500)))),
        (Some(false), rule("PUT", "parts/", 1, Fault::FlipsASentByte)),
        (Some(false), rule("PUT", "partNumber=2", 1, Fault::FlipsASentByte)),
        (Some(true), rule("POST", "?uploads", 1, slow_down)),
        (Some(true), rule("POST", "?uploads", 1, Fault::DoesItAndFails)),
        (Some(false), rule("POST", "?uploads", 2, Fault::DoesItAndFails)),
        (Some(true), rule("PUT", "partNumber=2", 1, Fault::DoesItAndFails)),
        (Some(false), rule("PUT", "partNumber=2", 1, forgotten)),
        (Some(true), rule("POST", "uploadId=", 1, slow_down)),
        (None, rule("POST", "uploadId=", 1, Fault::DoesItAndFails)),
        (None, rule("POST", "uploadId=", 1, Fault::FailsWith200)),
        (Some(false), rule("POST", "uploadId=", 1, forgotten)),
    ] {
        for bytes in bodies() {
            let upload = app.client.upload(bytes.len()).await;
            faults.set(rule);
            let answer = app.client.add_part(&upload, bytes.clone()).await;
            let was_triggered = faults.heal();
            let stored = is_stored_as_answered(&app, &upload, &bytes, answer).await;
            println!(
                "{rule:?}, {} bytes: {}",
                bytes.len(),
                if !was_triggered {
                    "not triggered"
                } else if stored {
                    "stored"
                } else {
                    "refused"
                }
            );
            match must_succeed {
                Some(expected) if was_triggered => assert_eq!(stored, expected, "{rule:?}"),
                Some(_) | None => assert!(was_triggered || stored, "{rule:?}"),
            }
        }
    }
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_signed_for_a_store_that_does_not_verify_checksums() {
    let Some((app, faults)) = app_with_fault_proxy().await else { return };
    app.client.file("checked").await;
    assert!(!faults.were_signed(), "this store verifies checksums, and there is no proxy that could change bytes");
    faults.set(rule("PUT", "checksum-probe", 1, Fault::FailsWith200));
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    assert!(faults.heal() && app.log().contains("the store does not check CRC-64/NVME"));
    for bytes in bodies() {
        app.client.file(bytes).await;
        assert!(faults.were_signed());
    }
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint), ("AWS_UNSIGNED_PAYLOAD", "false")]);
    app.client.file("signed by request").await;
    assert!(faults.were_signed());
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_response_is_lost_is_acknowledged_only_when_stored() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let target = app.setting("AWS_ENDPOINT_URL").parse::<Url>().unwrap();
    let proxy = TcpProxy::to(format!("127.0.0.1:{}", target.port().unwrap()).parse().unwrap()).await;
    app.restart_with(&[("AWS_ENDPOINT_URL", &format!("http://{}", proxy.address))]);
    for words in ["PUT /uploads/", "?uploads", "partNumber=2", "POST /uploads/"] {
        for trap in [Trap::BeforeItArrives, Trap::OnceItIsAnswered] {
            for bytes in bodies() {
                let upload = app.client.upload(bytes.len()).await;
                proxy.trap(words, 0, trap);
                let answer = app.client.add_part(&upload, bytes.clone()).await;
                let stored = is_stored_as_answered(&app, &upload, &bytes, answer).await;
                println!("{words}, {trap:?}, {} bytes, triggered: {}: stored: {stored}", bytes.len(), proxy.was_met());
                proxy.disarm();
            }
        }
    }
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

/// The bytes of a File, if it is downloaded completely.
async fn whole_download(app: &TestApp, file: &str) -> Option<Bytes> {
    let request = app.client.request(reqwest::Method::GET, &format!("/v1/files/{file}/content"));
    match request.send().await {
        Ok(answer) if answer.status().as_u16() == 200 => answer.bytes().await.ok(),
        Ok(_) | Err(_) => None,
    }
}

async fn file_of(app: &TestApp, parts: &[Vec<u8>]) -> String {
    let upload = app.client.upload(parts.iter().map(Vec::len).sum()).await;
    let mut ids = Vec::new();
    for part in parts {
        ids.push(app.client.part(&upload, part.clone()).await);
    }
    let listed: Vec<_> = ids.iter().map(String::as_str).collect();
    app.client.complete(&upload, &listed).await.ok()["file"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_hits_a_fault_never_looks_complete() {
    let Some((app, faults)) = app_with_fault_proxy().await else { return };
    // Files of one Part and of two: each Part is one request to the store.
    let large = b"windlass ".iter().copied().cycle().take(6 * 1024 * 1024).collect();
    for parts in [vec![b"small".to_vec()], vec![large, b"end".to_vec()]] {
        let file = file_of(&app, &parts).await;
        let bytes = parts.concat();
        for (recovers, after, fault) in [
            (true, 0, Fault::Refuses(503, "SlowDown")),
            (true, 0, Fault::IsLate(Duration::from_millis(500))),
            (false, 0, Fault::Refuses(404, "NoSuchKey")),
            (false, 0, Fault::FlipsAByte),
            (false, 1, Fault::FlipsAByte),
            (false, 0, Fault::LosesAByte),
            (false, 1, Fault::LosesAByte),
            (false, 0, Fault::GainsAByte),
            (false, 1, Fault::GainsAByte),
        ] {
            let about = format!("{fault:?} after {after} of {} bytes", bytes.len());
            let mut was_cut_off = false;
            // The fault may be used up by a read-ahead request of the previous download, which was cut off.
            for _ in 0..10 {
                faults.set(Rule { method: "GET", about: "parts/", after, times: 1, fault });
                let whole = whole_download(&app, &file).await;
                let was_triggered = faults.heal();
                assert!(whole.as_ref().is_none_or(|it| *it == bytes), "{about}: wrong bytes");
                was_cut_off = whole.is_none();
                if recovers || !was_triggered || was_cut_off {
                    assert!(was_cut_off != (recovers || !was_triggered), "{about}: triggered {was_triggered}");
                    break;
                }
            }
            assert!(recovers || was_cut_off || after > 0 && bytes.len() < 10, "{about}: never cut off");
        }
        assert!(app.client.download(&file).await == bytes, "the download is complete again");
    }
    assert!(app.log().contains("cannot be read: ") && app.log().contains("part_"), "the log lacks the part");
    let metrics = String::from_utf8(app.client.get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("windlass_objects_unreadable_total"), "{metrics}");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_deletion_is_recorded_and_retried_with_backoff() {
    let Some((app, faults)) = app_with_fault_proxy().await else { return };
    let sweep = || app.run_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)], &["sweep"]);
    let file = app.client.file("soon gone").await;
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    app.let_time_pass("2 hours").await;
    let mut pauses = Vec::new();
    // The store's client retries a 200 that contains an error, a few times or until its retry timeout.
    for (method, about, times, fault) in [
        ("POST", "?delete", 6, Fault::DeletesNothing),
        ("POST", "?delete", 1, Fault::Locks),
        ("POST", "?delete", 6, Fault::Refuses(503, "SlowDown")),
    ] {
        faults.set(rule(method, about, times, fault));
        let text = String::from_utf8(sweep().stdout).unwrap();
        assert!(faults.times_left() < times, "{fault:?} was not triggered");
        faults.heal();
        assert!(text.contains("objects deleted: 0, objects failed: 1"), "{fault:?}: {text}");
        let (attempts, error, pause): (i32, Option<String>, f64) = sqlx::query_as(
            "select attempts, last_error, extract(epoch from not_before - now())::float8 from part where state = 'garbage'",
        )
        .fetch_one(&app.pool)
        .await
        .unwrap();
        assert!(error.is_some_and(|it| it.len() > 3), "the reason is not recorded");
        assert_eq!(usize::try_from(attempts).unwrap(), pauses.len() + 1);
        pauses.push(pause);
        app.let_time_pass("2 hours").await;
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(pauses[2] > 2.0 * pauses[0], "{pauses:?}");
    assert!(String::from_utf8(sweep().stdout).unwrap().contains("objects deleted: 1, objects failed: 0"));
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pauses_for_long_gets_every_byte() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let mut whole = vec![0; 60_000_000];
    fastrand::fill(&mut whole);
    let file = app.client.file(whole.clone()).await;
    let mut answer = app.client.request(Method::GET, &format!("/v1/files/{file}/content")).send().await.unwrap();
    // Longer than a response of the store is kept open; then longer than the timeout of the store's client.
    let mut pauses = vec![(5_000_000, 7), (30_000_000, 32)];
    let mut read = Vec::new();
    while let Some(bytes) = answer.chunk().await.unwrap() {
        read.extend_from_slice(&bytes);
        if pauses.first().is_some_and(|it| read.len() > it.0) {
            tokio::time::sleep(Duration::from_secs(pauses.remove(0).1)).await;
        }
    }
    assert!(read == whole, "{} bytes were received", read.len());
    assert!(pauses.is_empty());
    app.nothing_is_lost_and_nothing_is_left().await;
}
