//! Signed URLs for uploads: one `PUT` with the whole file.

use futures_util::future::join_all;
use futures_util::stream;
use reqwest::{Body, Method};
use serde_json::{Value, json};

use super::signed_urls::{assert_refused, path, send, sign};
use crate::support::client::id;
use crate::support::{Answer, Client, TestApp};

crate::on_a_directory_and_s3! {
    one_put_creates_the_file;
    the_same_put_again_returns_the_same_file_and_another_one_is_refused;
    parallel_puts_create_one_file;
    a_put_that_failed_can_be_repeated;
    a_body_beyond_the_limit_is_refused (WINDLASS_MAX_FILE_BYTES = "100000");
    a_body_that_cannot_be_a_whole_file_is_refused;
    a_service_key_signs_uploads_of_output_purposes;
    lines_are_checked_as_in_a_form (WINDLASS_JSONL_CHECK = "lines");
}

async fn sign_upload(client: &Client, more: Value) -> String {
    let mut body = json!({"method": "PUT", "filename": "output.bin", "purpose": "user_data"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let signed = sign(client, "/v1/files/signed_url", body).await;
    assert_eq!(signed["method"], "PUT");
    path(&signed)
}

async fn put(app: &TestApp, path: &str, body: &[u8]) -> Answer {
    send(app, Method::PUT, path, &[], body).await
}

async fn one_put_creates_the_file(app: &TestApp) {
    let bytes: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
    for bytes in [&bytes[..], b"small", b""] {
        let signed =
            sign_upload(&app.client, json!({"expires_after": {"anchor": "created_at", "seconds": 3600}})).await;
        let file = put(app, &signed, bytes).await.ok();
        assert_eq!((&file["object"], &file["filename"]), (&json!("file"), &json!("output.bin")));
        assert_eq!((&file["purpose"], file["bytes"].as_u64()), (&json!("user_data"), Some(bytes.len() as u64)));
        assert_eq!(file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap(), 3600);
        assert_eq!(app.client.download(&id(&file)).await, bytes);
        app.stranger().get(&format!("/v1/files/{}", id(&file))).await.error(404, Some("id"));
    }
}

async fn the_same_put_again_returns_the_same_file_and_another_one_is_refused(app: &TestApp) {
    let signed = sign_upload(&app.client, json!({})).await;
    let file = put(app, &signed, b"12345").await.ok();
    assert_eq!(put(app, &signed, b"12345").await.ok(), file);
    assert_refused(&put(app, &signed, b"54321").await, "signed_url_used");
    assert_refused(&put(app, &signed, b"").await, "signed_url_used");
    app.client.delete(&format!("/v1/files/{}", id(&file))).await.ok();
    assert_refused(&put(app, &signed, b"12345").await, "signed_url_used");
    assert_eq!(app.client.get("/v1/files").await.ok()["data"], json!([]));
}

async fn parallel_puts_create_one_file(app: &TestApp) {
    let signed = sign_upload(&app.client, json!({})).await;
    let answers = join_all((0..8).map(|i| put(app, &signed, if i % 2 == 0 { b"even" } else { b"odd!" }))).await;
    let files = app.client.get("/v1/files").await.ok();
    assert_eq!(files["data"].as_array().unwrap().len(), 1);
    for answer in answers.iter().filter(|it| it.status == 200) {
        assert_eq!(answer.ok()["id"], files["data"][0]["id"]);
    }
    assert_eq!(answers.iter().filter(|it| it.status == 200).count(), 4);
    for answer in answers.iter().filter(|it| it.status != 200) {
        assert_refused(answer, "signed_url_used");
    }
}

async fn a_put_that_failed_can_be_repeated(app: &TestApp) {
    let signed = sign_upload(&app.client, json!({})).await;
    let url = format!("{}{signed}", app.client.address);
    // A chunked body that breaks off, and one that is shorter than declared.
    let parts = [Ok(vec![1; 200_000]), Err(std::io::Error::other("gone"))];
    let broken = reqwest::Client::new().put(&url).body(Body::wrap_stream(stream::iter(parts))).send().await;
    assert!(broken.is_err() || broken.unwrap().status() == 400);
    let address = app.client.address.replace("http://", "");
    let mut socket = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(
        &mut socket,
        format!("PUT {signed} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 100000\r\n\r\nabc").as_bytes(),
    )
    .unwrap();
    drop(socket);
    app.no_writer_is_busy().await;
    assert_eq!(app.client.get("/v1/files").await.ok()["data"], json!([]));
    let file = put(app, &signed, b"whole").await.ok();
    assert_eq!(app.client.download(&id(&file)).await, b"whole");
}

async fn a_body_beyond_the_limit_is_refused(app: &TestApp) {
    let chunked = async |path: &str, bytes: usize| {
        let body = Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>(vec![7; bytes])]));
        let sent = reqwest::Client::new().put(format!("{}{path}", app.client.address)).body(body).send().await;
        Answer::from(sent.unwrap()).await
    };
    for (more, limit) in [(json!({"max_bytes": 10}), 10), (json!({}), 100_000), (json!({"max_bytes": 0}), 0)] {
        let signed = sign_upload(&app.client, more).await;
        for answer in [put(app, &signed, &vec![7; limit + 1]).await, chunked(&signed, limit + 1).await] {
            let error = answer.error(400, None);
            assert_eq!(error["code"], "too_large");
            assert!(error["message"].as_str().unwrap().contains(&format!("at most {limit} bytes")), "{error}");
        }
        assert_eq!(put(app, &signed, &vec![7; limit]).await.ok()["bytes"], limit);
    }
}

async fn a_body_that_cannot_be_a_whole_file_is_refused(app: &TestApp) {
    let signed = sign_upload(&app.client, json!({})).await;
    for header in [("content-range", "bytes 0-4/10"), ("content-encoding", "gzip")] {
        send(app, Method::PUT, &signed, &[header], b"12345").await.error(400, None);
    }
    let typed = send(app, Method::PUT, &signed, &[("content-type", "multipart/form-data")], b"12345").await.ok();
    assert_eq!(typed["bytes"], 5, "the type of the request does not matter");
}

async fn a_service_key_signs_uploads_of_output_purposes(app: &TestApp) {
    let created =
        app.run(&["keys", "create", "--kind", "service", "--acts-for", "team-*", "--creates-projects", "--json"]);
    let created: Value = serde_json::from_slice(&created.stdout).unwrap();
    let gateway = Client::new(&app.client.address, created["key"].as_str().unwrap());
    let body = json!({"method": "PUT", "filename": "out.jsonl", "purpose": "batch_output"});
    let request = gateway.request(Method::POST, "/v1/files/signed_url").header("openai-project", "team-a").json(&body);
    let file = put(app, &path(&gateway.send(request).await.ok()), b"{}\n").await.ok();
    assert_eq!(file["purpose"], "batch_output");
    let found = gateway.request(Method::GET, &format!("/v1/files/{}", id(&file))).header("openai-project", "team-a");
    assert_eq!(gateway.send(found).await.ok(), file);
    app.client.get(&format!("/v1/files/{}", id(&file))).await.error(404, Some("id"));
    let delete = gateway.request(Method::DELETE, &format!("/v1/files/{}", id(&file)));
    gateway.send(delete.header("openai-project", "team-a")).await.ok();
}

async fn lines_are_checked_as_in_a_form(app: &TestApp) {
    let signed = sign_upload(&app.client, json!({"filename": "in.jsonl", "purpose": "batch"})).await;
    assert_eq!(put(app, &signed, b"{}\nnot json\n").await.error(400, Some("file"))["code"], "invalid_jsonl");
    assert_eq!(put(app, &signed, b"{}\n{}\n").await.ok()["bytes"], 6);
}
