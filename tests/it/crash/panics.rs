//! A panic at every step ends the request in which it occurs, or the process, and leaves neither hanging.

use std::collections::BTreeSet;

use windlass_engine::failpoints::CrashPoint;

use super::operations::Operation::{self, *};
use super::operations::PART_LIMIT;
use super::steps::{is_reached_on, reached_by};
use crate::support::{Client, TestApp, cluster, eventually, program};

crate::on_a_directory_and_s3! {
    objects only:
    a_panic_in_a_request_fails_only_that_request_and_leaves_the_same_state_as_a_kill;
    a_panic_in_a_request_with_small_parts_fails_only_that_request (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_panic_in_a_sweep_fails_one_pass_of_the_service_and_the_command;
    the_panic_policy_covers_every_thread;
}

async fn a_panic_in_a_request_fails_only_that_request_and_leaves_the_same_state_as_a_kill(app: &TestApp) {
    panic_at_every_step(app, &[CreateUpload, AddPart, CreateFile, AbandonPart, Complete, Cancel, Delete, AddPartOnce])
        .await;
}

async fn a_panic_in_a_request_with_small_parts_fails_only_that_request(app: &TestApp) {
    panic_at_every_step(app, &[AddSmallPart, CreateSmallFile, AddSmallPartOnce]).await;
}

async fn panic_at_every_step(app: &TestApp, operations: &[Operation]) {
    for operation in operations {
        for point in CrashPoint::ALL.iter().copied().filter(|it| is_reached_on(*it, app.store.kind())) {
            let (reached_by, committed) = reached_by(point);
            if reached_by.contains(operation) {
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
    // The engine panics on another thread than the handler, but its lines have the fields of the request, except while
    // it inserts the Uploads of several requests.
    let span = if operation == CreateUpload { "" } else { r#"request{id="req_"# };
    let expected = ["panicked", "armed crash point", point.name(), "src/", span];
    eventually("the log shows the panic, its location and the request", async || {
        app.log()[before..].lines().any(|line| expected.iter().all(|it| line.contains(it)))
    })
    .await;
    // Creating an Upload has a fallback, and a client may not notice a failure to abandon its Part.
    let may_succeed = matches!(operation, CreateUpload | AbandonPart);
    assert!(may_succeed || status == 500 || status == 503, "{operation:?} at '{}': {status}", point.name());
    // The same process keeps serving.
    let client = Client::new(&app.client.address, &app.client.key);
    assert_eq!(client.download(&client.file("another").await).await, b"another");
    app.restart_with(&[]);
    operation.check(&client, &target, committed).await;
    app.ledger_and_store_agree_in_the_end().await;
}

async fn a_panic_in_a_sweep_fails_one_pass_of_the_service_and_the_command(app: &TestApp) {
    let armed = [("WINDLASS_CRASH_AT", "panic at expire uploads: written")];
    ExpireUploads.prepare(app).await;
    let swept = app.run_with(&armed, &["sweep"]);
    assert_eq!(swept.status.code(), Some(101), "{swept:?}");
    assert!(String::from_utf8_lossy(&swept.stderr).contains("panicked"), "{swept:?}");

    app.restart_with(&[armed[0], ("WINDLASS_SWEEP_INTERVAL", "100ms")]);
    eventually("the next pass expires the upload", async || {
        let pending = "select count(*) from upload where status = 'pending'";
        sqlx::query_scalar::<_, i64>(pending).fetch_one(&app.pool).await.unwrap() == 0
    })
    .await;
    assert!(app.log().contains("panicked"));
    app.restart_with(&[]);
}

/// `telemetry/panics.rs` decides by the name of the thread, which the kernel truncates to 15 bytes.
async fn the_panic_policy_covers_every_thread(app: &TestApp) {
    app.client.file("so that every thread has started").await;
    let threads = std::fs::read_dir(format!("/proc/{}/task", app.program(|it| it.pid()))).unwrap();
    let names = threads.filter_map(|it| std::fs::read_to_string(it.unwrap().path().join("comm")).ok());
    let names: BTreeSet<String> = names.map(|it| it.trim().to_owned()).collect();
    let covered = ["windlass", "tokio-rt-worker", "actix-server wo", "actix-server ac", "log", "ignored signals"];
    assert!(covered.iter().all(|it| names.contains(*it)), "{names:?}");
    assert!(names.iter().all(|it| covered.contains(&&**it)), "{names:?}");
}

/// No other thread would continue the main thread's work.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_on_the_main_thread_ends_the_process_and_is_reported() {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL", cluster::empty_database().await.url),
        ("WINDLASS_DATA_DIR", data_dir.path().display().to_string()),
        ("WINDLASS_LISTEN", "127.0.0.1:0".to_owned()),
        ("WINDLASS_CRASH_AT", format!("panic at {}", CrashPoint::FirstKeyKept.name())),
    ];
    let ended = program::run(&settings.map(|(name, value)| (name.to_owned(), value)), &["serve"]);
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(101), "{text}");
    assert!(text.contains("panicked") && text.contains("src/app.rs"), "{text}");
}
