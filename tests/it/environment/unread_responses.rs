//! Clients that do not read their responses, or stop in the middle of their bodies: the memory that the program holds
//! for them is bounded, and other clients are served meanwhile.

use std::fs;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, future};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::client::id;
use crate::support::{Client, StoreKind, TestApp, eventually};

/// The minimum of the setting: 12.8 MiB for bodies, 3 MiB for responses, and 2 MiB for read-ahead.
const BUDGET: (&str, &str) = ("WINDLASS_BUFFER_BYTES", "16MiB");

/// The number of clients that send half of a body: enough that the bytes read from their connections would exceed the
/// budget.
const BODIES: usize = 400;

/// Connections of clients that read as little as possible.
async fn connections(client: &Client, count: usize) -> Vec<TcpStream> {
    let connect = async |_| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(client.socket_address().parse().unwrap()).await.unwrap()
    };
    future::join_all((0..count).map(connect)).await
}

/// Reads only the beginning of a response. Returns its status.
async fn status(connection: &mut TcpStream) -> u16 {
    let mut beginning = [0; 12];
    connection.read_exact(&mut beginning).await.unwrap();
    String::from_utf8_lossy(&beginning)[9..].parse().unwrap()
}

/// Sends the same request on `count` connections and reads the statuses. Returns the connections with 200 and with 503.
async fn ask(client: &Client, count: usize, path: &str) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let request = client.raw("GET", path, "text/plain", b"");
    let asked = connections(client, count).await.into_iter().map(async |mut it| {
        it.write_all(&request).await.unwrap();
        (status(&mut it).await, it)
    });
    let (held, others): (Vec<_>, Vec<_>) = future::join_all(asked).await.into_iter().partition(|it| it.0 == 200);
    let statuses: Vec<_> = others.iter().map(|it| it.0).filter(|it| *it != 503).collect();
    assert!(statuses.is_empty(), "{statuses:?}");
    let connections = |of: Vec<(u16, TcpStream)>| of.into_iter().map(|it| it.1).collect();
    (connections(held), connections(others))
}

/// The peak memory of the program, in MiB, since the last call.
fn peak_mib(app: &TestApp) -> u64 {
    let pid = app.program(|it| it.pid());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Inserts Uploads with names of the maximum length.
async fn long_uploads(app: &TestApp, count: u32) {
    let insert = format!(
        "insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
         select gen_random_uuid(), project.id, 'client', repeat('🦀', 512), 'user_data', repeat('t', 255), n,
                now() + interval '1 hour'
         from project, generate_series(1, {count}) n where project.name = 'default'"
    );
    app.pool.execute(sqlx::raw_sql(AssertSqlSafe(insert))).await.unwrap();
}

/// Asserts that other clients can upload, download and list.
async fn others_are_served(app: &TestApp) {
    let client = app.stranger().alone();
    let file = client.file("a small file").await;
    assert_eq!(client.download(&file).await, b"a small file");
    let upload = client.upload(4).await;
    let part = client.part(&upload, "four").await;
    client.complete(&upload, &[&part]).await.ok();
    let listed = client.get("/v1/uploads").await;
    assert!(listed.header("content-length").is_some(), "{listed:?}");
    assert_eq!(listed.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_list_holds_one_batch_in_memory() {
    let app = TestApp::start(StoreKind::Directory, &[BUDGET]).await.unwrap();
    long_uploads(&app, 3000).await;
    others_are_served(&app).await;
    let before = peak_mib(&app);
    let (held, refused) = ask(&app.client, 100, "/v1/uploads").await;
    assert!(held.len() >= 16 && !refused.is_empty(), "{} lists, {} refused", held.len(), refused.len());
    app.stranger().alone().upload(1).await;
    let peak = peak_mib(&app);
    assert!(peak < before + 32, "{peak} MiB, and {before} before, with {} lists", held.len());
    drop(held);
    eventually("memory is free again", async || app.client.alone().get("/v1/uploads").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_bodies_are_counted_as_they_arrive() {
    let app = TestApp::start(StoreKind::Directory, &[BUDGET]).await.unwrap();
    others_are_served(&app).await;
    let before = peak_mib(&app);
    let text = format!("{{\"part_ids\": [\"{}", "x".repeat(900_000));
    let mut request =
        app.client.raw("POST", &format!("/v1/uploads/upload_{:032x}/complete", 1), "application/json", text.as_bytes());
    let length = request.len() - text.len();
    let head = String::from_utf8(request[..length].to_vec()).unwrap();
    request.splice(..length, head.replace(&text.len().to_string(), "1000000").into_bytes());

    let mut half_sent = connections(&app.client, BODIES).await;
    let mut answers: FuturesUnordered<_> = half_sent
        .iter_mut()
        .map(async |it| {
            let (mut reading, mut writing) = it.split();
            let mut beginning = [0; 12];
            let sent = async {
                // The connection of a rejected client may be closed before all is sent.
                writing.write_all(&request).await.ok();
                future::pending().await
            };
            tokio::select! {
                read = reading.read_exact(&mut beginning) => read.map(|_| String::from_utf8_lossy(&beginning)[9..].to_owned()),
                never = sent => never,
            }
        })
        .collect();
    // Requests are rejected only when all memory is in use.
    for _ in 0..BODIES / 2 {
        assert_eq!(answers.next().await.unwrap().unwrap(), "503");
    }
    drop(answers);
    let peak = peak_mib(&app);
    assert!(peak < before + 45, "{peak} MiB, and {before} before");
    assert_eq!(app.stranger().alone().begin_upload(4).await.status, 200, "a small body is rejected");
    drop(half_sent);
    others_are_served_again(&app).await;
}

async fn others_are_served_again(app: &TestApp) {
    let whole: Vec<_> = (0..10_000).map(|it| format!("part_{it:032x}")).collect();
    let upload = app.client.upload(1).await;
    let path = format!("/v1/uploads/{upload}/complete");
    let complete = async || app.client.alone().post(&path, &json!({ "part_ids": whole })).await.status;
    eventually("memory for a large body is free", async || complete().await == 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_download_from_a_bucket_holds_one_chunk_in_memory() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[BUDGET]).await else { return };
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|it| it.to_le_bytes()[it as usize % 3]).collect();
    let upload = app.client.upload(bytes.len()).await;
    let mut parts = Vec::new();
    for part in bytes.chunks(7_000_000) {
        parts.push(app.client.part(&upload, part).await);
    }
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    let file = id(&app.client.complete(&upload, &parts).await.ok()["file"]);
    assert!(app.client.download(&file).await == bytes);
    others_are_served(&app).await;

    let before = peak_mib(&app);
    let path = format!("/v1/files/{file}/content");
    let (mut held, refused) = ask(&app.client, 100, &path).await;
    assert!(held.len() >= 5 && !refused.is_empty(), "{} downloads, {} refused", held.len(), refused.len());
    app.stranger().alone().upload(1).await;
    let peak = peak_mib(&app);
    assert!(peak < before + 32, "{peak} MiB, and {before} before, with {} downloads", held.len());

    // A client that got a 200 receives the whole file, however late it reads.
    let mut late = held.remove(0);
    let mut answer = Vec::new();
    drop(held);
    eventually("memory is free again", async || app.client.alone().get(&path).await.status == 200).await;
    while !answer.ends_with(&bytes[bytes.len() - 1000..]) {
        assert_ne!(late.read_buf(&mut answer).await.unwrap(), 0, "the download was cut off");
    }
    assert!(answer.ends_with(&bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_in_the_middle_is_cut_off() {
    let app = TestApp::start(StoreKind::Directory, &[]).await.unwrap();
    long_uploads(&app, 3000).await;
    let mut connection = connections(&app.client, 1).await.remove(0);
    connection.write_all(&app.client.raw("GET", "/v1/uploads", "text/plain", b"")).await.unwrap();
    assert_eq!(status(&mut connection).await, 200);
    app.pool.execute("alter table upload rename to elsewhere").await.unwrap();
    let mut rest = Vec::new();
    // Both an error and an early end show that something is missing.
    connection.read_to_end(&mut rest).await.ok();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the list ends as if it were complete");
    assert!(!String::from_utf8_lossy(&rest).contains("has_more"));
    app.pool.execute("alter table elsewhere rename to upload").await.unwrap();
    let whole = app.client.get("/v1/uploads").await.ok();
    assert_eq!(whole["data"].as_array().unwrap().len(), 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_many_batches_equals_its_pages() {
    let app = TestApp::start(StoreKind::Directory, &[]).await.unwrap();
    let insert = "insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, created_at, expires_at)
         select gen_random_uuid(), project.id, 'client', repeat(case n % 3 when 0 then '🦀' when 1 then '\"' else 'x' end, 1 + n % 512),
                'user_data', 'text/plain', n, date_trunc('hour', now()) + (n / 300) * interval '1 microsecond', now() + interval '1 hour'
         from project, generate_series(1, 1700) n where project.name = 'default'";
    app.pool.execute(insert).await.unwrap();
    let page = async |query: &str| app.client.get(&format!("/v1/uploads?{query}")).await.ok();
    for order in ["asc", "desc"] {
        let whole = page(&format!("order={order}")).await;
        let all = whole["data"].as_array().unwrap();
        assert_eq!((all.len(), &whole["has_more"]), (1700, &json!(false)));
        assert_eq!((&whole["first_id"], &whole["last_id"]), (&all[0]["id"], &all[1699]["id"]));
        let mut paged: Vec<Value> = Vec::new();
        for expected_more in [true, true, false] {
            let after = paged.last().map(|it| format!("&after={}", id(it))).unwrap_or_default();
            let next = page(&format!("order={order}&limit=700{after}")).await;
            assert_eq!(next["has_more"], expected_more);
            let data = next["data"].as_array().unwrap();
            assert_eq!(next["last_id"], data.last().unwrap()["id"]);
            paged.extend(data.iter().cloned());
        }
        assert!(paged == *all, "{order}");
        let old = app.client.raw("GET", &format!("/v1/uploads?order={order}"), "text/plain", b"");
        let old = String::from_utf8(old).unwrap().replace("HTTP/1.1", "HTTP/1.0");
        let mut connection = connections(&app.client, 1).await.remove(0);
        connection.write_all(old.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("chunked"), "{head}");
        assert!(serde_json::from_str::<Value>(body).unwrap() == whole);
        let exactly_all = page(&format!("order={order}&limit=1700")).await;
        assert_eq!(exactly_all, whole);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_quotes_only_a_little_of_the_request() {
    let app = TestApp::start(StoreKind::Directory, &[]).await.unwrap();
    let long = "long\u{e9}".repeat(100_000);
    let upload = app.client.upload(1).await;
    let complete = format!("/v1/uploads/{upload}/complete");
    for (path, body) in [
        ("/v1/uploads", json!({"filename": "a", "purpose": long, "bytes": 1, "mime_type": "text/plain"})),
        ("/v1/uploads", json!({"filename": "a", "purpose": "batch", "bytes": 1, "mime_type": "text/plain", &*long: 1})),
        (&complete, json!({"part_ids": [long]})),
        (&complete, json!({"part_ids": [], "md5": long})),
    ] {
        let answer = app.client.post(path, &body).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.len() < 4096, "{} bytes", answer.body.len());
        assert!(answer.json()["error"]["message"].is_string());
    }
    let path = format!("/v1/{}", "x".repeat(20_000));
    let answer = app.client.get(&path).await;
    assert!((answer.status, answer.body.len() < 4096) == (404.try_into().unwrap(), true), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_with_too_many_json_values_is_refused() {
    let app = TestApp::start(StoreKind::Directory, &[]).await.unwrap();
    let path = format!("/v1/uploads/{}/complete", app.client.upload(1).await);
    let error = app.client.post(&path, &json!({ "part_ids": vec![0; 400_000] })).await.error(400, None);
    assert!(error["message"].as_str().unwrap().contains("32768 values"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_more_parts_than_one_lookup_is_whole() {
    let app = TestApp::start(StoreKind::Directory, &[]).await.unwrap();
    let contents: Vec<String> = (0..1100).map(|it| format!("{it:04}|").repeat(1 + it % 3)).collect();
    let whole = contents.concat().into_bytes();
    let upload = app.client.upload(whole.len()).await;
    let mut parts = Vec::new();
    for some in contents.chunks(50) {
        let sent = some.iter().map(|it| app.client.part(&upload, it.as_bytes()));
        parts.extend(future::join_all(sent).await);
    }
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    let file = id(&app.client.complete(&upload, &parts).await.ok()["file"]);
    assert!(app.client.download(&file).await == whole);
    for (first, last) in
        [(0, 0), (7, 9000), (4995, 5005), (9990, 10_010), (3, whole.len() - 2), (whole.len() - 1, whole.len())]
    {
        let path = format!("/v1/files/{file}/content");
        let request =
            app.client.request("GET".parse().unwrap(), &path).header("range", format!("bytes={first}-{last}"));
        let answer = app.client.send(request).await;
        assert!(answer.body == whole[first..=last.min(whole.len() - 1)], "{first} to {last}");
    }
}
