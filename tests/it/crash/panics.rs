//! A panic at every step: it ends either the request in which it occurs or the process, and leaves neither hanging.

use std::collections::BTreeSet;

use windlass::crash::CrashPoint;

use super::operations::Operation::{self, *};
use super::operations::PART_LIMIT;
use super::steps::{is_on_the_way, passed_by};
use crate::support::{Client, TestApp, cluster, eventually, program};

crate::on_a_directory_and_s3! {
    objects only:
    a_panic_in_a_request_fails_that_request_and_leaves_what_a_death_leaves;
    a_panic_in_a_request_about_small_parts_fails_that_request_only (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_panic_in_a_sweep_costs_a_pass_of_the_service_and_fails_the_command;
    every_thread_is_one_of_which_it_is_decided_what_a_panic_does;
}

async fn a_panic_in_a_request_fails_that_request_and_leaves_what_a_death_leaves(app: &TestApp) {
    panic_at_every_step(app, &[CreateUpload, AddPart, CreateFile, GiveUpPart, Complete, Cancel, Delete]).await;
}

async fn a_panic_in_a_request_about_small_parts_fails_that_request_only(app: &TestApp) {
    panic_at_every_step(app, &[AddSmallPart, CreateSmallFile]).await;
}

async fn panic_at_every_step(app: &TestApp, operations: &[Operation]) {
    for operation in operations {
        for point in CrashPoint::ALL.iter().copied().filter(|it| is_on_the_way(*it, app.store.kind())) {
            let (passed_by, committed) = passed_by(point);
            if passed_by.contains(operation) {
                panic_in_a_request(app, *operation, point, committed).await;
            }
        }
    }
}

async fn panic_in_a_request(app: &TestApp, operation: Operation, point: CrashPoint, committed: bool) {
    let target = operation.prepare(app).await;
    let armed = format!("panic at {}", point.name());
    app.restart_with(&[("WINDLASS_CRASH_AT", &armed), ("WINDLASS_MAX_PART_BYTES", PART_LIMIT)]);
    let before = app.log().len();
    let answer = operation.send(&app.client, &target).await.unwrap().unwrap();
    let status = answer.status().as_u16();
    eventually("the log has the panic and its place", async || {
        let log = &app.log()[before..];
        log.contains("panicked: a test wants it") && log.contains(point.name()) && log.contains("src/")
    })
    .await;
    // Creating an Upload has a fallback, and the client may not see how abandoning a Part ends.
    let may_succeed = matches!(operation, CreateUpload | GiveUpPart);
    assert!(may_succeed || status == 500 || status == 503, "{operation:?} at '{}': {status}", point.name());
    // The same process keeps serving.
    let client = Client::new(&app.client.address, &app.client.key);
    assert_eq!(client.download(&client.file("another").await).await, b"another");
    app.restart_with(&[]);
    operation.check(&client, &target, committed).await;
    app.ledger_and_store_agree_in_the_end().await;
}

async fn a_panic_in_a_sweep_costs_a_pass_of_the_service_and_fails_the_command(app: &TestApp) {
    let armed = [("WINDLASS_CRASH_AT", "panic at expire uploads: written")];
    ExpireUploads.prepare(app).await;
    let swept = app.run_with(&armed, &["sweep"]);
    assert_eq!(swept.status.code(), Some(101), "{swept:?}");
    assert!(String::from_utf8_lossy(&swept.stderr).contains("panicked"), "{swept:?}");

    app.restart_with(&[armed[0], ("WINDLASS_SWEEP_INTERVAL", "100ms")]);
    eventually("the next pass does it", async || {
        let pending = "select count(*) from upload where status = 'pending'";
        sqlx::query_scalar::<_, i64>(pending).fetch_one(&app.pool).await.unwrap() == 0
    })
    .await;
    assert!(app.log().contains("panicked"));
    app.restart_with(&[]);
}

/// `telemetry/panics.rs` decides by thread name, of which the kernel keeps 15 bytes.
async fn every_thread_is_one_of_which_it_is_decided_what_a_panic_does(app: &TestApp) {
    app.client.file("so that every thread has begun").await;
    let threads = std::fs::read_dir(format!("/proc/{}/task", app.program(|it| it.pid()))).unwrap();
    let names = threads.filter_map(|it| std::fs::read_to_string(it.unwrap().path().join("comm")).ok());
    let names: BTreeSet<String> = names.map(|it| it.trim().to_owned()).collect();
    let decided = ["windlass", "tokio-rt-worker", "actix-server wo", "actix-server ac", "log", "ignored signals"];
    assert!(decided.iter().all(|it| names.contains(*it)), "{names:?}");
    assert!(names.iter().all(|it| decided.contains(&&**it)), "{names:?}");
}

/// No other thread would take over the main thread's work.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_on_the_main_thread_ends_the_process_and_says_so() {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL", cluster::empty_database().await.url),
        ("WINDLASS_DATA_DIR", data_dir.path().display().to_string()),
        ("WINDLASS_LISTEN", "127.0.0.1:0".to_owned()),
        ("WINDLASS_CRASH_AT", format!("panic at {}", CrashPoint::FirstKeyKept.name())),
    ];
    let ended = program::run(&settings.map(|(name, value)| (name.to_owned(), value)), &["serve"]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(101), "{said}");
    assert!(said.contains("panicked") && said.contains("src/app.rs"), "{said}");
}
