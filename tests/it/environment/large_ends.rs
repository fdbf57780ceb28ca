//! Ending uploads of ten thousand parts under a short database timeout: in bounded steps, each of which succeeds.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use tokio::runtime::Handle;
use uuid::Uuid;
use windlass_engine::db::{self, Db};
use windlass_engine::model::Limits;
use windlass_engine::store::{BlobStore, IfMissing, Location, Variables};
use windlass_engine::{Service, SweepReport};

use crate::support::client::id;
use crate::support::{StoreKind, TestApp, cluster, tools};

/// The database timeout in these tests.
const PATIENCE: Duration = Duration::from_secs(1);

/// The number of Parts of an Upload here: the maximum.
const PARTS: i64 = 10_000;

/// The number of Parts that one transaction marks as garbage.
const BATCH: i64 = 1000;

/// Runs statements with triggers disabled.
async fn rewrite(pool: &PgPool, statements: &str) {
    let statements = format!("begin; set local session_replication_role = replica; {statements}; commit; analyze part");
    pool.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.unwrap();
}

/// Adds one-byte Parts, stored in the ledger, to the Uploads that match a condition.
async fn fill(pool: &PgPool, condition: &str, parts: i64) {
    let insert = format!(
        "insert into part (id, upload_id, state, bytes, crc64nvme, content)
         select gen_random_uuid(), upload.id, 'stored', 1, 0, 'a' from upload, generate_series(1, {parts}) where {condition}"
    );
    rewrite(pool, &insert).await;
}

async fn count(pool: &PgPool, what: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {what}"))).fetch_one(pool).await.unwrap()
}

/// Creates Uploads that are due to expire, in an empty ledger.
async fn due_uploads(pool: &PgPool, uploads: usize) {
    let insert = format!(
        "insert into project (id, name) values (gen_random_uuid(), 'default');
         insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, created_at, expires_at)
         select gen_random_uuid(), project.id, 'client', 'a', 'batch', 'text/plain', {PARTS},
                now() - interval '2 hours', now() - interval '1 hour' - n * interval '1 second'
         from project, generate_series(1, {uploads}) n"
    );
    rewrite(pool, &insert).await;
    fill(pool, "true", PARTS).await;
}

/// A sweeper with a database timeout of [`PATIENCE`].
async fn sweeper(url: &str, folder: &tempfile::TempDir) -> Service {
    let server = db::Server { url: url.to_owned().into(), patience: PATIENCE, ca_file: None };
    let db = Db::connect(server, 4, Duration::ZERO).await.unwrap();
    let location = Location::Directory(folder.path().to_owned());
    let blobs = BlobStore::open(&location, &Variables::default(), IfMissing::Make).await.unwrap();
    let limits = Limits { db_timeout: PATIENCE, ..Limits::default() };
    let service = Service::new(db, blobs, limits, Handle::current());
    service.verify_or_link_store().await.unwrap();
    service
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_uploads_of_ten_thousand_parts_each_are_swept_with_progress_in_every_pass() {
    // A million Parts with WINDLASS_ROUNDS=100.
    let uploads = tools::rounds();
    let database = cluster::database().await;
    due_uploads(&database.pool, uploads).await;
    let folder = tempfile::tempdir().unwrap();
    let service = sweeper(&database.url, &folder).await;
    let mut passes = 0;
    loop {
        let report: SweepReport = service.clone().sweep().await;
        assert_eq!(report.failed_steps, Vec::<&str>::new(), "pass {passes}: {report:?}");
        if !report.more_to_do {
            break;
        }
        assert!(report.uploads_expired + report.parts_discarded > 0, "pass {passes} has done nothing: {report:?}");
        if passes < 5 {
            let garbage = count(&database.pool, "part where state = 'garbage'").await;
            assert!(garbage <= (passes + 2) * BATCH, "{passes} passes and one have marked {garbage} parts");
        }
        passes += 1;
    }
    println!("{uploads} uploads of {PARTS} parts: {passes} passes");
    assert_eq!(count(&database.pool, "upload where status = 'expired'").await, i64::try_from(uploads).unwrap());
    assert_eq!(count(&database.pool, "part where state <> 'garbage'").await, 0);
    assert_eq!(count(&database.pool, "unfinished_discard").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_stops_no_other_and_is_reported() {
    let app = TestApp::start(StoreKind::Directory, &[]).await.unwrap();
    app.client.upload(5).await;
    let file = app.client.file("bytes").await;
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    app.let_time_pass("2 hours").await;
    // Make one step fail.
    let refuse = "create trigger in_the_way before update on upload for each row execute function refuse('no')";
    app.pool.execute(refuse).await.unwrap();
    let swept = app.run(&["sweep"]);
    let (text, log) = (String::from_utf8_lossy(&swept.stdout), String::from_utf8_lossy(&swept.stderr));
    assert_eq!(swept.status.code(), Some(1), "{log}");
    assert!(text.contains("uploads expired: 0, files expired: 0, objects deleted: 1"), "{text}");
    assert!(log.contains("steps of the sweep failed: expire uploads"), "{log}");
    app.pool.execute("drop trigger in_the_way on upload").await.unwrap();
    assert!(app.sweep().contains("uploads expired: 1"));
    app.nothing_is_lost_and_nothing_is_left().await;
}

/// A Windlass with a short database timeout.
async fn app_with_short_timeout() -> TestApp {
    TestApp::start(StoreKind::Directory, &[("WINDLASS_LEDGER_PATIENCE", "1s")]).await.unwrap()
}

/// Creates an Upload of ten thousand Parts; returns its id and that of one of the Parts.
async fn large_upload(app: &TestApp, bytes: usize) -> (String, String) {
    let upload = app.client.upload(bytes).await;
    let part = app.client.part(&upload, "a").await;
    fill(&app.pool, &format!("id = '{}'", upload.replace("upload_", "")), PARTS - 1).await;
    (upload, part)
}

/// Asserts that the client's request marked one batch as garbage, that the Upload now lists `shown` Parts, and that
/// the sweeper discards the rest, leaving `kept`.
async fn is_discarded_in_batches(app: &TestApp, upload: &str, shown: usize, kept: i64) {
    assert_eq!(count(&app.pool, "part where state = 'garbage'").await, BATCH);
    let listed = app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), shown);
    app.sweep();
    assert_eq!(count(&app.pool, "part where state <> 'garbage'").await, kept);
    assert_eq!(count(&app.pool, "unfinished_discard").await, 0);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_an_upload_of_ten_thousand_parts_leaves_most_of_them_to_the_sweeper() {
    let app = app_with_short_timeout().await;
    let (upload, part) = large_upload(&app, 10_000).await;
    assert_eq!(app.client.cancel(&upload).await.ok()["status"], "cancelled");
    app.client.cancel(&upload).await.error(400, Some("upload_id"));
    app.client.complete(&upload, &[&part]).await.error(400, Some("upload_id"));
    app.client.add_part(&upload, "b").await.error(400, Some("upload_id"));
    is_discarded_in_batches(&app, &upload, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completing_with_most_of_ten_thousand_parts_left_out_leaves_most_of_them_to_the_sweeper() {
    let app = app_with_short_timeout().await;
    let (upload, part) = large_upload(&app, 1).await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    assert_eq!(id(&app.client.complete(&upload, &[&part]).await.ok()["file"]), file);
    assert_eq!(app.client.download(&file).await, b"a");
    is_discarded_in_batches(&app, &upload, 1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_file_of_ten_thousand_parts_leaves_most_of_them_to_the_sweeper() {
    let app = app_with_short_timeout().await;
    let (upload, _) = large_upload(&app, 10_000).await;
    let rows: Vec<Uuid> = sqlx::query_scalar("select id from part").fetch_all(&app.pool).await.unwrap();
    let parts: Vec<_> = rows.iter().map(|it| format!("part_{}", it.simple())).collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    let file = id(&app.client.complete(&upload, &parts).await.ok()["file"]);
    let path = format!("/v1/files/{file}");
    app.client.delete(&path).await.ok();
    app.client.delete(&path).await.error(404, Some("id"));
    app.client.get(&format!("{path}/content")).await.error(404, Some("id"));
    is_discarded_in_batches(&app, &upload, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_deleted_while_its_leftovers_are_queued_is_discarded_whole() {
    let app = Arc::new(app_with_short_timeout().await);
    let (upload, part) = large_upload(&app, 1).await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    let path = format!("/v1/files/{file}");
    // The sweeper has seen the file and is finishing the row in the queue.
    let mut sweeper = app.pool.begin().await.unwrap();
    let finish = format!(
        "select from unfinished_discard for update;
         update part set state = 'garbage', not_before = now() where state = 'stored' and id <> '{}';
         delete from unfinished_discard",
        part.replace("part_", "")
    );
    sweeper.execute(sqlx::raw_sql(AssertSqlSafe(finish))).await.unwrap();
    let deleting = tokio::spawn({
        let (app, path) = (Arc::clone(&app), path.clone());
        async move { app.client.delete(&path).await }
    });
    sweeper.execute("select pg_sleep(0.2)").await.unwrap();
    sweeper.commit().await.unwrap();
    deleting.await.unwrap().ok();
    app.sweep();
    assert_eq!(count(&app.pool, "part where state <> 'garbage'").await, 0);
    assert_eq!(count(&app.pool, "unfinished_discard").await, 0);
    app.nothing_is_lost_and_nothing_is_left().await;
}
