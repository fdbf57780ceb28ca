//! Startup with a bucket that does not respond or denies access: it fails quickly, with a clear error.

use std::net::TcpListener;

use crate::support::s3_faults::{Fault, FaultyS3, Rule};
use crate::support::{StoreKind, TestApp};

fn sweep(app: &TestApp, more: &[(&str, &str)]) -> (bool, String) {
    let swept = app.run_with(more, &["sweep"]);
    let log = String::from_utf8(swept.stderr).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    (swept.status.success(), log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_is_named_with_what_was_waited_for() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    // The kernel accepts connections, but nothing reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let endpoint = format!("http://{address}");
    let (went_well, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &endpoint)]);
    assert!(!went_well);
    assert!(log.contains("gave no answer within 30 s"), "{log}");
    assert!(log.contains("waiting for") && log.contains("a list of its objects") && log.contains(&address), "{log}");
    // A shorter client timeout takes precedence.
    let (_, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &endpoint), ("AWS_TIMEOUT", "100ms")]);
    assert!(log.contains("there was no answer in time") && log.contains(&address), "{log}");
    let gone = format!("http://{}", { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() });
    let (_, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &gone)]);
    assert!(log.contains("nothing listens there"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_never_made_does_not_hang_the_start() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    let bucket = format!("never-{}", fastrand::u64(..));
    faults.set(Rule { method: "PUT", about: "/never-", after: 0, times: usize::MAX, fault: Fault::IsLate(HANG) });
    let store = format!("s3://{bucket}/a");
    let (went_well, log) = app.link(&[("AWS_ENDPOINT_URL", &faults.endpoint), ("WINDLASS_STORE", &store)]);
    assert!(!went_well && log.contains("the missing bucket to be made"), "{log}");
}

/// Longer than any startup timeout.
const HANG: std::time::Duration = std::time::Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_refuses_for_good_is_said_in_plain_words() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    for (status, code, said) in [
        (403, "AccessDenied", "do not have the permission"),
        (403, "InvalidAccessKeyId", "does not know the access key"),
        (403, "SignatureDoesNotMatch", "the secret key is another"),
        (403, "RequestTimeTooSkewed", "set the clock"),
        (400, "ExpiredToken", "has expired"),
        (301, "PermanentRedirect", "another region than us-east-1"),
    ] {
        faults.set(Rule { method: "GET", about: "", after: 0, times: usize::MAX, fault: Fault::Refuses(status, code) });
        let (went_well, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &faults.endpoint)]);
        assert!(!went_well && log.contains(said), "{code}: {log}");
        assert!(log.contains(&faults.endpoint.replace("http://", "")), "it names the server: {log}");
    }
    faults.heal();
    let (went_well, log) = sweep(&app, &[("AWS_SECRET_ACCESS_KEY", "another")]);
    assert!(!went_well && log.contains("the secret key is another"), "{log}");
    let tls = app.setting("AWS_ENDPOINT_URL").replace("http://", "https://");
    let (went_well, log) = sweep(&app, &[("AWS_ENDPOINT_URL", &tls)]);
    assert!(!went_well && log.contains("does not speak TLS"), "{log}");
    let (went_well, log) = sweep(&app, &[("AWS_ENDPOINT_URL", "http://store.invalid:9000")]);
    assert!(!went_well && log.contains("cannot be resolved"), "{log}");
}
