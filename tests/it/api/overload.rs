//! Requests that would wait too long for their project's turn are refused at once, those of other projects are served,
//! and what is under way is finished.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use sqlx::Executor as _;
use sqlx::{Postgres, Transaction};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::client::{Answer, id};
use crate::support::{Client, StoreKind, TestApp, eventually, in_the_end};

const BOUND: (&str, &str) = ("WINDLASS_MAX_QUEUE_WAIT", "100ms");

async fn app() -> TestApp {
    TestApp::start(StoreKind::Directory, &[BOUND]).await.unwrap()
}

/// Asserts that this is a refusal because of overload.
#[track_caller]
fn is_refusal(answer: &Answer) {
    let error = answer.error(503, None);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("would wait longer than 100ms for its project's turn"), "{message}");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

/// Waits until requests are refused because earlier ones wait.
async fn eventually_refused(what: &str, request: impl AsyncFn() -> Answer) {
    let is_refused = async || {
        let answer = request().await;
        let is_refused = answer.status == StatusCode::SERVICE_UNAVAILABLE;
        if is_refused {
            is_refusal(&answer);
        }
        is_refused
    };
    eventually(&format!("{what} is refused"), is_refused).await;
}

/// Sends a request's head and the first bytes of its body, and reads the head of the response.
async fn answer_before_the_body(client: &Client, request: &[u8]) -> String {
    let end = request.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let mut socket = TcpStream::connect(client.socket_address()).await.unwrap();
    socket.write_all(&request[..end]).await.unwrap();
    let mut answer = vec![0; 4096];
    let read =
        timeout(Duration::from_secs(25), socket.read(&mut answer)).await.expect("it waits for the body").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Begins completions of the default project that wait for a lock on their Uploads, until further ones wait for their
/// turn.
async fn waiting_completions(app: &TestApp) -> (Transaction<'static, Postgres>, Vec<JoinHandle<Answer>>) {
    let mut uploads = Vec::new();
    for _ in 0..8 {
        let upload = app.client.upload(4).await;
        let part = app.client.part(&upload, "four").await;
        uploads.push((upload, part));
    }
    let mut lock = app.pool.begin().await.unwrap();
    lock.execute("select from upload for update").await.unwrap();
    let completions = uploads.into_iter().map(|(upload, part)| {
        let client = app.client.clone();
        tokio::spawn(async move { client.complete(&upload, &[&part]).await })
    });
    (lock, completions.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_wait_too_long_is_refused_at_once_and_what_is_under_way_is_finished() {
    let app = app().await;
    let (client, other) = (&app.client, app.stranger());
    let file = client.file("to be deleted").await;
    let (lock, completions) = waiting_completions(&app).await;
    let open = client.upload(4).await;
    eventually_refused("a creation", async || client.begin_upload(4).await).await;

    is_refusal(&client.create_file("user_data", "a form").await);
    is_refusal(&client.delete(&format!("/v1/files/{file}")).await);
    for request in
        [client.raw_file("a", &vec![1; 100_000]), client.raw("POST", "/v1/uploads", "application/json", b"{}")]
    {
        let answer = answer_before_the_body(client, &request).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
    }
    client.get(&format!("/v1/files/{file}")).await.ok();

    let part = client.part(&open, "four").await;
    let ending = {
        let client = client.clone();
        tokio::spawn(async move { client.complete(&open, &[&part]).await })
    };
    let upload = other.upload(4).await;
    let part = other.part(&upload, "four").await;
    let of_other = id(&other.complete(&upload, &[&part]).await.ok()["file"]);
    other.delete(&format!("/v1/files/{of_other}")).await.ok();
    other.file("a form").await;

    assert!(completions.iter().chain([&ending]).all(|it| !it.is_finished()), "what is under way waits");
    lock.rollback().await.unwrap();
    for completed in join_all(completions).await {
        completed.unwrap().ok();
    }
    ending.await.unwrap().ok();
    client.begin_upload(4).await.ok();
    client.file("a form").await;
    client.delete(&format!("/v1/files/{file}")).await.ok();
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_batch_of_creations_is_stuck_new_ones_are_refused() {
    let app = app().await;
    let mut lock = app.pool.begin().await.unwrap();
    lock.execute("lock table upload in exclusive mode").await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = app.client.clone();
            tokio::spawn(async move { client.begin_upload(4).await })
        })
        .collect();
    let blocked =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let is_blocked = async || sqlx::query_scalar::<_, i64>(blocked).fetch_one(&app.pool).await.unwrap() > 0;
    eventually("the batch waits for the lock", is_blocked).await;
    let soon = async || {
        let request = app.client.request(Method::POST, "/v1/uploads").timeout(Duration::from_secs(1));
        let body = serde_json::json!({"filename": "a", "purpose": "user_data", "bytes": 4, "mime_type": "text/plain"});
        match request.json(&body).send().await {
            Ok(answer) => {
                is_refusal(&Answer::from(answer).await);
                true
            }
            Err(_) => false,
        }
    };
    eventually("a creation is refused", soon).await;
    is_refusal(&app.stranger().begin_upload(4).await);
    lock.rollback().await.unwrap();
    let created = join_all(waiting).await;
    assert!(created.iter().any(|it| it.as_ref().unwrap().status == StatusCode::OK), "{created:?}");
    eventually("creations are admitted again", async || app.client.begin_upload(4).await.status == StatusCode::OK)
        .await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_request_gives_up_waiting_for_its_turn() {
    let app = app().await;
    let file = app.client.file("a file").await;
    let mut lock = app.pool.begin().await.unwrap();
    lock.execute("lock table file in access exclusive mode").await.unwrap();
    let mut reads: Vec<_> = (0..6)
        .map(|_| {
            let (client, path) = (app.client.clone(), format!("/v1/files/{file}"));
            tokio::spawn(async move { client.get(&path).await })
        })
        .collect();
    let is_refused = async || reads.iter().filter(|it| it.is_finished()).count() >= 4;
    assert!(
        in_the_end(is_refused, Duration::from_secs(15)).await,
        "those without a turn wait as if they were under way"
    );
    for refused in reads.extract_if(.., |it| it.is_finished()) {
        is_refusal(&refused.await.unwrap());
    }
    lock.rollback().await.unwrap();
    for read in join_all(reads).await {
        read.unwrap().ok();
    }
    app.client.get(&format!("/v1/files/{file}")).await.ok();
    app.nothing_is_lost_and_nothing_is_left().await;
}
