//! Behind nginx with its default settings: whatever a file's name, its download fits the proxy's buffers.

use serde_json::json;

use crate::support::client::id;
use crate::support::nginx::Nginx;
use crate::support::{Client, StoreKind, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_any_name_is_downloaded_behind_nginx() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let Some(nginx) = Nginx::before(&app.client.address) else { return };
    let behind = Client::new(&nginx.address, &app.client.key);
    for name in [
        format!("{}.pdf", "报".repeat(400)),
        format!("{}.tar.gz", "🦀".repeat(505)),
        "\u{202e}".repeat(512),
        "%".repeat(512),
        "x".repeat(512),
        "..".to_owned(),
    ] {
        let asked = json!({"filename": name, "purpose": "user_data", "bytes": 5, "mime_type": "application/pdf"});
        let upload = id(&behind.post("/v1/uploads", &asked).await.ok());
        let part = behind.part(&upload, "bytes").await;
        let file = behind.complete(&upload, &[&part]).await.ok()["file"].clone();
        assert_eq!(file["filename"], name, "the JSON does not have the whole name");
        let answer = behind.get(&format!("/v1/files/{}/content", id(&file))).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"bytes"[..]), "{name}");
        let head: usize = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        assert!(head < 2048, "{head} bytes");
        let saved = answer.header("content-disposition").unwrap();
        let extension = name.find('.').filter(|at| *at > 2).map_or("", |at| &name[at..]);
        assert!(saved.trim_end_matches('"').ends_with(extension), "{saved}");
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}
