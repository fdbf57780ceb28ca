//! Quotas of projects: exact under load, on several replicas, and released in every way in which an upload or a file can
//! end. Every test ends with a recount.

mod commands;
mod forms;
mod lifetimes;
mod release;
mod replicas;

use serde_json::Value;

use crate::support::{Answer, Client, TestApp};

/// Runs `windlass projects set`.
fn set(app: &TestApp, project: &str, limits: &[&str]) {
    let done = app.run(&[&["projects", "set", project], limits].concat());
    assert!(done.status.success(), "{done:?}");
}

async fn usage(client: &Client) -> Value {
    client.get("/v1/usage").await.ok()
}

/// Bytes, pending uploads and files.
async fn used(client: &Client) -> [u64; 3] {
    let usage = usage(client).await;
    ["bytes", "pending_uploads", "files"].map(|it| usage[it].as_u64().unwrap())
}

/// Asserts that a request was refused because of a quota.
#[track_caller]
fn assert_exceeded(answer: &Answer, text: &str) {
    let param = answer.json()["error"]["param"].as_str().map(str::to_owned);
    let error = answer.error(400, param.as_deref());
    assert_eq!(error["code"], "quota_exceeded", "{error}");
    assert!(error["message"].as_str().unwrap().contains(text), "{error}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}
