//! Multipart bodies as real clients send them (contract section 3.4), byte for byte.

use futures_util::stream;
use reqwest::Body;
use serde_json::json;

use crate::support::client::id;
use crate::support::{Answer, TestApp};

crate::on_every_store! {
    fields_may_come_in_any_order_with_or_without_a_content_length;
    a_boundary_may_be_quoted_or_unusual;
    a_part_may_have_no_content_type_or_an_empty_one;
    a_wrong_content_length_of_a_part_is_ignored;
    file_names_are_utf_8_with_three_percent_escapes;
    a_boundary_may_be_split_between_chunks;
    text_that_resembles_a_boundary_is_content;
    a_line_that_only_begins_with_a_boundary_is_content;
    text_around_the_form_and_blanks_after_a_boundary_are_skipped;
    lines_that_end_in_lf_alone_are_refused;
}

/// Sends a form unchanged: with a `Content-Length`, or in chunks of `chunked` bytes.
async fn send(app: &TestApp, path: &str, boundary: &str, form: &[u8], chunked: Option<usize>) -> Answer {
    let request = app
        .client
        .request("POST".parse().unwrap(), path)
        .header("content-type", format!("multipart/form-data; boundary={boundary}"));
    let body = match chunked {
        None => Body::from(form.to_vec()),
        Some(size) => Body::wrap_stream(stream::iter(
            form.chunks(size).map(|it| Ok::<_, std::io::Error>(it.to_vec())).collect::<Vec<_>>(),
        )),
    };
    app.client.send(request.body(body)).await
}

fn field(head: &str, content: &str) -> String {
    format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
}

async fn fields_may_come_in_any_order_with_or_without_a_content_length(app: &TestApp) {
    let (file, purpose) = (field("name=\"file\"; filename=\"f\"", "abc"), field("name=\"purpose\"", "vision"));
    let expiry =
        field("name=\"expires_after[anchor]\"", "created_at") + &field("name=\"expires_after[seconds]\"", "3600");
    for form in [
        format!("{file}{purpose}{expiry}--B--\r\n"),
        format!("{expiry}{purpose}{file}--B--"),
        format!("{purpose}{file}{expiry}--B--\r\n"),
    ] {
        for chunked in [None, Some(7)] {
            let file = send(app, "/v1/files", "B", form.as_bytes(), chunked).await.ok();
            assert_eq!((&file["purpose"], &file["bytes"]), (&json!("vision"), &json!(3)));
            assert!(file["expires_at"].is_i64());
        }
    }
}

async fn a_boundary_may_be_quoted_or_unusual(app: &TestApp) {
    let upload = app.client.upload(1).await;
    for (header, boundary) in [
        ("\"jm8Jp==_=CVu\"", "jm8Jp==_=CVu"),
        ("-----------RubyMultipartPost-1a2b", "-----------RubyMultipartPost-1a2b"),
    ] {
        let form = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"x\"\r\n\r\nz\r\n--{boundary}--\r\n"
        );
        let part = send(app, &format!("/v1/uploads/{upload}/parts"), header, form.as_bytes(), None).await.ok();
        assert_eq!(part["bytes"], 1);
    }
}

async fn a_part_may_have_no_content_type_or_an_empty_one(app: &TestApp) {
    for extra in [
        "",
        "\r\nContent-Type:",
        "\r\nContent-Type: ",
        "\r\nContent-Transfer-Encoding: binary\r\nContent-Type: text/x-c++",
    ] {
        let form = field("name=\"purpose\"", "evals")
            + &field(&format!("name=\"file\"; filename=\"f\"{extra}"), "abc")
            + "--B--\r\n";
        assert_eq!(send(app, "/v1/files", "B", form.as_bytes(), None).await.ok()["bytes"], 3, "{extra:?}");
    }
}

async fn a_wrong_content_length_of_a_part_is_ignored(app: &TestApp) {
    let upload = app.client.upload(5).await;
    for length in ["3", "5", "500", "x"] {
        let form = field(&format!("name=\"data\"; filename=\"x\"\r\nContent-Length: {length}"), "hello") + "--B--\r\n";
        let part = send(app, &format!("/v1/uploads/{upload}/parts"), "B", form.as_bytes(), None).await.ok();
        assert_eq!(part["bytes"], 5, "{length}");
    }
}

async fn file_names_are_utf_8_with_three_percent_escapes(app: &TestApp) {
    for (sent, kept) in
        [("你好.txt", "你好.txt"), ("a%22b", "a\"b"), ("100%.txt", "100%.txt"), ("../../x", "../../x"), ("🦀", "🦀")]
    {
        let form = field("name=\"purpose\"", "evals")
            + &field(&format!("name=\"file\"; filename=\"{sent}\""), "abc")
            + "--B--\r\n";
        let file = send(app, "/v1/files", "B", form.as_bytes(), None).await.ok();
        assert_eq!(file["filename"], kept);
        assert_eq!(app.client.download(&id(&file)).await, b"abc");
    }
    let form = field("name=\"purpose\"", "evals") + &field("name=\"file\"", "abc") + "--B--\r\n";
    assert_eq!(send(app, "/v1/files", "B", form.as_bytes(), None).await.ok()["filename"], "upload");
}

async fn a_boundary_may_be_split_between_chunks(app: &TestApp) {
    let upload = app.client.upload(9).await;
    let path = format!("/v1/uploads/{upload}/parts");
    let form = field("name=\"data\"; filename=\"x\"", "\r\n--A\r\n-\r") + "--B--\r\n";
    for size in 1..=form.len().min(40) {
        let part = send(app, &path, "B", form.as_bytes(), Some(size)).await.ok();
        assert_eq!((&part["bytes"], size), (&json!(9), size));
    }
}

async fn text_that_resembles_a_boundary_is_content(app: &TestApp) {
    let content = "--B\r\n-B\r\n--b--\r--B\n--B\r\n --B--".to_owned() + &"\r\n-".repeat(1000);
    let form = field("name=\"purpose\"", "evals") + &field("name=\"file\"; filename=\"f\"", &content) + "--B--\r\n";
    let file = send(app, "/v1/files", "B", form.as_bytes(), None).await.ok();
    assert_eq!(app.client.download(&id(&file)).await, content.as_bytes());
}

async fn a_line_that_only_begins_with_a_boundary_is_content(app: &TestApp) {
    let content = "\r\n--B1\r\n--B-\r\n--B x\r\n--B\rx\r\n--B -- \r\n--Bx--".repeat(100);
    let form = field("name=\"purpose\"", "evals") + &field("name=\"file\"; filename=\"f\"", &content) + "--B--\r\n";
    for chunked in [None, Some(7)] {
        let file = send(app, "/v1/files", "B", form.as_bytes(), chunked).await.ok();
        assert_eq!(app.client.download(&id(&file)).await, content.as_bytes());
    }
}

async fn text_around_the_form_and_blanks_after_a_boundary_are_skipped(app: &TestApp) {
    let (purpose, file) = (field("name=\"purpose\"", "evals"), field("name=\"file\"; filename=\"f\"", "abc"));
    let padded = purpose.replace("--B\r\n", "--B \t \r\n");
    for form in [
        format!("\r\n{purpose}{file}--B--"),
        format!("This is --B or\r\n--Bx, no boundary\r\n{purpose}{file}--B--\r\n"),
        format!("{purpose}{file}--B--\r\n{purpose}{file}--B--\r\n"),
        format!("{padded}{file}--B--  \r\nepilogue"),
        format!("{padded}{file}--B--\n"),
    ] {
        for chunked in [None, Some(3)] {
            let file = send(app, "/v1/files", "B", form.as_bytes(), chunked).await.ok();
            assert_eq!(app.client.download(&id(&file)).await, b"abc", "{form:?}");
        }
    }
}

async fn lines_that_end_in_lf_alone_are_refused(app: &TestApp) {
    let form = field("name=\"purpose\"", "evals") + &field("name=\"file\"", "abc") + "--B--\r\n";
    let (first, second) = (form.replace("\r\n", "\n"), form.replacen("abc\r\n--B", "abc\r\n--B\n", 1));
    for form in [first, second, format!("\n{form}"), format!("preamble\n{form}")] {
        for chunked in [None, Some(1), Some(10)] {
            let error = send(app, "/v1/files", "B", form.as_bytes(), chunked).await.error(400, None);
            assert!(error["message"].as_str().unwrap().contains("ends in LF alone; lines must end in CRLF"), "{error}");
        }
    }
}
