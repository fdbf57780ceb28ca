//! Pipelined requests: sent without waiting for responses.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::peer::{Peer, app, head};
use crate::support::TestApp;

const CONNECTIONS: usize = 100;

fn resident_mib(app: &TestApp) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", app.program(|it| it.pid()))).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_whose_responses_are_not_read_take_little_memory() {
    let app = app(&[]).await;
    let before = resident_mib(&app);
    let get = head("GET /nothing", &[]);
    let sized = head("POST /nothing", &["content-length: 5"]) + "hello";
    let chunked = head("POST /nothing", &["transfer-encoding: chunked"]) + "5\r\nhello\r\n0\r\n\r\n";
    for requests in [
        head("OPTIONS /v1/files", &[]).repeat(10_000),
        get.repeat(10_000),
        head("GET /openapi.json", &[]).repeat(10_000),
        sized + &get.repeat(10_000),
        chunked + &get.repeat(10_000),
    ] {
        let (line, requests) = (requests.lines().next().unwrap().to_owned(), Arc::new(requests));
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut connection = socket.connect(app.client.socket_address().parse().unwrap()).await.unwrap();
            let requests = requests.clone();
            held.push(tokio::spawn(async move {
                let sending = async { while connection.write_all(requests.as_bytes()).await.is_ok() {} };
                timeout(Duration::from_secs(3), sending).await.ok();
                connection
            }));
        }
        let mut connections = Vec::new();
        for connection in held {
            connections.push(connection.await.unwrap());
        }
        let growth = resident_mib(&app).saturating_sub(before);
        assert!(growth < CONNECTIONS / 4, "{CONNECTIONS} connections with {line} take {growth} MiB");
        assert_eq!(app.client.alone().get("/v1/files").await.status, 200);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = app(&[]).await;
    let key = format!("authorization: Bearer {}", app.client.key);
    let upload = app.client.upload(500 * 5).await;
    let connection = Peer::connect(&app).await.0.into_std().unwrap();
    let mut writing = TcpStream::from_std(connection.try_clone().unwrap()).unwrap();
    let mut reading = Peer(TcpStream::from_std(connection).unwrap());
    let mut sent = Vec::new();
    for _ in 0..500 {
        sent.extend(head("GET /v1/files", &[&key]).into_bytes());
        sent.extend(app.client.raw_part(&upload, b"hello"));
        sent.extend(head("GET /nothing", &[]).into_bytes());
    }
    let read = async {
        for _ in 0..500 {
            for expected in [200, 200, 404] {
                assert_eq!(reading.response().await.unwrap().status(), expected);
            }
        }
    };
    let (written, ()) = tokio::join!(writing.write_all(&sent), read);
    written.unwrap();
    app.nothing_is_lost_and_nothing_is_left().await;
}
