//! One project cannot starve another of memory for bodies, transactions, or reading stored bytes.

use std::fs;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use nix::sys::stat::Mode;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::{Answer, id};
use crate::support::raw::chunked;
use crate::support::store::object_name;
use crate::support::{Client, OBJECTS_ONLY, StoreKind, TestApp, eventually};

crate::on_a_directory_and_s3! {
    hundreds_of_slow_bodies_leave_memory_for_other_requests
        (WINDLASS_BUFFER_BYTES = "16MiB", WINDLASS_BODY_IDLE = "1h");
    small_parts_and_other_projects_do_not_wait_for_the_bodies_of_one_project
        (WINDLASS_BUFFER_BYTES = "16MiB", WINDLASS_BODY_IDLE = "1h");
    a_form_keeps_its_memory_from_one_part_to_the_next
        (WINDLASS_BUFFER_BYTES = "16MiB", WINDLASS_MAX_PART_BYTES = "6MiB", WINDLASS_BODY_IDLE = "1h");
    bodies_of_sizes_around_every_limit_are_read_back_unchanged
        (WINDLASS_BUFFER_BYTES = "16MiB", WINDLASS_MAX_PART_BYTES = "12MiB");
    completions_blocked_on_locks_leave_transactions_for_other_projects;
    a_long_invalid_part_list_is_refused_without_a_lock;
}

const MIB: usize = 1024 * 1024;

/// Sends the first bytes of a request, as far as the service reads them within a second.
async fn begin(app: &TestApp, request: &[u8], bytes: usize) -> TcpStream {
    let mut socket = TcpStream::connect(app.client.socket_address()).await.unwrap();
    timeout(Duration::from_secs(1), socket.write_all(&request[..bytes])).await.map_or(Ok(()), |it| it).unwrap();
    socket
}

/// Like [`begin`], on many connections at once.
async fn begin_many(app: &TestApp, count: usize, request: &[u8], bytes: usize) -> Vec<TcpStream> {
    join_all((0..count).map(|_| begin(app, request, bytes))).await
}

async fn receiving(app: &TestApp) -> i64 {
    sqlx::query_scalar("select count(*) from part where state = 'receiving'").fetch_one(&app.pool).await.unwrap()
}

/// The value of a metric.
async fn metric(app: &TestApp, name: &str) -> f64 {
    let metrics = String::from_utf8(app.client.get("/metrics").await.body.to_vec()).unwrap();
    let line = metrics.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |it| it.parse().unwrap())
}

fn random(bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes];
    fastrand::fill(&mut random);
    random
}

async fn upload_and_read_back(client: &Client, bytes: usize) {
    let content = random(bytes);
    let upload = client.upload(bytes).await;
    let part = client.part(&upload, content.clone()).await;
    let file = id(&client.complete(&upload, &[&part]).await.ok()["file"]);
    assert!(client.download(&file).await == content);
}

async fn hundreds_of_slow_bodies_leave_memory_for_other_requests(app: &TestApp) {
    let upload = app.client.upload(60 * MIB).await;
    let part = app.client.raw_part(&upload, &vec![1; 12 * MIB]);
    let mut slow = begin_many(app, 100, &part, 500).await;
    slow.extend(begin_many(app, 50, &chunked(&part[..MIB]), 1_500).await);
    slow.extend(begin_many(app, 50, &app.client.raw_file("slow", &vec![1; 12 * MIB]), 1_000).await);
    eventually("all of them are being received", async || receiving(app).await == 200).await;
    for client in [&app.client, app.stranger()] {
        upload_and_read_back(client, 5).await;
        upload_and_read_back(client, 100_000).await;
        upload_and_read_back(client, 11 * MIB).await;
    }
    assert_eq!(receiving(app).await, 200, "the slow bodies are still being received");
}

async fn small_parts_and_other_projects_do_not_wait_for_the_bodies_of_one_project(app: &TestApp) {
    let upload = app.client.upload(60 * MIB).await;
    let part = app.client.raw_part(&upload, &vec![1; 12 * MIB]);
    let stalled = begin_many(app, 100, &part, 3 * MIB).await;
    eventually("bodies wait for memory", async || metric(app, "windlass_bodies_waiting").await > 0.0).await;
    // Smaller bodies use up the rest of the project's share.
    let smaller = begin_many(app, 100, &app.client.raw_part(&upload, &[1; 6_000]), 300).await;
    let small = begin_many(app, 10, &app.client.raw_part(&upload, &[1; 4_000]), 2_500).await;
    upload_and_read_back(&app.client, 4_000).await;
    upload_and_read_back(app.stranger(), 6 * MIB).await;
    drop((stalled, smaller, small));
}

async fn a_form_keeps_its_memory_from_one_part_to_the_next(app: &TestApp) {
    let content = random(20 * MIB);
    let form = app.client.raw_file("a file", &content);
    let mut sending = begin(app, &form, 5 * MIB).await;
    eventually("the form is being received", async || receiving(app).await == 1).await;
    let upload = app.client.upload(60 * MIB).await;
    let part = app.client.raw_part(&upload, &vec![1; 5 * MIB]);
    let stalled = begin_many(app, 100, &part, MIB).await;
    eventually("other bodies wait for memory", async || metric(app, "windlass_bodies_waiting").await > 0.0).await;
    sending.write_all(&form[5 * MIB..]).await.unwrap();
    let mut answer = Vec::new();
    let answered = async || {
        let mut bytes = [0; 4096];
        sending.readable().await.unwrap();
        match sending.try_read(&mut bytes) {
            Ok(count) => answer.extend_from_slice(&bytes[..count]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        answer.starts_with(b"HTTP/1.1 ") && answer.ends_with(b"}")
    };
    eventually("there is a response", answered).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(stalled);
    let file: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert!(app.client.download(&id(&file)).await == content);
}

async fn bodies_of_sizes_around_every_limit_are_read_back_unchanged(app: &TestApp) {
    let (kib, chunk) = (1024, if app.store.directory().is_some() { 384 } else { 5 * 1024 } * 1024);
    for around in [4 * kib, 16 * kib, 64 * kib, 320 * kib, chunk, 2 * chunk] {
        for bytes in [around - 1, around, around + 1] {
            upload_and_read_back(&app.client, bytes).await;
        }
    }
    let content = random(12 * MIB + 5);
    let file = app.client.file(content.clone()).await;
    assert!(app.client.download(&file).await == content);
}

/// Creates Uploads of one Part each. Returns the ids of Upload and Part.
async fn uploads(client: &Client, count: usize) -> Vec<(String, String)> {
    let mut uploads = Vec::new();
    for _ in 0..count {
        let upload = client.upload(4).await;
        let part = client.part(&upload, "four").await;
        uploads.push((upload, part));
    }
    uploads
}

async fn completions_blocked_on_locks_leave_transactions_for_other_projects(app: &TestApp) {
    let held_up = uploads(&app.client, 8).await;
    let others = uploads(app.stranger(), 3).await;
    let mut lock = app.pool.begin().await.unwrap();
    let all = "select from upload where project_id = (select id from project where name = 'default') for update";
    lock.execute(AssertSqlSafe(all)).await.unwrap();
    let waiting = held_up.iter().map(|(upload, part)| {
        let (client, upload, part) = (app.client.clone(), upload.clone(), part.clone());
        tokio::spawn(async move { client.complete(&upload, &[&part]).await })
    });
    let mut waiting: Vec<_> = waiting.collect();
    let blocked =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let blocked = async || sqlx::query_scalar::<_, i64>(blocked).fetch_one(&app.pool).await.unwrap();
    eventually("completions wait for the locks", async || blocked().await >= 2).await;
    for (upload, part) in &others {
        app.stranger().complete(upload, &[part]).await.ok();
    }
    assert!(timeout(Duration::ZERO, select_all(&mut waiting)).await.is_err(), "they no longer wait");
    lock.rollback().await.unwrap();
    for answer in join_all(waiting).await {
        answer.unwrap().ok();
    }
}

async fn a_long_invalid_part_list_is_refused_without_a_lock(app: &TestApp) {
    const PARTS: usize = 1_002;
    let upload = app.client.upload(PARTS).await;
    let mut parts = Vec::new();
    while parts.len() < PARTS {
        let batch = (0..8.min(PARTS - parts.len())).map(|_| app.client.part(&upload, "x"));
        parts.extend(join_all(batch).await);
    }
    let strange = app.stranger().upload(1).await;
    let strange = app.stranger().part(&strange, "x").await;
    let mut lock = app.pool.begin().await.unwrap();
    lock.execute("select from upload for update").await.unwrap();
    let complete = async |parts: &[String]| -> Answer {
        let (path, body) = (format!("/v1/uploads/{upload}/complete"), json!({ "part_ids": parts }));
        let request = app.client.post(&path, &body);
        timeout(Duration::from_secs(20), request).await.expect("it waits for the lock")
    };
    let too_few = complete(&parts[1..]).await.error(400, Some("part_ids"));
    let message = too_few["message"].as_str().unwrap();
    assert!(message.contains("1001 bytes") && message.contains("1002 bytes"), "{message}");
    let unknown = complete(&[&parts[1..], std::slice::from_ref(&strange)].concat()).await.error(400, Some("part_ids"));
    assert!(unknown["message"].as_str().unwrap().contains(&strange), "{unknown}");
    lock.rollback().await.unwrap();
    let completed = complete(&parts).await.ok();
    assert_eq!(completed["file"]["bytes"], PARTS);
    assert_eq!(complete(&parts).await.ok(), completed, "repeated");
    complete(&parts[1..]).await.error(400, Some("part_ids"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_backs_for_one_project_do_not_block_those_of_others() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let content = random(3 * MIB);
    let upload_of = async |client: &Client| {
        let upload = client.upload(content.len()).await;
        let part = client.part(&upload, content.clone()).await;
        (upload, part)
    };
    let complete = async |client: Client, upload: String, part: String, md5: String| {
        client.post(&format!("/v1/uploads/{upload}/complete"), &json!({"part_ids": [part], "md5": md5})).await
    };
    let md5 = windlass_types::Md5::from(<[u8; 16]>::from(<md5::Md5 as md5::Digest>::digest(&content))).to_string();

    // Reading the object blocks until something is written to it.
    let (upload, part) = upload_of(&app.client).await;
    let object = app.store.directory().unwrap().join(object_name(&part));
    let kept = object.with_extension("kept");
    fs::rename(&object, &kept).unwrap();
    nix::unistd::mkfifo(&object, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let held_up: Vec<_> = (0..20)
        .map(|_| tokio::spawn(complete(app.client.clone(), upload.clone(), part.clone(), md5.clone())))
        .collect();
    eventually("the other completions wait", async || metric(&app, "windlass_turns_waiting").await >= 16.0).await;

    let (upload, part) = upload_of(app.stranger()).await;
    complete(app.stranger().clone(), upload, part, md5.clone()).await.ok();
    assert!(held_up.iter().all(|it| !it.is_finished()), "they no longer wait");
    fs::rename(&object, object.with_extension("pipe")).unwrap();
    fs::rename(&kept, &object).unwrap();
    fs::OpenOptions::new().write(true).open(object.with_extension("pipe")).unwrap();
    fs::remove_file(object.with_extension("pipe")).unwrap();
    let answers = join_all(held_up).await;
    assert!(answers.iter().any(|it| it.as_ref().unwrap().status.is_success()));
    app.nothing_is_lost_and_nothing_is_left().await;
}
