//! OpenAI's Node SDK in a web page, which Debian's Chromium loads from a test server and which reports its result
//! there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{StoreKind, TestApp, tools};

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_works_in_a_page_whose_origin_is_listed_and_in_no_other() {
    let (Some(chromium), Some(sdk)) =
        (tools::program("chromium"), tools::tool("../tests/sdk/node/node_modules/openai"))
    else {
        return;
    };
    let pages = Pages::serve(sdk).await;
    let origins = format!("http://127.0.0.1:{}", pages.port);
    let Some(app) = TestApp::start(StoreKind::Directory, &[("WINDLASS_CORS_ORIGINS", &origins)]).await else { return };
    let query = format!("?server={}&key={}", app.client.address, app.client.key);
    let Pages { port, mut outcomes } = pages;
    let mut visit = async |host: &str| {
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Command::new(&chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("http://{host}:{port}/{query}"))
            .stderr(Stdio::null()) // Chromium logs an error for each missing desktop service.
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let outcome = timeout(Duration::from_mins(2), outcomes.recv()).await.expect("no report").unwrap();
        browser.kill().await.unwrap();
        outcome
    };
    assert_eq!(visit("127.0.0.1").await, "passed");
    let elsewhere = visit("localhost").await;
    assert!(elsewhere.contains("Connection error"), "{elsewhere}");
    app.nothing_is_lost_and_nothing_is_left().await;
}

/// The server of the page and the SDK.
struct Pages {
    port: u16,
    /// The results that pages have reported.
    outcomes: mpsc::UnboundedReceiver<String>,
}

impl Pages {
    async fn serve(sdk: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (report, outcomes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, sdk.clone(), report.clone()));
            }
        });
        Self { port, outcomes }
    }
}

/// Answers one request.
async fn answer(socket: TcpStream, sdk: PathBuf, report: mpsc::UnboundedSender<String>) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let before = head.len();
        if socket.read_line(&mut head).await? == 0 {
            return Ok(());
        }
        match head[before..].trim().to_ascii_lowercase().strip_prefix("content-length:") {
            Some(text) => length = text.trim().parse().unwrap(),
            None if head[before..].trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/browser");
    let file = match path {
        "/outcome" => {
            report.send(String::from_utf8(body).unwrap()).ok();
            None
        }
        "/" => Some(page.join("index.html")),
        "/suite.mjs" => Some(page.join("suite.mjs")),
        other => other.strip_prefix("/openai/").map(|it| sdk.join(it)),
    };
    let content = file.as_ref().and_then(|it| std::fs::read(it).ok());
    let status = if content.is_some() || path == "/outcome" { "200 OK" } else { "404 Not Found" };
    let kind = if path == "/" { "text/html" } else { "text/javascript" };
    let content = content.unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        content.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&content).await
}
