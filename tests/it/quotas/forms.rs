//! Quotas and files that are sent in one request, with and without a length.

use bytes::Bytes;
use futures_util::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde_json::json;

use super::{assert_exceeded, set, used};
use crate::support::{Answer, Client, TestApp, eventually};

crate::on_a_directory_and_s3! {
    a_form_without_a_length_that_exceeds_the_quota_midway_is_refused_and_leaves_nothing;
    a_file_may_fill_the_quota_to_the_last_byte;
    a_form_in_progress_reserves_what_it_has_declared;
    a_signed_upload_counts_like_a_form;
}

const MIB: usize = 1024 * 1024;

/// Sends a file as chunks of 64 KiB, without a length.
async fn create_chunked(client: &Client, bytes: usize) -> Answer {
    let chunks = (0..bytes.div_ceil(65536))
        .map(move |n| Ok::<_, std::io::Error>(Bytes::from(vec![n.to_le_bytes()[0]; 65536.min(bytes - n * 65536)])));
    let part = Part::stream(Body::wrap_stream(stream::iter(chunks))).file_name("data.bin");
    let form = Form::new().text("purpose", "user_data").part("file", part);
    client.send(client.request(Method::POST, "/v1/files").multipart(form)).await
}

async fn a_form_without_a_length_that_exceeds_the_quota_midway_is_refused_and_leaves_nothing(app: &TestApp) {
    set(app, "default", &["--max-bytes", "10MiB"]);
    assert_exceeded(&create_chunked(&app.client, 11 * MIB).await, "of 10485760 bytes");
    eventually("the reservation is released", async || used(&app.client).await == [0, 0, 0]).await;
    assert_eq!(app.client.get("/v1/files").await.ok()["data"], json!([]));
    // A limit that is set while the body arrives counts as well: here, at its end.
    create_chunked(&app.client, MIB).await.ok();
    assert_eq!(used(&app.client).await, [MIB as u64, 0, 1]);
}

async fn a_file_may_fill_the_quota_to_the_last_byte(app: &TestApp) {
    set(app, "default", &["--max-bytes", "2MiB"]);
    let client = &app.client;
    // The form around the file does not count.
    client.file(vec![1; MIB]).await;
    create_chunked(client, MIB - 3).await.ok();
    client.file("abc").await;
    assert_eq!(used(client).await, [2 * MIB as u64, 0, 3]);
    for answer in [client.create_file("user_data", "d").await, create_chunked(client, 1).await] {
        assert_exceeded(&answer, "2097152 of 2097152 bytes");
    }
    assert_eq!(client.create_file("user_data", "").await.ok()["bytes"], 0);
    eventually("what was refused is released", async || used(client).await == [2 * MIB as u64, 0, 4]).await;
}

async fn a_form_in_progress_reserves_what_it_has_declared(app: &TestApp) {
    set(app, "default", &["--max-bytes", "4MiB", "--max-files", "1"]);
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let chunks = stream::unfold(receiver, async |mut it| it.recv().await.map(|chunk| (chunk, it)));
    let part = Part::stream_with_length(Body::wrap_stream(chunks), 3 * MIB as u64).file_name("data.bin");
    let form = Form::new().text("purpose", "user_data").part("file", part);
    let request = app.client.request(Method::POST, "/v1/files").multipart(form);
    let client = app.client.clone();
    let sent = tokio::spawn(async move { client.send(request).await });
    sender.send(Ok(Bytes::from(vec![1; MIB]))).await.unwrap();
    eventually("the form is in progress", async || used(&app.client).await[0] >= 3 * MIB as u64).await;
    assert_exceeded(&app.client.begin_upload(1).await, "1 of 1 files");
    set(app, "default", &["--max-files", "default"]);
    assert_exceeded(&app.client.begin_upload(2 * MIB).await, "of 4194304 bytes");
    for _ in 0..2 {
        sender.send(Ok(Bytes::from(vec![1; MIB]))).await.unwrap();
    }
    drop(sender);
    sent.await.unwrap().ok();
    assert_eq!(used(&app.client).await, [3 * MIB as u64, 0, 1]);
}

async fn a_signed_upload_counts_like_a_form(app: &TestApp) {
    set(app, "default", &["--max-bytes", "100"]);
    let sign = async || {
        let body = json!({"method": "PUT", "filename": "a.bin", "purpose": "user_data"});
        app.client.post("/v1/files/signed_url", &body).await.ok()["url"].as_str().unwrap().to_owned()
    };
    let put = async |url: &str, bytes: usize| {
        Answer::from(reqwest::Client::new().put(url).body(vec![1; bytes]).send().await.unwrap()).await
    };
    let url = sign().await;
    assert_exceeded(&put(&url, 101).await, "of 100 bytes");
    eventually("the reservation is released", async || used(&app.client).await == [0, 0, 0]).await;
    put(&url, 60).await.ok();
    // The same file again is not another one, and what it had reserved is released.
    set(app, "default", &["--max-bytes", "1000"]);
    put(&url, 60).await.ok();
    eventually("the second upload is released", async || used(&app.client).await == [60, 0, 1]).await;
}
