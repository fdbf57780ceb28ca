//! Parts: any size up to the limit, in parallel, while the upload is pending.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::client::{Answer, id};
use crate::support::{TestApp, eventually};

const MIB: usize = 1024 * 1024;

crate::on_every_store! {
    parts_arrive_in_parallel_and_in_any_order;
    a_part_of_exactly_64_mib_is_accepted_and_one_byte_more_is_refused;
    an_oversized_part_is_refused_while_it_is_received (WINDLASS_MAX_PART_BYTES = "10");
    parts_of_sizes_around_the_chunk_size_are_read_back_whole;
    small_parts_are_in_the_ledger_and_larger_ones_in_the_store;
    the_size_limit_of_parts_in_the_ledger_can_be_set (WINDLASS_LEDGER_PART_BYTES = "65536");
    errors_of_the_upload_take_precedence_over_those_of_a_small_part;
    an_upload_has_at_most_ten_thousand_parts;
    stored_parts_can_be_listed;
    a_disconnected_client_leaves_nothing_behind;
    a_part_that_completes_after_its_upload_has_ended_is_refused (WINDLASS_LEDGER_PART_BYTES = "0");
    a_stalled_body_is_answered_408 (WINDLASS_BODY_IDLE = "200ms");
}

/// Pseudo-random bytes that depend only on the length, so that misplaced bytes are detected.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

async fn parts_arrive_in_parallel_and_in_any_order(app: &TestApp) {
    let whole = noise(4 * MIB);
    let upload = app.client.upload(whole.len()).await;
    let parts = futures_util::future::join_all(whole.chunks(MIB / 2).map(|it| app.client.part(&upload, it))).await;
    let listed: Vec<&str> = parts.iter().map(String::as_str).collect();
    let file = id(&app.client.complete(&upload, &listed).await.ok()["file"]);
    assert!(app.client.download(&file).await == whole);
}

async fn a_part_of_exactly_64_mib_is_accepted_and_one_byte_more_is_refused(app: &TestApp) {
    let whole = noise(64 * MIB);
    let upload = app.client.upload(whole.len()).await;
    let part = app.client.part(&upload, whole.clone()).await;
    let error = app.client.add_part(&upload, noise(64 * MIB + 1)).await;
    assert!(error.error(400, Some("data"))["message"].as_str().unwrap().contains("67108864"));
    assert_eq!(error.header("x-should-retry"), Some("false"));
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    assert!(app.client.download(&file).await == whole);
}

async fn an_oversized_part_is_refused_while_it_is_received(app: &TestApp) {
    let upload = app.client.upload(10).await;
    app.client.add_part(&upload, "01234567890").await.error(400, Some("data"));
    app.client.add_part(&upload, noise(3 * MIB)).await.error(400, Some("data"));
    let part = app.client.part(&upload, "0123456789").await;
    app.client.complete(&upload, &[&part]).await.ok();
}

async fn parts_of_sizes_around_the_chunk_size_are_read_back_whole(app: &TestApp) {
    let chunks = [MIB, 5 * MIB];
    let sizes =
        chunks.into_iter().flat_map(|chunk| [chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 1]).chain([1, 2]);
    for size in sizes {
        let whole = noise(size);
        let upload = app.client.upload(size).await;
        let part = app.client.part(&upload, whole.clone()).await;
        let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
        assert!(app.client.download(&file).await == whole, "{size} bytes");
        app.client.delete(&format!("/v1/files/{file}")).await.ok();
    }
}

/// Creates a File of one Part of `bytes` bytes. Returns whether they were stored in the ledger.
async fn is_in_the_ledger(app: &TestApp, bytes: usize) -> bool {
    let whole = noise(bytes);
    let upload = app.client.upload(bytes).await;
    let part = app.client.part(&upload, whole.clone()).await;
    let objects = app.store.list().await.len();
    let in_ledger: bool = sqlx::query_scalar("select content is not null from part where id = $1::uuid")
        .bind(part.replace("part_", ""))
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(objects == 0, in_ledger, "{bytes} bytes are in both places or in none");
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    assert!(app.client.download(&file).await == whole, "{bytes} bytes");
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    app.let_time_pass("2 hours").await;
    app.sweep();
    in_ledger
}

async fn small_parts_are_in_the_ledger_and_larger_ones_in_the_store(app: &TestApp) {
    for (bytes, in_ledger) in [(1, true), (4095, true), (4096, true), (4097, false), (5000, false), (6000, false)] {
        assert_eq!(is_in_the_ledger(app, bytes).await, in_ledger, "{bytes} bytes");
    }
    // The same holds for a file sent in one request.
    app.client.file(noise(4096)).await;
    assert_eq!(app.store.list().await, []);
    app.client.file(noise(4097)).await;
    assert_eq!(app.store.list().await.len(), 1);
}

async fn the_size_limit_of_parts_in_the_ledger_can_be_set(app: &TestApp) {
    for (bytes, in_ledger) in [(1, true), (10_000, true), (65_536, true), (65_537, false)] {
        assert_eq!(is_in_the_ledger(app, bytes).await, in_ledger, "{bytes} bytes");
    }
}

async fn errors_of_the_upload_take_precedence_over_those_of_a_small_part(app: &TestApp) {
    let (cancelled, expired) = (app.client.upload(1).await, app.client.upload(1).await);
    app.client.cancel(&cancelled).await.ok();
    app.expire(&expired).await;
    let unknown = "upload_00000000000000000000000000000000".to_owned();
    for (upload, status) in [(unknown, 404), (cancelled, 400), (expired, 410)] {
        let send = async |content_type: &str, body: &'static str| {
            let request = app.client.request("POST".parse().unwrap(), &format!("/v1/uploads/{upload}/parts"));
            app.client.send(request.header("content-type", content_type).body(body)).await
        };
        let form = "multipart/form-data; boundary=B";
        let other = "--B\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--B--\r\n";
        for (content_type, body) in [("application/json", "{}"), (form, "no form"), (form, other)] {
            send(content_type, body).await.error(status, Some("upload_id"));
        }
        app.client.add_part(&upload, "").await.error(status, Some("upload_id"));
        app.client.add_part(&upload, "in order").await.error(status, Some("upload_id"));
    }
}

async fn an_upload_has_at_most_ten_thousand_parts(app: &TestApp) {
    let upload = app.client.upload(10_000).await;
    let rows = "insert into part (id, upload_id) select gen_random_uuid(), id from upload, generate_series(1, 9999)";
    sqlx::raw_sql(rows).execute(&app.pool).await.unwrap();
    app.client.part(&upload, "the last").await;
    let error = app.client.add_part(&upload, "one more").await.error(400, Some("upload_id"));
    assert_eq!(error["code"], "too_many_parts");
    app.client.cancel(&upload).await.ok();
    // The cancellation leaves most of the parts for the sweeper to mark as garbage.
    app.sweep();
    sqlx::raw_sql("delete from part where multipart_id is null and bytes is null").execute(&app.pool).await.unwrap();
}

async fn stored_parts_can_be_listed(app: &TestApp) {
    let upload = app.client.upload(9).await;
    let path = format!("/v1/uploads/{upload}/parts");
    let empty = app.client.get(&path).await.ok();
    assert_eq!((empty["data"].as_array().unwrap().len(), &empty["has_more"]), (0, &false.into()));
    let mut sent = Vec::new();
    for bytes in ["123456789", "b", "c"] {
        sent.push(app.client.add_part(&upload, bytes).await.ok());
    }
    assert_eq!(app.client.get(&path).await.ok()["data"], serde_json::Value::from(sent.clone()));
    assert_eq!((&sent[0]["bytes"], &sent[0]["crc64nvme"]), (&9.into(), &"ae8b14860a799888".into()));
    let page = app.client.get(&format!("{path}?limit=1&after={}", id(&sent[0]))).await.ok();
    assert_eq!((id(&page["data"][0]), &page["has_more"]), (id(&sent[1]), &true.into()));
    app.client.get(&format!("{path}?after={}", app.client.upload(1).await)).await.error(404, Some("after"));
    app.client.get(&format!("{path}?limit=0")).await.error(400, Some("limit"));
    app.stranger().get(&path).await.error(404, Some("upload_id"));
}

/// The head of a request that adds a part, and the form up to the first byte of `data`.
fn beginning(app: &TestApp, upload: &str, body_bytes: usize) -> String {
    let form = "--B\r\nContent-Disposition: form-data; name=\"data\"; filename=\"x\"\r\n\r\n";
    format!(
        "POST /v1/uploads/{upload}/parts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n\r\n{form}",
        app.client.key,
        form.len() + body_bytes + "\r\n--B--\r\n".len(),
    )
}

fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.client.address.strip_prefix("http://").unwrap()).unwrap()
}

async fn a_disconnected_client_leaves_nothing_behind(app: &TestApp) {
    let upload = app.client.upload(20 * MIB).await;
    for sent in [0, 1, MIB, 12 * MIB] {
        let mut socket = connect(app);
        socket.write_all(beginning(app, &upload, 20 * MIB).as_bytes()).unwrap();
        socket.write_all(&noise(sent)).unwrap();
        drop(socket);
    }
    app.no_writer_is_busy().await;
    assert_eq!(app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok()["data"].as_array().unwrap().len(), 0);
    app.let_time_pass("10 minutes").await;
    app.sweep();
    assert_eq!(app.store.list().await, []);
}

async fn a_part_that_completes_after_its_upload_has_ended_is_refused(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let mut socket = connect(app);
    socket.write_all(beginning(app, &upload, 3).as_bytes()).unwrap();
    socket.write_all(b"ab").unwrap();
    eventually("a part is being received", async || {
        sqlx::query_scalar::<_, i64>("select count(*) from part").fetch_one(&app.pool).await.unwrap() > 0
    })
    .await;
    app.client.cancel(&upload).await.ok();
    socket.write_all(b"c\r\n--B--\r\n").unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

async fn a_stalled_body_is_answered_408(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let mut socket = connect(app);
    socket.write_all(beginning(app, &upload, 3).as_bytes()).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drop(socket);
    let endless = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = app.client.request("POST".parse().unwrap(), "/v1/uploads").body(reqwest::Body::wrap_stream(endless));
    Answer::from(request.send().await.unwrap()).await.error(408, None);
}
