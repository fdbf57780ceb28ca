//! Every head, body, response and idle period has a deadline.

use tokio::io::AsyncReadExt as _;

use super::peer::{Peer, app, chunk, head};
use crate::support::{TestApp, eventually};

const FORM: &str = "content-type: multipart/form-data; boundary=B";

/// The number of connections that were cut for this reason.
async fn cut(app: &TestApp, reason: &str) -> u64 {
    let metrics = app.client.get("/metrics").await;
    let name = format!("windlass_connections_cut_total{{reason=\"{reason}\"}} ");
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    text.lines().find_map(|it| it.strip_prefix(&name)).map_or(0, |it| it.parse().unwrap())
}

#[tokio::test]
async fn every_head_has_a_deadline_not_only_the_first() {
    let app = app(&[("WINDLASS_HEAD_TIMEOUT", "1s")]).await;
    let request = head("GET /livez", &[]);
    for requests_before in [0, 1, 3] {
        for begun in [1, 10, request.len() - 1] {
            let mut peer = Peer::connect(&app).await;
            for _ in 0..requests_before {
                assert!(peer.send(&request).await);
                assert_eq!(peer.response().await.unwrap().status(), 200);
            }
            assert!(peer.send(&request[..begun]).await);
            let response = peer.response().await.unwrap();
            assert!(response.is_error(408).contains("within 1s"));
            response.is_last();
            peer.closed().await;
        }
    }
    assert_eq!(cut(&app, "head_timeout").await, 9);
}

#[tokio::test]
async fn a_head_that_trickles_in_gets_no_extra_time() {
    let app = app(&[("WINDLASS_HEAD_TIMEOUT", "2s")]).await;
    let mut peer = Peer::connect(&app).await;
    let trickle = async {
        for byte in head("GET /livez", &[&format!("a: {}", "1".repeat(1000))]).bytes() {
            if !peer.send([byte]).await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the service has read the whole head");
    };
    trickle.await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_response() {
    let app = app(&[("WINDLASS_KEEP_ALIVE", "1s")]).await;
    let mut silent = Peer::connect(&app).await;
    assert!(silent.response().await.is_none());
    let mut peer = Peer::connect(&app).await;
    assert!(peer.send(head("GET /livez", &[])).await);
    assert_eq!(peer.response().await.unwrap().status(), 200);
    assert!(peer.response().await.is_none());
    assert!(cut(&app, "idle").await >= 2);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_peer_of_an_idle_connection_is_probed() {
    let app = app(&[]).await;
    let peer = Peer::connect(&app).await;
    let [service, client] = [peer.0.peer_addr().unwrap(), peer.0.local_addr().unwrap()].map(|it| it.port());
    let has_keepalive_timer = async || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ports =
            |line: &str| line.split_whitespace().skip(1).take(2).map(|it| it[9..].to_owned()).collect::<Vec<_>>();
        let line = sockets.lines().skip(1).find(|it| ports(it) == [service, client].map(|it| format!("{it:04X}")));
        // The kind of the active timer: 02 is keepalive.
        line.is_some_and(|it| it.split_whitespace().nth(5).unwrap().starts_with("02:"))
    };
    eventually("the service's socket has a keepalive timer", has_keepalive_timer).await;
}

#[tokio::test]
async fn a_body_that_is_too_slow_is_answered_408() {
    let app = app(&[("WINDLASS_BODY_IDLE", "1s"), ("WINDLASS_MIN_RATE", "1KiB")]).await;
    let upload = app.client.upload(5).await;
    let key = format!("authorization: Bearer {}", app.client.key);
    let part = format!("POST /v1/uploads/{upload}/parts");
    for (line, framing) in [
        (&*part, "transfer-encoding: chunked"),
        (&*part, "content-length: 1000000"),
        ("POST /v1/files", "content-length: 1000000"),
        ("POST /v1/uploads", "transfer-encoding: chunked"),
    ] {
        let mut peer = Peer::connect(&app).await;
        assert!(peer.send(head(line, &[&key, FORM, framing])).await);
        let begin = b"--B\r\nContent-Disposition: form-data; name=\"data\"; filename=\"x\"\r\n\r\n";
        let is_chunked = framing.starts_with('t');
        if line != "POST /v1/uploads" {
            let begin = if is_chunked { [b"43\r\n".as_slice(), begin, b"\r\n"].concat() } else { begin.to_vec() };
            peer.send(begin).await;
        }
        let mut sent = 0;
        while peer.send(if is_chunked { chunk(1) } else { vec![0] }).await {
            sent += 1;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if peer.0.try_read(&mut [0; 1]).is_ok() {
                break;
            }
            assert!(sent < 600, "{line}, {framing}: the body is not cut off");
        }
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test]
async fn a_response_that_is_not_read_is_cut_off() {
    let app = app(&[("WINDLASS_SEND_TIMEOUT", "1s")]).await;
    // More than fits into the buffers of both sockets.
    let file = app.client.file(vec![7; 64 * 1024 * 1024]).await;
    let key = format!("authorization: Bearer {}", app.client.key);
    let mut peer = Peer::connect(&app).await;
    assert!(peer.send(head(&format!("GET /v1/files/{file}/content"), &[&key])).await);
    eventually("the connection is cut", async || cut(&app, "not_reading").await == 1).await;
    // Many small responses that are not read.
    let request = head("GET /openapi.json", &[]);
    let mut peer = Peer::connect(&app).await;
    let mut sent = 0;
    while peer.send(&request).await {
        sent += 1;
        assert!(sent < 1_000_000);
    }
    assert!(cut(&app, "not_reading").await == 2);
}

#[tokio::test]
async fn a_response_that_is_read_too_slowly_is_cut_off() {
    let app = app(&[("WINDLASS_SEND_TIMEOUT", "5s"), ("WINDLASS_MIN_RATE", "4MiB")]).await;
    let file = app.client.file(vec![7; 64 * 1024 * 1024]).await;
    let key = format!("authorization: Bearer {}", app.client.key);
    let mut peer = Peer::connect(&app).await;
    assert!(peer.send(head(&format!("GET /v1/files/{file}/content"), &[&key])).await);
    let (mut some, mut reads) = (vec![0; 40 * 1024], 0);
    // Often enough that the service can write something within every send timeout.
    while peer.0.read(&mut some).await.is_ok_and(|it| it > 0) {
        reads += 1;
        assert!(reads < 600, "the response is not cut off");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(cut(&app, "not_reading").await == 1);
}
