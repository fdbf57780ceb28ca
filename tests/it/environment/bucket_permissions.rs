//! A bucket that denies or does not support some of the requests that the service sends.

use std::process::Output;

use crate::support::s3_faults::{Fault, FaultyS3, Rule};
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp};

const ALWAYS: usize = usize::MAX;

/// A multipart upload of three chunks.
const LARGE: usize = 11 * 1024 * 1024;

const UNKNOWN: &str = "parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5";

/// Truncated pages whose markers are missing or do not advance, and a body that is not XML.
const NO_MARKERS: &str = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>";
const NO_ADVANCE: &str = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>\
     <NextUploadIdMarker>u</NextUploadIdMarker></ListMultipartUploadsResult>";
const NO_XML: &str = "<html>a proxy's page</html";
/// Uploads under other prefixes.
const OF_OTHERS: &str = "<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>\
     <Upload><Key>other%2Fparts%2Fb5%2Fpart_0192f0c1a2b37c4d8e5f60718293a4b5</Key><UploadId>u</UploadId></Upload>\
     <Upload><Key>parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5</Key><UploadId>v</UploadId></Upload>\
     </ListMultipartUploadsResult>";
/// A page of objects that always announces another one.
const NO_END: &str = "<ListBucketResult><IsTruncated>true</IsTruncated><KeyCount>0</KeyCount>\
     <NextContinuationToken>again</NextContinuationToken></ListBucketResult>";

/// A Windlass whose S3 server is behind a fault-injecting proxy, or `None` if there is no S3 server.
async fn app_with_fault_proxy() -> Option<(TestApp, FaultyS3)> {
    let app = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await?;
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    Some((app, faults))
}

const fn always(method: &'static str, about: &'static str, fault: Fault) -> Rule {
    Rule { method, about, after: 0, times: ALWAYS, fault }
}

/// Runs a command through the fault-injecting proxy: its exit status, standard output and log.
fn run(app: &TestApp, faults: &FaultyS3, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = app.run_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)], arguments);
    let log = String::from_utf8(stderr).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), log)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fsck_that_may_not_list_multipart_uploads_reports_it_and_checks_all_else() {
    let Some((app, faults)) = app_with_fault_proxy().await else { return };
    app.client.file("a file").await;
    for (status, code) in
        [(403, "AccessDenied"), (501, "NotImplemented"), (405, "MethodNotAllowed"), (404, "NoSuchKey"), (400, "Odd")]
    {
        faults.set(always("GET", "?uploads=", Fault::Refuses(status, code)));
        let (exit, report, _) = run(&app, &faults, &["fsck", "--deep"]);
        assert_eq!(exit, 4, "{code}: {report}");
        assert_eq!(report.matches("not checked: the store does not list").count(), 1, "{report}");
        assert!(report.contains(&format!("{status} {code}")), "the reason is not reported: {report}");
        assert!(report.ends_with("findings: 0, repaired: 0, not checked: incomplete multipart uploads\n"), "{report}");
    }
    app.store.put(UNKNOWN, "left over").await;
    let (exit, report, _) = run(&app, &faults, &["fsck"]);
    assert_eq!(exit, 3, "a finding takes precedence over what could not be listed: {report}");
    let (exit, report, _) = run(&app, &faults, &["fsck", "--repair", "--older-than=0s", "--max-deleted-share=100"]);
    assert_eq!(exit, 4, "{report}");
    assert!(report.contains(&format!("unknown: {UNKNOWN}, 9 bytes; deleted")), "{report}");
    // A transient error is not treated as a refusal.
    faults.set(always("GET", "?uploads=", Fault::Refuses(503, "SlowDown")));
    assert_eq!(run(&app, &faults, &["fsck"]).0, 1);
    faults.heal();
    assert_eq!(run(&app, &faults, &["fsck"]).0, 0);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_and_collecting_do_not_need_the_list_of_multipart_uploads() {
    let Some((app, faults)) = app_with_fault_proxy().await else { return };
    let refused = always("GET", "?uploads=", Fault::Refuses(403, "AccessDenied"));
    let once = |method, about, fault| Rule { method, about, after: 0, times: 1, fault };
    // Beginning the multipart upload fails once, and what it may have left cannot be found by listing.
    let upload = app.client.upload(LARGE).await;
    faults.set(refused);
    faults.add(once("POST", "?uploads", Fault::Refuses(500, "InternalError")));
    app.client.part(&upload, vec![b'x'; LARGE]).await;
    assert!(app.log().contains("keep a lifecycle rule"), "{}", app.log());
    // A write fails, and so does its abort: two rows with unfinished multipart uploads remain.
    for _ in 0..2 {
        faults.set(refused);
        faults.add(once("PUT", "partNumber=2", Fault::Refuses(403, "AccessDenied")));
        faults.add(once("DELETE", "uploadId=", Fault::Refuses(403, "AccessDenied")));
        app.client.add_part(&upload, vec![b'y'; LARGE]).await.error(503, None);
    }
    assert_eq!(app.store.half_done().await, 2, "both are left, with recorded ids");
    app.let_time_pass("2 hours").await;
    faults.set(refused);
    run(&app, &faults, &["sweep"]);
    app.let_time_pass("2 hours").await;
    let (exit, report, log) = run(&app, &faults, &["sweep"]);
    assert_eq!(exit, 0, "{log}");
    assert!(report.contains("objects failed: 0"), "{report}{log}");
    assert!(log.matches("keep a lifecycle rule").count() <= 1, "logged once, not for every object: {log}");
    assert_eq!(app.store.half_done().await, 0);
    faults.heal();
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_does_not_advance_ends() {
    let Some((app, faults)) = app_with_fault_proxy().await else { return };
    for answer in [NO_MARKERS, NO_ADVANCE, NO_XML] {
        faults.set(always("GET", "?uploads=", Fault::Answers(answer)));
        let (exit, report, _) = run(&app, &faults, &["fsck"]);
        assert_eq!(exit, 4, "{answer}: {report}");
    }
    // Uploads under other prefixes are ignored, also in a response whose keys are URL-encoded without a request for it.
    faults.set(always("GET", "?uploads=", Fault::Answers(OF_OTHERS)));
    let (exit, report, _) = run(&app, &faults, &["fsck"]);
    assert_eq!(exit, 0, "{report}");
    faults.set(always("GET", "list-type=2", Fault::Answers(NO_END)));
    let (exit, _, log) = run(&app, &faults, &["fsck"]);
    assert_eq!(exit, 1, "the objects cannot be listed");
    assert!(log.contains("does not end"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_deleted_one_by_one_if_bulk_deletion_fails() {
    let Some((app, faults)) = app_with_fault_proxy().await else { return };
    for fault in [
        Fault::Refuses(501, "NotImplemented"),
        Fault::Refuses(403, "AccessDenied"),
        Fault::Refuses(405, "MethodNotAllowed"),
        Fault::NamesAnother,
        Fault::Answers("no XML"),
    ] {
        for _ in 0..3 {
            let file = app.client.file("soon gone").await;
            app.client.delete(&format!("/v1/files/{file}")).await.ok();
        }
        app.let_time_pass("2 hours").await;
        faults.set(always("POST", "?delete", fault));
        let Output { status, stdout, stderr } = app.run_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)], &["sweep"]);
        let (report, log) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(
            status.success() && report.contains("objects deleted: 3, objects failed: 0"),
            "{fault:?}: {report}{log}"
        );
        assert!(log.contains("one by one"), "{fault:?}: {log}");
    }
    // An object that cannot be deleted stays recorded and does not block the others.
    for _ in 0..3 {
        let file = app.client.file("soon gone").await;
        app.client.delete(&format!("/v1/files/{file}")).await.ok();
    }
    app.let_time_pass("2 hours").await;
    faults.set(always("POST", "?delete", Fault::Refuses(501, "NotImplemented")));
    faults.add(Rule {
        method: "DELETE",
        about: "parts/",
        after: 1,
        times: 1,
        fault: Fault::Refuses(403, "AccessDenied"),
    });
    let (_, report, _) = run(&app, &faults, &["sweep"]);
    assert!(report.contains("objects deleted: 2, objects failed: 1"), "{report}");
    let why: String =
        sqlx::query_scalar("select last_error from part where state = 'garbage'").fetch_one(&app.pool).await.unwrap();
    assert!(why.contains("AccessDenied"), "{why}");
    faults.heal();
    app.nothing_is_lost_and_nothing_is_left().await;
}
