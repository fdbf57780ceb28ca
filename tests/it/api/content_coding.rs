//! Bodies with a `Content-Encoding` are rejected, not stored or parsed as if they were not encoded.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    a_compressed_body_is_refused_by_every_endpoint;
    the_identity_coding_is_accepted;
}

const FORM: &str = "multipart/form-data; boundary=B";
const PART: &str = "--B\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nx\r\n--B--";
const FILE: &str = "--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nevals\r\n\
    --B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--B--";

async fn send(app: &TestApp, path: &str, content_type: &str, codings: &[&str], body: &str) -> Answer {
    let request = app.client.request(Method::POST, path).header("content-type", content_type);
    let request = codings.iter().fold(request, |it, coding| it.header("content-encoding", *coding));
    app.client.send(request.body(body.to_owned())).await
}

/// Sends a body to each endpoint that reads one. Returns the responses.
async fn send_all(app: &TestApp, codings: &[&str]) -> [Answer; 4] {
    let new = json!({"filename": "f", "purpose": "evals", "bytes": 1, "mime_type": "x"}).to_string();
    let upload = app.client.upload(1).await;
    let (other, part) = (app.client.upload(1).await, format!("/v1/uploads/{upload}/parts"));
    let complete = json!({"part_ids": [app.client.part(&other, "x").await]}).to_string();
    [
        send(app, "/v1/uploads", "application/json", codings, &new).await,
        send(app, &part, FORM, codings, PART).await,
        send(app, &format!("/v1/uploads/{other}/complete"), "application/json", codings, &complete).await,
        send(app, "/v1/files", FORM, codings, FILE).await,
    ]
}

async fn a_compressed_body_is_refused_by_every_endpoint(app: &TestApp) {
    for codings in [&["gzip"][..], &["GZIP"], &["br"], &["identity, deflate"], &["identity", "gzip"], &["unknown"]] {
        for answer in send_all(app, codings).await {
            let message = answer.error(400, None)["message"].as_str().unwrap().to_owned();
            let named = format!("Content-Encoding '{}'", codings.join(", "));
            assert!(message.contains(&named) && message.contains("without this header"), "{message}");
        }
    }
    app.no_writer_is_busy().await;
    assert_eq!(app.client.get("/v1/files").await.ok()["data"], json!([]));
}

async fn the_identity_coding_is_accepted(app: &TestApp) {
    for codings in [&["identity"][..], &[""], &["Identity, identity"], &["identity", "identity"]] {
        for answer in send_all(app, codings).await {
            assert_eq!(answer.status, StatusCode::OK, "{codings:?}: {answer:?}");
        }
    }
    // The header is ignored on a request without a body.
    let list = app.client.request(Method::GET, "/v1/files").header("content-encoding", "gzip");
    app.client.send(list).await.ok();
}
