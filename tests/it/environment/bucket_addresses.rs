//! How buckets and objects are addressed: by host or by path, in a region, under a prefix.

use futures_util::TryStreamExt as _;
use object_store::ObjectStore as _;

use crate::support::s3_faults::FaultyS3;
use crate::support::store::{BUCKET, StoreKind, s3_client};
use crate::support::{OBJECTS_ONLY, TestApp};

/// The keys in the tests' bucket under a prefix.
async fn keys(app: &TestApp, prefix: &str) -> Vec<String> {
    let found: Vec<_> =
        s3_client(app.setting("AWS_ENDPOINT_URL")).list(Some(&prefix.into())).try_collect().await.unwrap();
    found.into_iter().map(|it| it.location.to_string()).collect()
}

/// A location in the tests' bucket that belongs to one test.
fn below(app: &TestApp, prefix: &str) -> String {
    format!("{}/{prefix}", app.setting("WINDLASS_STORE"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_percent_decoded_into_the_key() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let root = app.setting("WINDLASS_STORE").replace(&format!("s3://{BUCKET}/"), "");
    for (written, key) in [
        ("a b", "a b"),
        ("c%20d", "c d"),
        ("é", "é"),
        ("%C3%BC", "ü"),
        ("e+f", "e+f"),
        ("50%25", "50%"),
        ("g%3Fh/", "g?h"),
    ] {
        let store = below(&app, written);
        assert!(app.link(&[("WINDLASS_STORE", &store)]).0);
        app.restart_with(&[("WINDLASS_STORE", &store)]);
        let file = app.client.file("bytes").await;
        assert_eq!(app.client.download(&file).await, b"bytes");
        let found = keys(&app, &root).await;
        assert!(found.iter().any(|it| it.starts_with(&format!("{root}/{key}/parts/"))), "{written}: {found:?}");
        let checked = app.run_with(&[("WINDLASS_STORE", &below(&app, written))], &["fsck", "--deep"]);
        let text = String::from_utf8_lossy(&checked.stdout);
        assert!(text.contains("objects: 1, stored parts: 1, findings: 0"), "{written}: {text}");
        app.client.delete(&format!("/v1/files/{file}")).await.ok();
        app.let_time_pass("400 days").await;
        let swept = app.run_with(&[("WINDLASS_STORE", &below(&app, written))], &["sweep"]);
        assert!(String::from_utf8_lossy(&swept.stdout).contains("objects deleted: 1"), "{written}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_earlier_version_below_an_encoded_prefix_are_still_found() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    // The key that earlier versions used for `a b`: it contains the percent sign.
    let former = below(&app, "a%2520b");
    assert!(app.link(&[("WINDLASS_STORE", &former)]).0);
    app.restart_with(&[("WINDLASS_STORE", &former)]);
    let file = app.client.file("kept").await;
    for written in ["a b", "a%20b"] {
        app.restart_with(&[("WINDLASS_STORE", &below(&app, written))]);
        assert_eq!(app.client.download(&file).await, b"kept");
        assert!(app.log().contains("prefix that an earlier version derived from the configured one"), "{}", app.log());
        let more = app.client.file("more").await;
        assert_eq!(app.client.download(&more).await, b"more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_may_be_addressed_by_its_host_name() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    // The server maps the host `uploads.store.invalid` to the bucket; the name does not resolve without the proxy.
    let proxy = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    for endpoint in ["http://store.invalid", "http://uploads.store.invalid"] {
        let by_host = [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
            ("AWS_PROXY_URL", &proxy.endpoint),
        ];
        app.restart_with(&by_host);
        let file = app.client.file("by host").await;
        assert_eq!(app.client.download(&file).await, b"by host");
        let checked = app.run_with(&by_host, &["fsck", "--deep"]);
        assert!(checked.status.success(), "{checked:?}");
    }
    assert_eq!(app.store.list().await.len(), 2, "the objects are not in the bucket below the prefix");
    let by_address = app.run_with(&[("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")], &["sweep"]);
    let log = String::from_utf8_lossy(&by_address.stderr);
    assert!(!by_address.status.success() && log.contains("AWS_VIRTUAL_HOSTED_STYLE_REQUEST"), "{log}");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_created_in_its_region() {
    let Some(app) = TestApp::start(StoreKind::Moto, &[]).await else { return };
    let bucket = format!("made-{}", fastrand::u64(..));
    // moto rejects a `CreateBucket` that does not name its region; the proxy rejects one without a `Content-Length`.
    let before = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    let store = format!("s3://{bucket}/a");
    let settings =
        [("WINDLASS_STORE", &*store), ("AWS_REGION", "eu-central-1"), ("AWS_ENDPOINT_URL", &before.endpoint)];
    let (is_made, log) = app.link(&settings);
    assert!(is_made && log.contains("created the missing bucket"), "{log}");
    let location = format!("{}/{bucket}?location", app.setting("AWS_ENDPOINT_URL"));
    let text = reqwest::get(location).await.unwrap().text().await.unwrap();
    assert!(text.contains("eu-central-1"), "{text}");
}
