//! If an event cannot be recorded, the request is not answered; if a client disconnects, its request is recorded.

use std::io::ErrorKind;

use sqlx::Executor as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{assert_is, event_of, events, run};
use crate::support::{TestApp, eventually};

crate::on_a_directory_and_s3! {
    without_a_record_nothing_is_answered (WINDLASS_AUDIT = "on");
    an_act_of_the_operator_without_a_record_has_no_effect (WINDLASS_AUDIT = "on");
    the_first_byte_is_sent_after_the_event_is_committed (WINDLASS_AUDIT = "on");
    a_request_whose_client_disconnects_is_recorded (WINDLASS_AUDIT = "on");
    of_many_requests_at_once_each_is_recorded (WINDLASS_AUDIT = "on");
}

async fn make_unwritable(app: &TestApp) {
    let trigger = "create function fail() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
                   create trigger no_more_events before insert on audit_event execute function fail()";
    app.pool.execute(sqlx::raw_sql(trigger)).await.unwrap();
}

async fn make_writable(app: &TestApp) {
    app.pool.execute(sqlx::raw_sql("drop trigger no_more_events on audit_event; drop function fail")).await.unwrap();
}

async fn without_a_record_nothing_is_answered(app: &TestApp) {
    let file = app.client.file("confidential").await;
    let content = format!("/v1/files/{file}/content");
    let upload = app.client.upload(1).await;
    let before = events(app).await;
    make_unwritable(app).await;
    let read = app.client.get(&content).await;
    let error = read.error(503, None);
    assert!(error["message"].as_str().unwrap().contains("audit trail"), "{error}");
    assert!(read.header("retry-after").is_some() && !String::from_utf8_lossy(&read.body).contains("confidential"));
    assert!(read.header("content-disposition").is_none() && read.header("etag").is_none(), "{:?}", read.headers);
    app.client.get(&format!("/v1/files/{file}")).await.error(503, None);
    app.client.begin_upload(1).await.error(503, None);
    app.client.cancel(&upload).await.error(503, None);
    assert_eq!(events(app).await, before);
    let metrics = app.client.get("/metrics").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("windlass_audit_events_lost_total 4\n"));
    make_writable(app).await;
    // The cancellation took effect, which a retry finds.
    let event = event_of(app, app.client.cancel(&upload)).await;
    assert_is(&event, "upload.cancel", "failed", Some(400), Some(&upload));
    assert_eq!(app.client.download(&file).await, b"confidential");
}

async fn an_act_of_the_operator_without_a_record_has_no_effect(app: &TestApp) {
    let before = run(app, &["keys", "list", "--json"]);
    make_unwritable(app).await;
    for command in [&["keys", "create"][..], &["projects", "create", "new"], &["keys", "create", "--project", "new"]] {
        let done = app.run(command);
        assert!(!done.status.success() && done.stdout.is_empty(), "{command:?}: {done:?}");
    }
    assert_eq!(run(app, &["keys", "list", "--json"]), before);
    assert!(!run(app, &["projects", "list"]).contains("new"));
    make_writable(app).await;
}

/// Waits until a statement waits for a lock.
async fn is_blocked(app: &TestApp) {
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock' and backend_type = 'client backend'";
    eventually("a statement waits for a lock", async || {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&app.pool).await.unwrap() > 0
    })
    .await;
}

async fn the_first_byte_is_sent_after_the_event_is_committed(app: &TestApp) {
    let file = app.client.file("confidential").await;
    let mut lock = app.pool.begin().await.unwrap();
    lock.execute("lock table audit_event in share mode").await.unwrap();
    let mut socket = TcpStream::connect(app.client.socket_address()).await.unwrap();
    let request = app.client.raw("GET", &format!("/v1/files/{file}/content"), "text/plain", b"");
    socket.write_all(&request).await.unwrap();
    is_blocked(app).await;
    let mut bytes = [0; 1024];
    assert_eq!(socket.try_read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    lock.rollback().await.unwrap();
    let length = socket.read(&mut bytes).await.unwrap();
    assert!(bytes[..length].starts_with(b"HTTP/1.1 200"));
    assert_is(events(app).await.last().unwrap(), "file.read", "ok", Some(200), Some(&file));
}

async fn a_request_whose_client_disconnects_is_recorded(app: &TestApp) {
    let file = app.client.file("some bytes").await;
    let mut lock = app.pool.begin().await.unwrap();
    lock.execute("select from file for update").await.unwrap();
    let mut socket = TcpStream::connect(app.client.socket_address()).await.unwrap();
    socket.write_all(&app.client.raw("DELETE", &format!("/v1/files/{file}"), "text/plain", b"")).await.unwrap();
    is_blocked(app).await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    let is_recorded = async || events(app).await.last().is_some_and(|it| it["outcome"] == "unknown");
    eventually("the request is recorded", is_recorded).await;
    assert_is(events(app).await.last().unwrap(), "file.delete", "unknown", None, Some(&file));
    lock.rollback().await.unwrap();
    eventually("the file is deleted", async || app.client.get(&format!("/v1/files/{file}")).await.status == 404).await;
}

async fn of_many_requests_at_once_each_is_recorded(app: &TestApp) {
    let before = events(app).await.len();
    let created = futures_util::future::join_all((0..100).map(|_| app.client.upload(1))).await;
    let left = events(app).await.split_off(before);
    assert_eq!(left.len(), created.len());
    for upload in created {
        assert!(left.iter().any(|it| it["object"] == *upload), "{upload}");
    }
}
