//! Session defaults and locks held by others: responses stay correct, and statements that the service has abandoned do
//! not keep running in Postgres.

use std::time::Duration;

use reqwest::Method;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use crate::support::client::id;
use crate::support::role::Role;
use crate::support::store::Store;
use crate::support::{Answer, StoreKind, TestApp, cluster, eventually, program};

/// A Windlass whose database role has these session defaults.
async fn app_with_defaults(defaults: &[&str]) -> (TestApp, Role) {
    let role = Role::of_rows(&cluster::database().await).await;
    for default in defaults {
        role.does(&format!("alter role ROLE set {default}")).await;
    }
    (TestApp::on(Store::new(StoreKind::Directory).unwrap(), role.database(), &[]), role)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_parts_are_stored_whatever_the_default_isolation_level() {
    for level in ["serializable", "repeatable read"] {
        let (app, role) = app_with_defaults(&[&format!("default_transaction_isolation = '{level}'")]).await;
        let upload = app.client.upload(144).await;
        let parts = futures_util::future::join_all((0..144).map(|_| app.client.add_part(&upload, "b"))).await;
        let parts: Vec<_> = parts.iter().map(|it| id(&it.ok())).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let file = id(&app.client.complete(&upload, &parts).await.ok()["file"]);
        assert_eq!(app.client.download(&file).await.len(), 144, "{level}");
        app.nothing_is_lost_and_nothing_is_left().await;
        drop(app);
        role.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeouts_in_the_roles_defaults_do_not_cancel_the_services_statements() {
    let (app, role) = app_with_defaults(&[
        "statement_timeout = 1",
        "lock_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "synchronous_commit = off",
        "jit = on",
        "jit_above_cost = 0",
    ])
    .await;
    let slow = app.client.upload(1).await;
    // A statement that waits for a moment, since another transaction has locked the row.
    let mut other = app.pool.begin().await.unwrap();
    let lock = format!("select from upload where id = '{}' for update", slow.replace("upload_", ""));
    other.execute(AssertSqlSafe(lock)).await.unwrap();
    let (added, ()) = tokio::join!(app.client.add_part(&slow, "b"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.commit().await.unwrap();
    });
    let part = id(&added.ok());
    app.client.complete(&slow, &[&part]).await.ok();
    let files = futures_util::future::join_all((0..20).map(|_| app.client.file("bytes"))).await;
    for file in files {
        app.client.delete(&format!("/v1/files/{file}")).await.ok();
    }
    assert!(app.run(&["keys", "list"]).status.success());
    app.nothing_is_lost_and_nothing_is_left().await;
    drop(app);
    role.drop().await;
}

/// The number of the service's statements that are running or waiting in this database.
async fn busy_statements(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where datname = current_database() and application_name = 'windlass' and state <> 'idle'",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Whether one of the service's statements is waiting for a lock.
async fn one_is_blocked(pool: &PgPool) -> bool {
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and application_name = 'windlass' and wait_event_type = 'Lock'";
    sqlx::query_scalar::<_, i64>(waiting).fetch_one(pool).await.unwrap() > 0
}

#[track_caller]
fn is_unavailable(answer: &Answer) {
    answer.error(503, None);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_blocked_by_another_sessions_lock_is_503_and_is_cancelled() {
    let app = TestApp::start(StoreKind::Directory, &[("WINDLASS_LEDGER_PATIENCE", "1s")]).await.unwrap();
    let upload = app.client.upload(5).await;
    let file = app.client.file("bytes").await;
    let mut other = app.pool.begin().await.unwrap();
    other.execute("lock table upload, file, part in access exclusive mode").await.unwrap();
    let path = format!("/v1/files/{file}");
    let answers = tokio::join!(
        app.client.add_part(&upload, "bytes"),
        app.client.begin_upload(5),
        app.client.delete(&path),
        app.client.cancel(&upload),
        app.client.get("/v1/files"),
    );
    for answer in [answers.0, answers.1, answers.2, answers.3, answers.4] {
        is_unavailable(&answer);
    }
    let swept = app.run(&["sweep"]);
    assert_eq!(swept.status.code(), Some(1));
    let log = String::from_utf8_lossy(&swept.stderr);
    assert!(log.contains("steps of the sweep failed: expire uploads, expire files"), "{log}");
    eventually("no statement is left in Postgres", async || busy_statements(&app.pool).await == 0).await;
    other.rollback().await.unwrap();
    app.client.cancel(&upload).await.ok();
    assert_eq!(app.client.download(&file).await, b"bytes");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_does_not_outlive_the_process_that_sent_it() {
    // Long enough that only the end of the process can end the statement.
    let app = TestApp::start(StoreKind::Directory, &[("WINDLASS_LEDGER_PATIENCE", "1h")]).await.unwrap();
    // The sweep at startup must have finished before the lock is taken.
    assert!(app.run(&["sweep"]).status.success());
    let mut other = app.pool.begin().await.unwrap();
    other.execute("lock table part in access exclusive mode").await.unwrap();
    let mut sweep = program::command(&app.settings).arg("sweep").spawn().unwrap();
    eventually("the sweep waits", async || one_is_blocked(&app.pool).await).await;
    sweep.kill().unwrap();
    sweep.wait().unwrap();
    eventually("Postgres has ended the statement", async || busy_statements(&app.pool).await == 0).await;
    other.rollback().await.unwrap();
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_client_leaves_no_statement_behind() {
    let app = TestApp::start(StoreKind::Directory, &[("WINDLASS_LEDGER_PATIENCE", "2s")]).await.unwrap();
    let mut other = app.pool.begin().await.unwrap();
    other.execute("lock table upload in access exclusive mode").await.unwrap();
    let request = app.client.request(Method::GET, "/v1/uploads").timeout(Duration::from_millis(200));
    let (gone, ()) =
        tokio::join!(request.send(), eventually("the request waits", async || one_is_blocked(&app.pool).await));
    gone.unwrap_err();
    eventually("no statement is left in Postgres", async || busy_statements(&app.pool).await == 0).await;
    other.rollback().await.unwrap();
    app.nothing_is_lost_and_nothing_is_left().await;
}
