//! What the metrics say about the ledger, about refused requests and about the embedded PostgreSQL.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::support::client::id;
use crate::support::embedded::Embedded;
use crate::support::{Client, StoreKind, TestApp, eventually};

/// The values of the series of a metric, rounded down, by their labels.
async fn series(client: &Client, metric: &str) -> BTreeMap<String, u64> {
    let text = client.alone().get("/metrics").await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    let lines = text.lines().filter_map(|it| it.strip_prefix(metric)).filter(|it| it.starts_with(['{', ' ']));
    lines
        .map(|line| {
            let (labels, value) = line.rsplit_once(' ').unwrap();
            (labels.to_owned(), value.split('.').next().unwrap().parse().unwrap())
        })
        .collect()
}

/// The value of a series; `None` if there is none.
async fn value(client: &Client, metric: &str, labels: &str) -> Option<u64> {
    series(client, metric).await.get(labels).copied()
}

/// The bytes in the ledger that are ready, reserved and being deleted, as of the start of the process.
async fn ledger_bytes(app: &TestApp) -> [u64; 3] {
    app.kill_and_restart();
    eventually("the ledger is summed up", async || {
        series(&app.client, "windlass_oldest_garbage_age_seconds").await.len() == 1
    })
    .await;
    let all = series(&app.client, "windlass_ledger_bytes").await;
    ["ready", "reserved", "deleting"].map(|state| all[&format!("{{state=\"{state}\"}}")])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_files_of_pending_uploads_and_of_garbage_are_reported() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    assert_eq!(ledger_bytes(&app).await, [0, 0, 0]);
    let due = async || series(&app.client, "windlass_sweep_items_due").await;
    let age = async || value(&app.client, "windlass_oldest_garbage_age_seconds", "").await.unwrap();
    assert!(age().await == 0, "there is no garbage");
    assert!(due().await.len() == 3 && due().await.values().all(|it| *it == 0));
    let kept = app.client.file(vec![1; 5000]).await;
    let deleted = app.client.file(vec![2; 300]).await;
    app.client.upload(700).await;
    assert_eq!(ledger_bytes(&app).await, [5300, 700, 0]);
    app.client.delete(&format!("/v1/files/{deleted}")).await.ok();
    // The declared bytes of an upload are reserved, but the garbage of a cancelled one is what was stored.
    let cancelled = app.client.upload(9000).await;
    app.client.part(&cancelled, vec![3; 40]).await;
    id(&app.client.cancel(&cancelled).await.ok());
    assert_eq!(ledger_bytes(&app).await, [5000, 700, 340]);
    assert!(age().await < 600, "{}", age().await);
    assert!(app.client.download(&kept).await == vec![1; 5000]);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sweep_has_to_do_and_the_age_of_the_oldest_garbage_are_reported() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let [first, second] = [app.client.file(vec![1; 100]).await, app.client.file(vec![2; 200]).await];
    app.client.delete(&format!("/v1/files/{first}")).await.ok();
    app.let_time_pass("3 hours").await;
    app.client.delete(&format!("/v1/files/{second}")).await.ok();
    // It is refused, and its age counts from its deletion, not from the last attempt.
    sqlx::query("update part set last_error = 'kept', not_before = now() + interval '1 hour' where not_before < now()")
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(ledger_bytes(&app).await, [0, 0, 300]);
    let age = value(&app.client, "windlass_oldest_garbage_age_seconds", "").await.unwrap();
    assert!((10_800..12_000).contains(&age), "{age}");
    let due = value(&app.client, "windlass_sweep_items_due", "{item=\"parts\"}").await.unwrap();
    assert!(due == 0, "one waits for its next attempt, the other for the grace");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_counted_once_by_reason() {
    let settings = [("WINDLASS_PROJECT_MAX_FILES", "1"), ("WINDLASS_MAX_WRONG_KEYS_PER_MINUTE", "1")];
    let Some(app) = TestApp::start(StoreKind::Directory, &settings).await else { return };
    let refused = async |reason: &str| {
        let labels = format!("{{reason=\"{reason}\"}}");
        value(&app.client, "windlass_refusals_total", &labels).await.expect("it is exported from the start")
    };
    let upload = app.client.upload(10).await;
    let wrong = Client::new(&app.client.address, "a-wrong-key-of-16-characters-or-more");
    assert!(refused("overloaded").await == 0 && refused("shutting_down").await == 0);
    app.client.begin_upload(20).await.error(400, None);
    assert_eq!(refused("quota").await, 1);
    let mut unauthorized = 0;
    while wrong.get("/v1/files").await.status == 401 {
        unauthorized += 1;
    }
    assert!(unauthorized > 0 && refused("wrong_key").await == unauthorized, "{unauthorized}");
    assert!(refused("rate").await == 1, "the request that ended the loop");
    app.client.get("/v1/files/file-unknown").await.error(404, Some("id"));
    app.client.get("/v1/unknown").await.error(404, None);
    assert!(refused("not_found").await == 2);
    app.client.cancel(&upload).await.ok();
    app.client.add_part(&upload, "x").await.error(400, Some("upload_id"));
    assert!(refused("wrong_state").await == 1);
    app.client.get("/v1/files?limit=x").await.error(400, Some("limit"));
    assert!(refused("invalid").await == 1);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_the_embedded_postgresql_is_up_is_reported() {
    let outer = TempDir::new().unwrap();
    let embedded = Embedded::start(&outer.path().join("data"), &[]);
    let is_up = async || value(&embedded.client, "windlass_postgres_up", "").await;
    assert_eq!(is_up().await, Some(1));
    // The next server does not start before something is written to this pipe.
    let [included, pipe] = ["included.conf", "pipe"].map(|it| embedded.data_dir.join("postgres").join(it));
    mkfifo(&included, Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&included, Permissions::from_mode(0o666)).unwrap();
    let config = embedded.data_dir.join("postgres/postgresql.conf");
    OpenOptions::new().append(true).open(config).unwrap().write_all(b"\ninclude 'included.conf'\n").unwrap();
    embedded.kill_postmaster();
    eventually("it is down", async || is_up().await == Some(0)).await;
    let opened = included.clone();
    let server = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(opened)).await.unwrap();
    assert_eq!(is_up().await, Some(0), "the next server waits for the end of what it reads");
    fs::rename(&included, &pipe).unwrap();
    fs::write(&included, "").unwrap();
    drop(server);
    eventually("it is up again", async || is_up().await == Some(1)).await;
    embedded.stop();
}
