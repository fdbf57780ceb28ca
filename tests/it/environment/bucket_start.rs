//! Startup with a bucket that does not respond or denies access: it fails quickly, with a clear error.

use std::net::TcpListener;

use crate::support::s3_faults::{Fault, FaultyS3, Rule};
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp, eventually, program};

fn sweep(app: &TestApp, more: &[(&str, &str)]) -> (bool, String) {
    let swept = app.run_with(more, &["sweep"]);
    let log = String::from_utf8(swept.stderr).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    (swept.status.success(), log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_respond_is_named_with_the_pending_request() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    // The kernel accepts connections, but nothing reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let endpoint = format!("http://{address}");
    let (succeeded, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &endpoint)]);
    assert!(!succeeded);
    assert!(log.contains("did not respond within 30 s"), "{log}");
    assert!(log.contains("waiting for") && log.contains("listing its objects") && log.contains(&address), "{log}");
    // A shorter client timeout takes precedence.
    let (_, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &endpoint), ("AWS_TIMEOUT", "100ms")]);
    assert!(log.contains("the request timed out") && log.contains(&address), "{log}");
    let gone = format!("http://{}", { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() });
    let (_, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &gone)]);
    assert!(log.contains("nothing is listening there"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_creation_that_hangs_does_not_hang_startup() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    let bucket = format!("never-{}", fastrand::u64(..));
    faults.set(Rule { method: "PUT", about: "/never-", after: 0, times: usize::MAX, fault: Fault::IsLate(HANG) });
    let store = format!("s3://{bucket}/a");
    let (succeeded, log) = app.link(&[("AWS_ENDPOINT_URL", &faults.endpoint), ("WINDLASS_STORE", &store)]);
    assert!(!succeeded && log.contains("creating the missing bucket"), "{log}");
}

/// Longer than any startup timeout.
const HANG: std::time::Duration = std::time::Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn permanent_refusals_of_a_store_are_explained() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    for (status, code, expected) in [
        (403, "AccessDenied", "lack a required permission"),
        (403, "InvalidAccessKeyId", "unknown access key"),
        (403, "SignatureDoesNotMatch", "the secret key is wrong"),
        (403, "RequestTimeTooSkewed", "set the clock"),
        (400, "ExpiredToken", "has expired"),
        (301, "PermanentRedirect", "another region than us-east-1"),
        (404, "NoSuchBucket", "the bucket does not exist: create it"),
        (400, "KMS.DisabledException", "encryption key cannot be used: enable it in KMS"),
        (403, "InvalidObjectState", "the object is archived"),
    ] {
        faults.set(Rule { method: "GET", about: "", after: 0, times: usize::MAX, fault: Fault::Refuses(status, code) });
        let (succeeded, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &faults.endpoint)]);
        assert!(!succeeded && log.contains(expected), "{code}: {log}");
        assert!(log.contains(&faults.endpoint.replace("http://", "")), "the server is not named: {log}");
    }
    faults.heal();
    let (succeeded, log) = sweep(&app, &[("AWS_SECRET_ACCESS_KEY", "another")]);
    assert!(!succeeded && log.contains("the secret key is wrong"), "{log}");
    let tls = app.setting("AWS_ENDPOINT_URL").replace("http://", "https://");
    let (succeeded, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &tls)]);
    assert!(!succeeded && log.contains("does not speak TLS"), "{log}");
    let (succeeded, log) = sweep(&app, &[("AWS_ENDPOINT_URL", "http://store.invalid:9000")]);
    assert!(!succeeded && log.contains("cannot be resolved"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_or_read_fails_the_start_with_the_step_and_the_reason() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    let place = faults.endpoint.replace("http://", "");
    for (method, fault, step, reason) in [
        ("PUT", Fault::Refuses(403, "AccessDenied"), "could not be written", "lack a required permission"),
        ("PUT", Fault::Refuses(403, "RequestTimeTooSkewed"), "could not be written", "set the clock"),
        ("PUT", Fault::Refuses(403, "InvalidAccessKeyId"), "could not be written", "unknown access key"),
        ("PUT", Fault::Refuses(400, "KMS.NotFoundException"), "could not be written", "encryption key cannot be used"),
        ("GET", Fault::Refuses(403, "AccessDenied"), "could not be read", "lack a required permission"),
        ("GET", Fault::Refuses(404, "NoSuchKey"), "was written, but is missing when it is read", "no cache"),
        ("GET", Fault::Answers("other bytes"), "does not have the content that was written to it", "no cache"),
    ] {
        faults.set(Rule { method, about: "/startup-check", after: 0, times: usize::MAX, fault });
        let log = refused_start(&app, &[("AWS_ENDPOINT_URL", &faults.endpoint)]);
        assert!(log.contains(step) && log.contains(reason) && log.contains(&place), "{fault:?}: {log}");
    }
    // The first start fails as plainly.
    let store = format!("s3://uploads/read-only-{}", fastrand::u64(..));
    for method in ["PUT", "GET"] {
        let denied = Fault::Refuses(403, "AccessDenied");
        faults.set(Rule { method, about: "/windlass-store.json", after: 0, times: usize::MAX, fault: denied });
        let (succeeded, log) = app.link(&[("AWS_ENDPOINT_URL", &faults.endpoint), ("WINDLASS_STORE", &store)]);
        assert!(!succeeded && log.contains("lack a required permission") && log.contains(&place), "{method}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_deletions_is_used_and_reported() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    let denied = Fault::Refuses(403, "AccessDenied");
    faults.set(Rule { method: "DELETE", about: "/startup-check", after: 0, times: usize::MAX, fault: denied });
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    let log = app.log();
    assert!(log.contains("a small object could not be deleted") && log.contains("lack a required permission"), "{log}");
    assert_eq!(app.store.list().await.len(), 1);
    faults.heal();
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_encryption_key_makes_a_running_service_not_ready_and_loses_nothing() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    let file = app.client.file("kept").await;
    let disabled = Fault::Refuses(400, "KMS.DisabledException");
    faults.set(Rule { method: "GET", about: "", after: 0, times: usize::MAX, fault: disabled });
    faults.add(Rule { method: "PUT", about: "", after: 0, times: usize::MAX, fault: disabled });
    eventually("it is not ready", async || {
        let answer = app.client.get("/readyz").await;
        answer.status == 503 && answer.json()["causes"][0]["code"] == "store_unavailable"
    })
    .await;
    let refused = app.client.create_file("user_data", "bytes").await;
    refused.error(503, None);
    assert!(refused.header("retry-after").is_some());
    assert!(app.log().contains("KMS.DisabledException"), "{}", app.log());
    faults.heal();
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
    assert_eq!(app.client.download(&file).await, b"kept");
    app.nothing_is_lost_and_nothing_is_left().await;
}

/// Runs `serve`, which must fail; returns its log.
fn refused_start(app: &TestApp, more: &[(&str, &str)]) -> String {
    let mut settings = app.with(more);
    settings.push(("WINDLASS_LISTEN".to_owned(), "127.0.0.1:0".to_owned()));
    let started = program::command_under(&["timeout", "60"], &settings).arg("serve").output().unwrap();
    let log = String::from_utf8(started.stderr).unwrap();
    assert_eq!(started.status.code(), Some(1), "{log}");
    log
}
