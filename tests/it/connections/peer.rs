//! A client that writes and reads raw bytes.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{StoreKind, TestApp};

/// Timeout that only bounds a hang.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub async fn app(settings: &[(&str, &str)]) -> TestApp {
    TestApp::start(StoreKind::Directory, settings).await.unwrap()
}

/// A connection to the service.
pub struct Peer(pub TcpStream);

/// A response as it came over the wire.
#[derive(Debug)]
pub struct Response {
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|it| it.split_once(": "));
        lines.filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|it| it.1).next()
    }

    /// Asserts that this is an error in the API's format with its usual headers.
    #[track_caller]
    pub fn is_error(&self, status: u16) -> String {
        assert_eq!(self.status(), status, "{self:?}");
        assert!(self.header("x-request-id").is_some_and(|it| it.starts_with("req_")), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    /// Asserts that the connection is closed after this response.
    #[track_caller]
    pub fn is_last(&self) {
        assert_eq!(self.header("connection"), Some("close"), "{self:?}");
    }
}

impl Peer {
    pub async fn connect(app: &TestApp) -> Self {
        Self(TcpStream::connect(app.client.socket_address()).await.unwrap())
    }

    /// Writes as much as the service accepts. Returns whether that was all.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        timeout(PATIENCE, self.0.write_all(bytes.as_ref())).await.expect("the service neither reads nor closes").is_ok()
    }

    /// Reads one response; `None` if the connection ends without one.
    pub async fn response(&mut self) -> Option<Response> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(PATIENCE, self.0.read_u8()).await.expect("there is no response");
            head.push(byte.ok()?);
        }
        let mut response = Response { head: String::from_utf8(head).unwrap(), body: Vec::new() };
        let length = response.header("content-length").map_or(0, |it| it.parse().unwrap());
        response.body.resize(length, 0);
        timeout(PATIENCE, self.0.read_exact(&mut response.body)).await.unwrap().unwrap();
        Some(response)
    }

    /// Waits until the service has closed the connection.
    pub async fn closed(&mut self) {
        let mut rest = vec![0; 64 * 1024];
        let end = async { while self.0.read(&mut rest).await.is_ok_and(|it| it > 0) {} };
        timeout(PATIENCE, end).await.expect("the connection stays open");
    }
}

/// The head of a request with these lines.
pub fn head(line: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().flat_map(|it| [*it, "\r\n"]).collect();
    format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

/// A chunk of zeroes.
pub fn chunk(bytes: usize) -> Vec<u8> {
    let mut chunk = format!("{bytes:x}\r\n").into_bytes();
    chunk.resize(chunk.len() + bytes, 0);
    chunk.extend_from_slice(b"\r\n");
    chunk
}
