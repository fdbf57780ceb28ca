//! A connection pooler between the program and Postgres, in its usual configurations.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _, Row as _};

use crate::support::client::id;
use crate::support::cluster::{self, Database};
use crate::support::pooler::{Pooler, programs};
use crate::support::store::Store;
use crate::support::{StoreKind, TestApp, program};

/// Few sessions for many clients, and no ignored startup parameters.
const STOCK: &str = "default_pool_size = 8";

/// Runs every operation once, and some concurrently.
async fn works(app: &TestApp) {
    let upload = app.client.upload(48).await;
    let parts = futures_util::future::join_all((0..48).map(|_| app.client.add_part(&upload, "b"))).await;
    let parts: Vec<_> = parts.iter().map(|it| id(&it.ok())).collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    app.client.part(&upload, "left over").await;
    let file = id(&app.client.complete(&upload, &parts).await.ok()["file"]);
    assert_eq!(app.client.download(&file).await, [b'b'; 48]);
    let given_up = app.client.upload(5).await;
    app.client.part(&given_up, "bytes").await;
    app.client.cancel(&given_up).await.ok();
    let files = futures_util::future::join_all((0..24).map(|_| app.client.file("bytes"))).await;
    for file in files {
        app.client.delete(&format!("/v1/files/{file}")).await.ok();
    }
    app.client.get("/readyz").await;
    app.sweep();
    assert!(app.run(&["fsck", "--deep"]).status.success());
}

/// Asserts that the pooler's sessions have default settings for its other clients.
async fn has_default_settings(url: &str) {
    let settings = "select current_setting('enable_seqscan') || current_setting('statement_timeout')
                           || current_setting('lock_timeout') || current_setting('jit')";
    let (expected, mut sessions) = ("on00", Vec::new());
    for _ in 0..4 {
        let options: PgConnectOptions = url.parse().unwrap();
        let mut session = options.extra_float_digits(None).connect().await.unwrap();
        session.execute("begin").await.unwrap();
        let found: String = session.fetch_one(sqlx::raw_sql(settings)).await.unwrap().get(0);
        assert!(found.starts_with(expected), "{found}");
        sessions.push(session);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_behind_a_transaction_pooler_and_leaves_no_session_state() {
    for pooler_program in programs() {
        for prepared in ["", "max_prepared_statements = 200"] {
            let is_new = pooler_program.ends_with("pgbouncer-new/run");
            if !is_new && !prepared.is_empty() {
                continue;
            }
            let database = cluster::empty_database().await;
            let more = format!("{STOCK}\n{prepared}\nignore_startup_parameters =");
            let pooler = Pooler::start(&pooler_program, &database.url, "transaction", &more).await;
            println!("{}, {prepared}", pooler_program.display());
            let pooled = Database { url: pooler.url.clone(), pool: database.pool.clone() };
            let app = TestApp::on(Store::new(StoreKind::Directory).unwrap(), pooled, &[]);
            assert!(app.log().contains("behind a pooler"), "{}", app.log());
            works(&app).await;
            has_default_settings(&pooler.url).await;
            for _ in 0..3 {
                app.kill_and_restart();
            }
            works(&app).await;
            // No leftover lock blocks clients that bypass the pooler.
            let directly = [("DATABASE_URL", database.url.as_str())];
            for command in [["keys", "list"], ["keys", "create"]] {
                assert!(app.run_with(&directly, &command).status.success());
            }
            let locks = "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database
                         where locktype = 'advisory' and datname = current_database()";
            assert_eq!(sqlx::query_scalar::<_, i64>(locks).fetch_one(&database.pool).await.unwrap(), 0);
            app.nothing_is_lost_and_nothing_is_left().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_session_mode_needs_no_special_handling() {
    for pooler_program in programs() {
        let database = cluster::empty_database().await;
        let pooler = Pooler::start(&pooler_program, &database.url, "session", "default_pool_size = 40").await;
        let pooled = Database { url: pooler.url.clone(), pool: database.pool.clone() };
        let app = TestApp::on(Store::new(StoreKind::Directory).unwrap(), pooled, &[]);
        assert!(!app.log().contains("behind a pooler"), "{}", app.log());
        works(&app).await;
        app.kill_and_restart();
        app.nothing_is_lost_and_nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_statement_mode_is_refused_with_the_fix() {
    for pooler_program in programs() {
        let database = cluster::database().await;
        let pooler = Pooler::start(&pooler_program, &database.url, "statement", STOCK).await;
        let refused = program::run(&[("DATABASE_URL".to_owned(), pooler.url.clone())], &["keys", "list"]);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && text.contains("set its pool_mode to transaction or session"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_a_pooler_refuses_is_an_error_at_once() {
    for pooler_program in programs() {
        let database = cluster::database().await;
        let pooler = Pooler::start(&pooler_program, &database.url, "transaction", STOCK).await;
        let url = pooler.url.replace("windlass:", "nobody_of_that_name:");
        let refused = program::run(&[("DATABASE_URL".to_owned(), url)], &["keys", "list"]);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && !text.contains("waiting for the database"), "{text}");
    }
}
