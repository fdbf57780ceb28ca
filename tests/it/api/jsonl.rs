//! Files for `batch` and `fine-tune`: checks of their names and lines.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use reqwest::Body;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::client::{Answer, id};
use crate::support::store::object_name;
use crate::support::{TestApp, eventually};

crate::on_a_directory_and_s3! {
    names_for_batch_and_fine_tune_must_end_in_jsonl;
    names_are_not_checked_if_the_check_is_off (WINDLASS_JSONL_CHECK = "off");
    lines_are_not_checked_by_default (WINDLASS_LEDGER_PART_BYTES = "0");
    the_lines_of_a_form_are_checked_wherever_its_purpose_is
        (WINDLASS_JSONL_CHECK = "lines", WINDLASS_MAX_PART_BYTES = "7");
    a_form_is_refused_at_its_first_invalid_line_if_its_purpose_is_known (WINDLASS_JSONL_CHECK = "lines");
    the_lines_of_an_upload_are_checked_in_the_listed_order
        (WINDLASS_JSONL_CHECK = "lines", WINDLASS_LEDGER_PART_BYTES = "6");
    lines_and_md5_are_both_checked (WINDLASS_JSONL_CHECK = "lines");
    errors_of_the_parts_and_the_upload_take_precedence (WINDLASS_JSONL_CHECK = "lines");
    a_repeated_completion_reads_nothing (WINDLASS_JSONL_CHECK = "lines", WINDLASS_LEDGER_PART_BYTES = "0");
    a_batch_has_at_most_50_000_requests (WINDLASS_JSONL_CHECK = "lines");
    other_purposes_accept_any_lines (WINDLASS_JSONL_CHECK = "lines");
}

async fn begin(app: &TestApp, purpose: &str, filename: &str, bytes: usize) -> Answer {
    let body = json!({"filename": filename, "purpose": purpose, "bytes": bytes, "mime_type": "text/jsonl"});
    app.client.post("/v1/uploads", &body).await
}

/// Creates an Upload with these Parts. Returns their ids.
async fn upload_of(app: &TestApp, purpose: &str, parts: &[&str]) -> (String, Vec<String>) {
    let bytes = parts.iter().map(|it| it.len()).sum();
    let upload = id(&begin(app, purpose, "lines.jsonl", bytes).await.ok());
    let mut ids = Vec::new();
    for part in parts {
        ids.push(app.client.part(&upload, *part).await);
    }
    (upload, ids)
}

async fn complete(app: &TestApp, upload: &str, parts: &[String]) -> Answer {
    app.client.complete(upload, &parts.iter().map(String::as_str).collect::<Vec<_>>()).await
}

fn field(head: &str, content: &[u8]) -> Vec<u8> {
    [format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes(), content, b"\r\n"].concat()
}

async fn send(app: &TestApp, body: impl Into<Body>) -> Answer {
    let request = app.client.request("POST".parse().unwrap(), "/v1/files");
    app.client.send(request.header("content-type", "multipart/form-data; boundary=B").body(body)).await
}

/// Sends a file in one request, with its purpose before it, and again with its purpose after it.
async fn both_forms(app: &TestApp, purpose: &str, filename: &str, content: &[u8]) -> [Answer; 2] {
    let file = field(&format!("name=\"file\"; filename=\"{filename}\""), content);
    let purpose = field("name=\"purpose\"", purpose.as_bytes());
    let before = [&purpose[..], &file, b"--B--\r\n"].concat();
    let after = [&file[..], &purpose, b"--B--\r\n"].concat();
    [send(app, before).await, send(app, after).await]
}

async fn count(app: &TestApp, what: &str) -> i64 {
    let query = sqlx::AssertSqlSafe(format!("select count(*) from {what}"));
    sqlx::query_scalar(query).fetch_one(&app.pool).await.unwrap()
}

#[track_caller]
fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}

async fn names_for_batch_and_fine_tune_must_end_in_jsonl(app: &TestApp) {
    for (purpose, api) in [("batch", "Batch"), ("fine-tune", "Fine-Tuning")] {
        for wrong in ["requests.json", "requests.jsonl.gz", "requests.txt", "jsonl"] {
            let expected =
                format!("Invalid file format for {api} API. Must be .jsonl, but the file is named '{wrong}'.");
            let error = begin(app, purpose, wrong, 2).await.error(400, Some("filename"));
            assert_eq!(message(&error), expected);
            for answer in both_forms(app, purpose, wrong, b"{}").await {
                assert_eq!(message(&answer.error(400, Some("file"))), expected);
            }
        }
    }
    assert_eq!(count(app, "upload where origin = 'client'").await, 0);
    for purpose in ["batch", "fine-tune"] {
        for right in ["requests.jsonl", "REQUESTS.JSONL", "a.b.JsonL"] {
            assert_eq!(begin(app, purpose, right, 2).await.ok()["filename"], right);
            for answer in both_forms(app, purpose, right, b"{}").await {
                assert_eq!(answer.ok()["filename"], right);
            }
        }
    }
    for purpose in ["user_data", "evals"] {
        begin(app, purpose, "requests.txt", 2).await.ok();
        for answer in both_forms(app, purpose, "requests.txt", b"{}").await {
            answer.ok();
        }
    }
}

async fn names_are_not_checked_if_the_check_is_off(app: &TestApp) {
    begin(app, "batch", "requests.txt", 2).await.ok();
    for answer in both_forms(app, "fine-tune", "requests.txt", b"no lines").await {
        answer.ok();
    }
}

async fn lines_are_not_checked_by_default(app: &TestApp) {
    for answer in both_forms(app, "batch", "a.jsonl", b"no\nlines").await {
        answer.ok();
    }
    let (upload, parts) = upload_of(app, "batch", &["no\nlines"]).await;
    let object = object_name(&parts[0]);
    app.store.remove(&object).await;
    complete(app, &upload, &parts).await.ok();
    app.store.put(&object, "no\nlines").await;
}

/// Contents, and the beginning of the error message for invalid ones.
const CONTENTS: &[(&[u8], Option<&str>)] = &[
    (b"", None),
    (b"{}", None),
    (b"{\"custom_id\": \"a\"}\r\n{\"custom_id\": \"b\"}\r\n", None),
    (b"\xef\xbb\xbf{\"a\":\"\xe4\xbd\xa0\"}\n{}\n", None),
    (b"{}\n[1]\n", Some("Line 2 is not a JSON object: expected '{' but found '[' at byte 1 of the line; ")),
    (
        b"{}\n\n{}\n",
        Some("Line 2 is not a JSON object: expected '{' but found the end of the line at byte 1 of the line; "),
    ),
    (
        b"{\n  \"a\": 1\n}\n",
        Some(
            "Line 1 is not a JSON object: expected a name in double quotes or '}' but found the end of the line at byte 2 of the line; ",
        ),
    ),
    (
        b"{}\n{}\n{\"a\":\"\xff\"}\n",
        Some("Line 3 is not a JSON object: expected UTF-8 but found 0xFF at byte 7 of the line; "),
    ),
    (
        b"{}\n{\"a\":\"b\"",
        Some("Line 2 is not a JSON object: expected ',' or '}' but found the end of the file at byte 9 of the line; "),
    ),
    (
        b"{}\n{\"a\":\"\0\"}",
        Some(
            "Line 2 is not a JSON object: expected a character (control characters must be escaped) or the closing quote but found 0x00 at byte 7 of the line; ",
        ),
    ),
    (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        Some("Line 1 is not a JSON object: expected '{' but found 0x1F at byte 1 of the line; "),
    ),
];

async fn the_lines_of_a_form_are_checked_wherever_its_purpose_is(app: &TestApp) {
    for (content, expected) in CONTENTS {
        for purpose in ["batch", "fine-tune"] {
            for answer in both_forms(app, purpose, "lines.jsonl", content).await {
                match expected {
                    None => assert_eq!(app.client.download(&id(&answer.ok())).await, *content),
                    Some(expected) => {
                        let error = answer.error(400, Some("file"));
                        assert!(message(&error).starts_with(expected), "{error}");
                        assert!(message(&error).contains(&format!("'{purpose}' must have one JSON object per line")));
                    }
                }
            }
        }
    }
    eventually("no upload is pending", async || count(app, "upload where status = 'pending'").await == 0).await;
}

async fn a_form_is_refused_at_its_first_invalid_line_if_its_purpose_is_known(app: &TestApp) {
    let purpose = field("name=\"purpose\"", b"batch");
    let head = field("name=\"file\"; filename=\"a.jsonl\"", b"{}\n{}\nnothing of the kind\n");
    let begun = [&purpose[..], &head[..head.len() - 2]].concat();
    // The rest of the body is never sent.
    let body = Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>(begun)]).chain(stream::pending()));
    let answer = timeout(Duration::from_mins(5), send(app, body)).await.unwrap();
    assert!(
        message(&answer.error(400, Some("file")))
            .starts_with("Line 3 is not a JSON object: expected '{' but found 'n' at byte 1")
    );
}

async fn the_lines_of_an_upload_are_checked_in_the_listed_order(app: &TestApp) {
    for (content, expected) in CONTENTS {
        // Parts in the store and in the ledger, and boundaries in the middle of lines.
        for size in [1, 5, 8, 100] {
            let upload = id(&begin(app, "fine-tune", "lines.jsonl", content.len()).await.ok());
            let mut parts = Vec::new();
            for part in content.chunks(size).rev() {
                parts.insert(0, app.client.part(&upload, part).await);
            }
            let answer = complete(app, &upload, &parts).await;
            match expected {
                None => assert_eq!(app.client.download(&id(&answer.ok()["file"])).await, *content),
                Some(expected) => {
                    let error = answer.error(400, Some("part_ids"));
                    assert!(message(&error).starts_with(expected), "{error}");
                    assert_eq!(error["code"], "invalid_jsonl");
                    assert_eq!(app.client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"], "pending");
                }
            }
        }
    }
    let (upload, parts) = upload_of(app, "batch", &["{\"a\": 1}", "\n", "{\"b\":", " 2}\n"]).await;
    let wrong = [0, 2, 1, 3].map(|it| parts[it].clone());
    let error = complete(app, &upload, &wrong).await.error(400, Some("part_ids"));
    assert!(
        message(&error)
            .starts_with("Line 1 is not a JSON object: expected the end of the line but found '{' at byte 9"),
        "{error}"
    );
    let file = id(&complete(app, &upload, &parts).await.ok()["file"]);
    assert_eq!(app.client.download(&file).await, b"{\"a\": 1}\n{\"b\": 2}\n");
}

async fn lines_and_md5_are_both_checked(app: &TestApp) {
    let body = |parts: &[String], md5: &str| json!({"part_ids": parts, "md5": md5});
    let (upload, parts) = upload_of(app, "batch", &["abc"]).await;
    let path = format!("/v1/uploads/{upload}/complete");
    app.client.post(&path, &body(&parts, "00000000000000000000000000000000")).await.error(400, Some("md5"));
    app.client.post(&path, &body(&parts, "900150983cd24fb0d6963f7d28e17f72")).await.error(400, Some("part_ids"));
    assert_eq!(count(app, "file").await, 0);
    let (upload, parts) = upload_of(app, "batch", &["{}"]).await;
    let path = format!("/v1/uploads/{upload}/complete");
    app.client.post(&path, &body(&parts, "00000000000000000000000000000000")).await.error(400, Some("md5"));
    app.client.post(&path, &body(&parts, "99914b932bd37a50b983c5e7c90ae93b")).await.ok();
}

async fn errors_of_the_parts_and_the_upload_take_precedence(app: &TestApp) {
    let (upload, parts) = upload_of(app, "batch", &["no", "lines"]).await;
    let error = complete(app, &upload, &parts[..1]).await.error(400, Some("part_ids"));
    assert!(message(&error).contains("add up to 2 bytes"), "{error}");
    app.stranger().complete(&upload, &[&parts[0]]).await.error(404, Some("upload_id"));
    app.client.cancel(&upload).await.ok();
    complete(app, &upload, &parts).await.error(400, Some("upload_id"));
    let (upload, parts) = upload_of(app, "batch", &["no", "lines"]).await;
    app.expire(&upload).await;
    complete(app, &upload, &parts).await.error(410, Some("upload_id"));
}

async fn a_repeated_completion_reads_nothing(app: &TestApp) {
    let (upload, parts) = upload_of(app, "batch", &["{}\n"]).await;
    let completed = complete(app, &upload, &parts).await.ok();
    let object = object_name(&parts[0]);
    app.store.remove(&object).await;
    assert_eq!(complete(app, &upload, &parts).await.ok(), completed);
    complete(app, &upload, &[]).await.error(400, Some("part_ids"));
    app.store.put(&object, "{}\n").await;
    // The first completion reads the object.
    let (upload, parts) = upload_of(app, "batch", &["{}\n"]).await;
    let object = object_name(&parts[0]);
    app.store.remove(&object).await;
    complete(app, &upload, &parts).await.error(500, None);
    app.store.put(&object, "{}\n").await;
    complete(app, &upload, &parts).await.ok();
}

async fn a_batch_has_at_most_50_000_requests(app: &TestApp) {
    let most = "{\"custom_id\":\"a\"}\n".repeat(50_000);
    let more = format!("{most}{{}}");
    let expected = "Line 50001 exceeds the limit: a file for the purpose 'batch' may have at most 50000 requests";
    for answer in both_forms(app, "batch", "a.jsonl", more.as_bytes()).await {
        let error = answer.error(400, Some("file"));
        assert!(message(&error).starts_with(expected), "{error}");
    }
    for (purpose, content) in [("batch", &most), ("fine-tune", &more)] {
        for answer in both_forms(app, purpose, "a.jsonl", content.as_bytes()).await {
            answer.ok();
        }
    }
    let (upload, parts) = upload_of(app, "batch", &[&most, "{}"]).await;
    let error = complete(app, &upload, &parts).await.error(400, Some("part_ids"));
    assert!(message(&error).starts_with(expected), "{error}");
    let (upload, parts) = upload_of(app, "batch", &[&most]).await;
    complete(app, &upload, &parts).await.ok();
}

async fn other_purposes_accept_any_lines(app: &TestApp) {
    for answer in both_forms(app, "user_data", "a.jsonl", b"no\nlines").await {
        answer.ok();
    }
    let (upload, parts) = upload_of(app, "evals", &["no\nlines"]).await;
    complete(app, &upload, &parts).await.ok();
}
