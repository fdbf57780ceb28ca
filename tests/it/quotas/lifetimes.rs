//! Default and longest lifetimes of files, by purpose and project.

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::set;
use crate::support::client::id;
use crate::support::{Answer, Client, TestApp, eventually};

crate::on_a_directory_and_s3! {
    a_file_without_a_lifetime_gets_the_default_of_its_purpose
        (WINDLASS_PROJECT_FILE_LIFETIMES = "user_data=2h,batch=3h,evals=3h", WINDLASS_PROJECT_MAX_FILE_LIFETIMES = "vision=1h");
    a_lifetime_beyond_the_longest_is_refused (WINDLASS_PROJECT_MAX_FILE_LIFETIMES = "*=1d");
    the_rules_of_a_project_take_precedence (WINDLASS_PROJECT_FILE_LIFETIMES = "user_data=2h");
}

/// The lifetime of a file in seconds.
fn lifetime(file: &Value) -> Option<i64> {
    Some(file["expires_at"].as_i64()? - file["created_at"].as_i64().unwrap())
}

async fn begin(client: &Client, purpose: &str, seconds: Option<i64>) -> Answer {
    let mut body = json!({"filename": "a.jsonl", "purpose": purpose, "bytes": 0, "mime_type": "image/png"});
    if purpose != "vision" {
        body["mime_type"] = "application/jsonl".into();
    }
    if let Some(seconds) = seconds {
        body["expires_after"] = json!({"anchor": "created_at", "seconds": seconds});
    }
    client.post("/v1/uploads", &body).await
}

/// Creates an upload and completes it. Returns the lifetime of the file.
async fn complete(client: &Client, purpose: &str, seconds: Option<i64>) -> Option<i64> {
    let upload = id(&begin(client, purpose, seconds).await.ok());
    lifetime(&client.complete(&upload, &[]).await.ok()["file"])
}

async fn form(client: &Client, seconds: i64) -> Answer {
    let form = Form::new()
        .text("purpose", "user_data")
        .text("expires_after[anchor]", "created_at")
        .text("expires_after[seconds]", seconds.to_string())
        .part("file", Part::bytes(b"a file".as_slice()).file_name("data.bin"));
    client.send(client.request(Method::POST, "/v1/files").multipart(form)).await
}

async fn a_file_without_a_lifetime_gets_the_default_of_its_purpose(app: &TestApp) {
    let client = &app.client;
    assert_eq!(complete(client, "user_data", None).await, Some(7200));
    assert_eq!(complete(client, "batch", None).await, Some(10_800));
    assert_eq!(complete(client, "vision", None).await, Some(3600), "the longest bounds the default");
    assert_eq!(complete(client, "user_data", Some(86_400)).await, Some(86_400));
    assert_eq!(lifetime(&client.create_file("user_data", "a").await.ok()), Some(7200));
    assert_eq!(lifetime(&client.create_file("evals", "a").await.ok()), Some(10_800));
}

async fn a_lifetime_beyond_the_longest_is_refused(app: &TestApp) {
    let client = &app.client;
    let is_refused = |answer: &Answer| {
        let error = answer.error(400, Some("expires_after"));
        assert!(error["message"].as_str().unwrap().contains("at most 86400 seconds"), "{error}");
    };
    is_refused(&begin(client, "user_data", Some(86_401)).await);
    is_refused(&form(client, 86_401).await);
    let signed = json!({"method": "PUT", "filename": "a.bin", "purpose": "user_data",
                        "expires_after": {"anchor": "created_at", "seconds": 86_401}});
    is_refused(&client.post("/v1/files/signed_url", &signed).await);
    assert_eq!(lifetime(&form(client, 86_400).await.ok()), Some(86_400));
    assert_eq!(complete(client, "user_data", None).await, Some(86_400), "no file lives forever");
    assert_eq!(complete(client, "batch", None).await, Some(86_400));
}

async fn the_rules_of_a_project_take_precedence(app: &TestApp) {
    set(app, "default", &["--file-lifetimes", "user_data=5h", "--max-file-lifetimes", "*=6h"]);
    assert_eq!(complete(&app.client, "user_data", None).await, Some(18_000));
    assert_eq!(complete(&app.client, "batch", None).await, Some(21_600));
    begin(&app.client, "user_data", Some(21_601)).await.error(400, Some("expires_after"));
    assert_eq!(complete(app.stranger(), "user_data", None).await, Some(7200));
    assert_eq!(complete(app.stranger(), "evals", Some(2_592_000)).await, Some(2_592_000));
    set(app, "default", &["--file-lifetimes", "", "--max-file-lifetimes", ""]);
    // The rules are cached for a few seconds.
    eventually("the rules are removed", async || complete(&app.client, "user_data", None).await == Some(7200)).await;
}
