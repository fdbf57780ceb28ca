//! Signed URLs with clients that know nothing of this API: curl, wget, aria2c, and a batch runner.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{TestApp, tools};

crate::on_a_directory_and_s3! {
    curl_downloads_and_uploads;
    wget_resumes_a_download;
    aria2c_downloads_with_eight_connections;
    a_batch_runner_reads_and_writes_urls;
}

/// 12 MB that differ everywhere.
fn content() -> Vec<u8> {
    (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

async fn download_url(app: &TestApp, bytes: &[u8]) -> String {
    let file = app.client.file(bytes).await;
    url(&app.client.post(&format!("/v1/files/{file}/signed_url"), &json!({})).await.ok())
}

async fn upload_url(app: &TestApp, name: &str) -> String {
    let body = json!({"method": "PUT", "filename": name, "purpose": "user_data"});
    url(&app.client.post("/v1/files/signed_url", &body).await.ok())
}

fn url(signed: &Value) -> String {
    signed["url"].as_str().unwrap().to_owned()
}

/// The bytes of the only file of this name.
async fn uploaded(app: &TestApp, name: &str) -> Vec<u8> {
    let files = app.client.get("/v1/files").await.ok();
    let named: Vec<_> = files["data"].as_array().unwrap().iter().filter(|it| it["filename"] == name).collect();
    assert_eq!(named.len(), 1, "{files}");
    app.client.download(named[0]["id"].as_str().unwrap()).await
}

/// Runs a program in a folder; false if it is not installed. Shows its output if it fails.
async fn run(program: Option<impl AsRef<Path>>, folder: &TempDir, arguments: &[&str]) -> bool {
    let Some(program) = program else { return false };
    let mut command = Command::new(program.as_ref());
    let output = command.args(arguments).current_dir(folder).kill_on_drop(true).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{errors}", String::from_utf8_lossy(&output.stdout));
    true
}

async fn curl_downloads_and_uploads(app: &TestApp) {
    let (folder, content) = (tempfile::tempdir().unwrap(), content());
    let curl = || tools::program("curl");
    let options = ["--silent", "--show-error", "--fail"];
    let download = download_url(app, &content).await;
    if !run(curl(), &folder, &[&options[..], &["--remote-name", &download]].concat()).await {
        return;
    }
    assert_eq!(fs::read(folder.path().join("data.bin")).unwrap(), content);
    for (name, how) in
        [("file", &["--upload-file", "data.bin"][..]), ("data", &["-X", "PUT", "--data-binary", "@data.bin"])]
    {
        run(curl(), &folder, &[&options[..], how, &[&upload_url(app, name).await]].concat()).await;
        assert_eq!(uploaded(app, name).await, content, "{name}");
    }
    // From standard input, and therefore without a length.
    let url = upload_url(app, "piped").await;
    let pipe = format!("cat data.bin | curl --silent --show-error --fail --upload-file - '{url}'");
    run(tools::program("sh"), &folder, &["-c", &pipe]).await;
    assert_eq!(uploaded(app, "piped").await, content);
}

async fn wget_resumes_a_download(app: &TestApp) {
    let (folder, content) = (tempfile::tempdir().unwrap(), content());
    let partial = folder.path().join("data.bin");
    fs::write(&partial, &content[..5_000_001]).unwrap();
    let url = download_url(app, &content).await;
    if run(tools::program("wget"), &folder, &["--no-verbose", "--continue", "--no-proxy", &url]).await {
        assert_eq!(fs::read(partial).unwrap(), content);
    }
}

async fn aria2c_downloads_with_eight_connections(app: &TestApp) {
    let (folder, content) = (tempfile::tempdir().unwrap(), content());
    let url = download_url(app, &content).await;
    let options = ["--no-conf", "--max-connection-per-server=8", "--split=8", "--min-split-size=1M", "--quiet"];
    if run(tools::program("aria2c"), &folder, &[&options[..], &[&url]].concat()).await {
        assert_eq!(fs::read(folder.path().join("data.bin")).unwrap(), content);
        let requests = app.log().lines().filter(|it| it.contains("/signed") && it.contains("206")).count();
        assert!(requests >= 2, "{requests} ranges were requested");
    }
}

async fn a_batch_runner_reads_and_writes_urls(app: &TestApp) {
    let folder = tempfile::tempdir().unwrap();
    let lines = (0..10_000).map(|it| json!({"custom_id": it}).to_string() + "\n").collect::<String>();
    let (input, output) = (download_url(app, lines.as_bytes()).await, upload_url(app, "output.jsonl").await);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/python/batch_runner.py");
    let arguments = [script.to_str().unwrap(), &input, &output, "lines"];
    if run(tools::tool("venv/bin/python"), &folder, &arguments).await {
        assert_eq!(uploaded(app, "output.jsonl").await, lines.as_bytes());
    }
}
