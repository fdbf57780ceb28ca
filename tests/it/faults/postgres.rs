//! Postgres is cut off, silent, slow, unreachable, or out of connections.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use url::Url;

use crate::support::client::id;
use crate::support::tcp_proxy::{Mode, TcpProxy, Trap};
use crate::support::{Answer, OBJECTS_ONLY, StoreKind, TestApp, eventually};

/// The database timeout in these tests.
const PATIENCE: (&str, &str) = ("WINDLASS_LEDGER_PATIENCE", "3s");

/// A Windlass that connects to Postgres through a proxy, and stores every Part as an object.
pub async fn app_behind_proxy() -> (TestApp, TcpProxy) {
    app_behind_proxy_with(OBJECTS_ONLY).await
}

async fn app_behind_proxy_with(setting: (&str, &str)) -> (TestApp, TcpProxy) {
    let app = TestApp::start(StoreKind::Directory, &[setting]).await.unwrap();
    let mut url: Url = app.setting("DATABASE_URL").parse().unwrap();
    let postgres = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let proxy = TcpProxy::to(postgres.parse().unwrap()).await;
    url.set_port(Some(proxy.address.port())).unwrap();
    app.restart_with(&[PATIENCE, ("DATABASE_URL", url.as_str())]);
    (app, proxy)
}

/// Waits until the service works again; until then, every response must be a 503 with `Retry-After`.
pub async fn recovers(app: &TestApp) {
    eventually("the service works again", async || {
        let answer = app.client.get("/v1/files").await;
        if answer.status.as_u16() != 200 {
            is_unavailable(&answer);
        }
        answer.status.as_u16() == 200
    })
    .await;
}

/// Asserts that the response is a 503 with `Retry-After`: the database is unreachable.
#[track_caller]
pub fn is_unavailable(answer: &Answer) {
    answer.error(503, None);
    let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
}

/// The setting that stores small Parts in the ledger.
const IN_LEDGER: (&str, &str) = ("WINDLASS_LEDGER_PART_BYTES", "4096");

const TRAPS: [Trap; 2] = [Trap::BeforeItArrives, Trap::OnceItIsAnswered];

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_commit_is_cut_off_is_resolved() {
    let (app, proxy) = app_behind_proxy().await;
    for trap in TRAPS {
        let upload = app.client.upload(5).await;
        let part = app.client.part(&upload, "bytes").await;
        proxy.trap("commit\0", 0, trap);
        let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
        assert!(proxy.was_met());
        assert_eq!(app.client.download(&file).await, b"bytes", "{trap:?}");
        assert_eq!(id(&app.client.complete(&upload, &[&part]).await.ok()["file"]), file);
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_whose_commit_is_cut_off_is_resolved() {
    let (app, proxy) = app_behind_proxy().await;
    for trap in TRAPS {
        let upload = app.client.upload(5).await;
        app.client.part(&upload, "bytes").await;
        proxy.trap("commit\0", 0, trap);
        assert_eq!(app.client.cancel(&upload).await.ok()["status"], "cancelled", "{trap:?}");
        assert!(proxy.was_met());
        app.client.cancel(&upload).await.error(400, Some("upload_id"));
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_whose_commit_is_cut_off_is_resolved() {
    let (app, proxy) = app_behind_proxy().await;
    for trap in TRAPS {
        let path = format!("/v1/files/{}", app.client.file("bytes").await);
        proxy.trap("commit\0", 0, trap);
        assert_eq!(app.client.delete(&path).await.ok()["deleted"], true, "{trap:?}");
        assert!(proxy.was_met());
        app.client.delete(&path).await.error(404, Some("id"));
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_commit_is_cut_off_is_created_once() {
    let (app, proxy) = app_behind_proxy().await;
    for (made, trap) in TRAPS.into_iter().enumerate() {
        proxy.trap("commit\0", 0, trap);
        let file = app.client.file("bytes").await;
        assert!(proxy.was_met());
        assert_eq!(app.client.download(&file).await, b"bytes", "{trap:?}");
        assert_eq!(app.client.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), made + 1);
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_commit_is_cut_off_is_stored_once() {
    let (app, proxy) = app_behind_proxy().await;
    for trap in TRAPS {
        let upload = app.client.upload(5).await;
        // On a new connection, a statement is prepared in one message and run in the next.
        proxy.cut();
        recovers(&app).await;
        proxy.trap("update part set state = 'stored'", 1, trap);
        let part = app.client.part(&upload, "bytes").await;
        assert!(proxy.was_met());
        let listed = app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok();
        assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{trap:?}");
        app.client.complete(&upload, &[&part]).await.ok();
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_in_the_ledger_whose_commit_is_cut_off_is_stored_once() {
    let (app, proxy) = app_behind_proxy_with(IN_LEDGER).await;
    for trap in TRAPS {
        let upload = app.client.upload(5).await;
        proxy.cut();
        recovers(&app).await;
        proxy.trap("insert into part (id, upload_id, state", 1, trap);
        let part = app.client.add_part(&upload, "bytes").await.ok();
        assert!(proxy.was_met());
        let listed = app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok();
        assert_eq!(listed["data"], json!([part]), "{trap:?}");
        let file = id(&app.client.complete(&upload, &[&id(&part)]).await.ok()["file"]);
        assert_eq!(app.client.download(&file).await, b"bytes");
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_in_the_ledger_whose_bytes_are_cut_off_is_read_again() {
    let (app, proxy) = app_behind_proxy_with(IN_LEDGER).await;
    let file = app.client.file("bytes").await;
    proxy.trap("select id, content", 0, Trap::BeforeItArrives);
    assert_eq!(app.client.download(&file).await, b"bytes", "the statement is retried");
    assert!(proxy.was_met());
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_commit_is_cut_off_is_created_once() {
    let (app, proxy) = app_behind_proxy().await;
    for (made, trap) in TRAPS.into_iter().enumerate() {
        proxy.cut();
        recovers(&app).await;
        proxy.trap("insert into upload", 1, trap);
        let upload = app.client.upload(5).await;
        assert!(proxy.was_met());
        let listed = app.client.get("/v1/uploads").await.ok();
        assert_eq!(listed["data"].as_array().unwrap().len(), made + 1, "{trap:?}");
        assert_eq!(id(&listed["data"][0]), upload);
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_postgres_is_503_until_it_responds_again() {
    let (app, proxy) = app_behind_proxy().await;
    let upload = app.client.upload(5).await;
    proxy.set(Mode::Silent);
    let completion = app.client.request(Method::POST, &format!("/v1/uploads/{upload}/complete"));
    let all = tokio::join!(
        app.client.get("/v1/files"),
        app.client.add_part(&upload, "bytes"),
        app.client.send(completion.json(&json!({"part_ids": []}))),
        app.client.create_file("user_data", "bytes"),
    );
    for answer in [all.0, all.1, all.2, all.3] {
        is_unavailable(&answer);
    }
    proxy.set(Mode::Pass);
    recovers(&app).await;
    // No connection has an open transaction left, not even one whose `begin` was abandoned.
    for _ in 0..12 {
        app.client.file("bytes").await;
    }
    let part = app.client.part(&upload, "bytes").await;
    app.client.complete(&upload, &[&part]).await.ok();
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_stay_silent_do_not_exhaust_the_pool() {
    let (app, proxy) = app_behind_proxy().await;
    let file = app.client.file("bytes").await;
    let path = format!("/v1/files/{file}");
    // Bring all connections of the pool into use, and then never let them receive anything again.
    proxy.set(Mode::Late(Duration::from_millis(200)));
    futures_util::future::join_all((0..12).map(|_| app.client.get(&path))).await;
    proxy.set(Mode::Silent);
    for answer in futures_util::future::join_all((0..12).map(|_| app.client.get(&path))).await {
        is_unavailable(&answer);
    }
    // Like a failover to another server: requests on the old connections stay unanswered.
    proxy.hush();
    proxy.set(Mode::Pass);
    recovers(&app).await;
    assert_eq!(app.client.download(&file).await, b"bytes");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_postgres_is_503_until_it_is_back() {
    let (app, proxy) = app_behind_proxy().await;
    let file = app.client.file("bytes").await;
    proxy.set(Mode::Refused);
    proxy.cut();
    is_unavailable(&app.client.get("/v1/files").await);
    eventually("it is not ready", async || app.client.get("/readyz").await.status == 503).await;
    assert_eq!(app.client.get("/livez").await.status.as_u16(), 200, "a restart of the service would not help");
    proxy.set(Mode::Pass);
    recovers(&app).await;
    assert_eq!(app.client.download(&file).await, b"bytes");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_connection_losses_lose_no_acknowledged_byte() {
    is_cut_off_repeatedly(OBJECTS_ONLY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_connection_losses_lose_no_acknowledged_byte_in_the_ledger() {
    is_cut_off_repeatedly(IN_LEDGER).await;
}

async fn is_cut_off_repeatedly(setting: (&str, &str)) {
    let (app, proxy) = app_behind_proxy_with(setting).await;
    let (mut files, mut refused) = (Vec::new(), 0);
    for round in 0..40_u8 {
        let ((), answers) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..30))).await;
                proxy.cut();
            },
            futures_util::future::join_all((0..4).map(|it| app.client.create_file("user_data", vec![round; it + 1]))),
        );
        for (length, answer) in answers.into_iter().enumerate() {
            if answer.status.as_u16() == 200 {
                files.push((id(&answer.json()), vec![round; length + 1]));
            } else {
                is_unavailable(&answer);
                refused += 1;
            }
        }
    }
    println!("{} files acknowledged, {refused} requests refused", files.len());
    recovers(&app).await;
    for (file, bytes) in files {
        assert_eq!(app.client.download(&file).await, bytes);
    }
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_terminated_while_idle_fail_no_request() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where application_name = 'windlass' and datname = current_database()";
    for _ in 0..5 {
        let files = futures_util::future::join_all((0..8).map(|_| app.client.file("bytes"))).await;
        let ended: i64 = sqlx::query_scalar(end).fetch_one(&app.pool).await.unwrap();
        assert!(ended > 1, "the pool was empty");
        let paths: Vec<_> = files.iter().map(|it| format!("/v1/files/{it}")).collect();
        let looks = futures_util::future::join_all(paths.iter().map(|it| app.client.get(it))).await;
        for look in looks {
            look.ok();
        }
        sqlx::query(end).execute(&app.pool).await.unwrap();
        let deletions = futures_util::future::join_all(paths.iter().map(|it| app.client.delete(it))).await;
        for deletion in deletions {
            deletion.ok();
        }
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_broken_connection_the_other_idle_ones_are_checked_before_use() {
    let (app, proxy) = app_behind_proxy().await;
    for _ in 0..5 {
        futures_util::future::join_all((0..8).map(|_| app.client.file("bytes"))).await;
        proxy.cut();
        app.client.get("/v1/files").await;
        for _ in 0..8 {
            app.client.get("/v1/files").await.ok();
        }
    }
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_postgres_gives_slow_but_correct_responses() {
    let (app, proxy) = app_behind_proxy().await;
    proxy.set(Mode::Late(Duration::from_millis(50)));
    let upload = app.client.upload(10).await;
    let (a, b) = tokio::join!(app.client.part(&upload, "first"), app.client.part(&upload, "after"));
    let file = id(&app.client.complete(&upload, &[&a, &b]).await.ok()["file"]);
    assert_eq!(app.client.download(&file).await, b"firstafter");
    proxy.set(Mode::Pass);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_slow_bodies_hold_no_database_connection() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let upload = app.client.upload(1000).await;
    let address = app.client.address.replace("http://", "");
    let head = format!(
        "POST /v1/uploads/{upload}/parts HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 1000\r\n\
         content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\ncontent-disposition: form-data; name=\"data\"\r\n\r\nthe first bytes",
        app.client.key
    );
    let mut bodies = Vec::new();
    for _ in 0..200 {
        let mut body = TcpStream::connect(&address).await.unwrap();
        body.write_all(head.as_bytes()).await.unwrap();
        bodies.push(body);
    }
    let receiving = "select count(*) from part where state = 'receiving'";
    eventually("all of them are being received", async || {
        sqlx::query_scalar::<_, i64>(receiving).fetch_one(&app.pool).await.unwrap() == 200
    })
    .await;
    let busy = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                  and (state = 'active' or state like 'idle in transaction%')";
    // A probe or a sweep may be using one at this moment.
    eventually("no connection is in use", async || {
        sqlx::query_scalar::<_, i64>(busy).fetch_one(&app.pool).await.unwrap() == 0
    })
    .await;
    let others = futures_util::future::join_all((0..20).map(|_| app.client.file("bytes"))).await;
    assert_eq!(others.len(), 20);
    drop(bodies);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_without_free_connections_is_a_retryable_error() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let role = format!("limited_{}", uuid::Uuid::now_v7().simple());
    let grants = format!(
        "create role {role} login password 'limited' connection limit 2;
         grant all on schema public to {role};
         grant all on all tables in schema public to {role}"
    );
    app.pool.execute(sqlx::raw_sql(AssertSqlSafe(grants))).await.unwrap();
    let mut url: Url = app.setting("DATABASE_URL").parse().unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("limited")).unwrap();
    app.restart_with(&[PATIENCE, ("DATABASE_URL", url.as_str())]);

    let form =
        |number: u8| Form::new().text("purpose", "user_data").part("file", Part::bytes(vec![number; 9]).file_name("a"));
    let answers = futures_util::future::join_all(
        (0..24).map(|number| app.client.send(app.client.request(Method::POST, "/v1/files").multipart(form(number)))),
    )
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|it| it.status.as_u16() == 200);
    refused.iter().for_each(is_unavailable);
    println!("{} of 24 files were created over two connections", made.len());
    app.pool.execute(AssertSqlSafe(format!("alter role {role} connection limit 50"))).await.unwrap();
    recovers(&app).await;
    let listed = app.client.get("/v1/files").await.ok();
    let listed: HashSet<_> = listed["data"].as_array().unwrap().iter().map(id).collect();
    // A file whose creation got a 503 may be listed too: its commit may have been in flight.
    assert!(made.into_iter().all(|answer| listed.contains(&id(&answer.ok()))));
    app.restart_with(&[]);
    app.pool.execute(sqlx::raw_sql(AssertSqlSafe(format!("drop owned by {role}; drop role {role}")))).await.unwrap();
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}
