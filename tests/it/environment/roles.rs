//! One role owns the schema and migrates it; another, with privileges on rows only, does everything else. Waiting for a
//! lock is always reported.

use std::time::Duration;

use sqlx::Executor as _;
use url::Url;
use windlass_engine::db::{self, Db, migrate};

use crate::support::role::Role;
use crate::support::store::Store;
use crate::support::{StoreKind, TestApp, cluster, eventually, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_privileges_on_rows_only_serves_sweeps_checks_and_manages_keys() {
    let database = cluster::database().await;
    let role = Role::of_rows(&database).await;
    let app = TestApp::on(Store::new(StoreKind::Directory).unwrap(), role.database(), &[]);
    let file = app.client.file("bytes").await;
    let upload = app.client.upload(5).await;
    app.client.part(&upload, "bytes").await;
    app.client.cancel(&upload).await.ok();
    app.sweep();
    assert!(app.run(&["fsck", "--deep"]).status.success());
    assert!(app.run(&["keys", "list"]).status.success());
    assert!(app.run(&["migrate"]).status.success(), "there is nothing to migrate");
    assert_eq!(app.client.download(&file).await, b"bytes");
    app.nothing_is_lost_and_nothing_is_left().await;
    drop(app);
    role.drop().await;
}

/// Runs a command: whether it succeeded, and its standard error.
fn run(url: &str, arguments: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL".to_owned(), url.to_owned()),
        ("WINDLASS_DATA_DIR".to_owned(), folder.path().display().to_string()),
        ("WINDLASS_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
    ];
    let output = program::run(&settings, arguments);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_migrate_gets_an_error_with_the_fix() {
    let database = cluster::empty_database().await;
    let role = Role::of_rows(&database).await;
    for command in ["serve", "migrate", "keys list"] {
        let (succeeded, text) = run(&role.url, &command.split(' ').collect::<Vec<_>>());
        assert!(!succeeded && text.contains("run `windlass migrate` as the owner of the schema"), "{command}: {text}");
    }
    // A schema of an older version.
    let (succeeded, text) = run(&database.url, &["migrate"]);
    assert!(succeeded, "{text}");
    let older =
        "delete from refinery_schema_history where version = (select max(version) from refinery_schema_history)";
    database.pool.execute(older).await.unwrap();
    role.does("grant select on all tables in schema public to ROLE").await;
    let (succeeded, text) = run(&role.url, &["serve"]);
    assert!(!succeeded && text.contains("run `windlass migrate` as the owner of the schema"), "{text}");
    role.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_of_a_newer_version_is_refused() {
    let database = cluster::database().await;
    let newer = "insert into refinery_schema_history values (9999, 'of_a_later_release', now()::text, '1')";
    database.pool.execute(newer).await.unwrap();
    let (succeeded, text) = run(&database.url, &["serve"]);
    assert!(!succeeded && text.contains("the schema is at V9999") && text.contains("run a newer version"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_store_every_name_is_not_migrated() {
    let database = cluster::latin1_database().await;
    let (succeeded, text) = run(&database.url, &["serve"]);
    assert!(!succeeded && text.contains("encoding is LATIN1") && text.contains("encoding 'UTF8'"), "{text}");
}

/// The key of the advisory lock held during migrations, also by older versions of the program.
const MIGRATION_LOCK: i64 = 0x7769_6e64_6c61_7373;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leftover_migration_lock_does_not_block_processes_with_nothing_to_migrate() {
    let database = cluster::database().await;
    let mut other = database.pool.acquire().await.unwrap();
    sqlx::query("select pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut *other).await.unwrap();
    for command in ["migrate", "keys create", "keys list", "sweep"] {
        let (succeeded, text) = run(&database.url, &command.split(' ').collect::<Vec<_>>());
        assert!(succeeded, "{command}: {text}");
    }
    other.close_on_drop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_the_migration_lock_logs_its_holder_and_times_out() {
    let database = cluster::empty_database().await;
    let mut other = database.pool.acquire().await.unwrap();
    other.execute("set application_name = 'somebody else'").await.unwrap();
    sqlx::query("select pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut *other).await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *other).await.unwrap();

    let db = Db::connect(&database.url, 4, Duration::ZERO).await.unwrap();
    let refused = migrate::run_within(&db, Duration::from_millis(200)).await.unwrap_err();
    let db::Error::Locked { holder, .. } = &refused else { panic!("{refused}") };
    assert!(holder.contains(&format!("pid {pid}")) && holder.contains("somebody else"), "{refused}");
    assert!(refused.to_string().contains("pg_terminate_backend"), "{refused}");

    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let settings = [("DATABASE_URL".to_owned(), database.url.clone())];
    let file = std::fs::File::create(&log).unwrap();
    let mut migrating = program::command(&settings).arg("migrate").stderr(file).spawn().unwrap();
    eventually("the holder of the lock is logged", async || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("waiting for a lock") && text.contains("schema migration") && text.contains(&format!("pid {pid}"))
    })
    .await;
    sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(&database.pool).await.unwrap();
    eventually("the migration finishes", async || migrating.try_wait().unwrap().is_some()).await;
    assert!(migrating.wait().unwrap().success(), "{}", std::fs::read_to_string(&log).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permanent_errors_are_reported_at_once() {
    let database = cluster::database().await;
    let with = |change: fn(&mut Url)| {
        let mut url: Url = database.url.parse().unwrap();
        change(&mut url);
        String::from(url)
    };
    let wrong = [
        (with(|url| url.set_password(Some("wrong")).unwrap()), "password authentication failed"),
        (with(|url| url.set_username("nobody_of_that_name").unwrap()), "password authentication failed"),
        (with(|url| url.set_path("no_such_database")), "does not exist"),
        (with(|url| url.set_query(Some("sslmode=require"))), "does not support TLS"),
        (with(|url| url.set_query(Some("options=-c%20no_such_setting%3D1"))), "no_such_setting"),
        ("host=localhost".to_owned(), "is not a Postgres URL"),
    ];
    for (url, complaint) in wrong {
        let began = std::time::Instant::now();
        let (succeeded, text) = run(&url, &["keys", "list"]);
        println!("{complaint}: after {} ms", began.elapsed().as_millis());
        assert!(!succeeded && text.contains(complaint), "{complaint}: {text}");
        assert!(!text.contains("waiting for the database"), "{text}");
    }
}
