//! Heads that are not valid HTTP: the response is an error object like any other.

use super::peer::{Peer, app, head};

#[tokio::test]
async fn a_head_that_cannot_be_parsed_is_answered_like_any_other_error() {
    let app = app(&[]).await;
    for bad in [
        "nonsense\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\n no: name\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n".to_owned(),
        "GET /\u{1} HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        head("POST /v1/files", &["content-length: -1"]),
        head("POST /v1/files", &["content-length: 1", "content-length: 2"]),
        head("POST /v1/files", &["content-length: 1", "transfer-encoding: chunked"]),
        head("POST /v1/files", &["transfer-encoding: gzip"]),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let mut peer = Peer::connect(&app).await;
        assert!(peer.send(&bad).await);
        let response = peer.response().await.unwrap_or_else(|| panic!("no response to {bad:?}"));
        response.is_error(400);
        response.is_last();
        peer.closed().await;
    }
    assert!(!app.log().contains("ERROR"), "a client error was logged as an error");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_431() {
    let app = app(&[]).await;
    let large = "x".repeat(200_000);
    for bad in [
        head(&format!("GET /v1/files?{large}"), &[]),
        head("GET /v1/files", &[&format!("a: {large}")]),
        head("GET /v1/files", &["a: 1"; 96]),
        head("POST /v1/files", &[&format!("cookie: {large}"), "content-length: 100000"]) + &large[..100_000],
    ] {
        for requests_before in [0, 1] {
            let mut peer = Peer::connect(&app).await;
            for _ in 0..requests_before {
                assert!(peer.send(head("GET /livez", &[])).await);
                assert_eq!(peer.response().await.unwrap().status(), 200);
            }
            assert!(peer.send(&bad).await);
            let response = peer.response().await.unwrap();
            assert!(response.is_error(431).contains("32768 bytes"), "{response:?}");
            response.is_last();
            peer.closed().await;
        }
    }
    // Including `host`, the HTTP library parses at most 96 headers.
    for good in [head("GET /livez", &[&format!("a: {}", &large[..30_000])]), head("GET /livez", &["a: 1"; 95])] {
        let mut peer = Peer::connect(&app).await;
        assert!(peer.send(good).await);
        assert_eq!(peer.response().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn options_asterisk_needs_no_key() {
    let app = app(&[]).await;
    let mut peer = Peer::connect(&app).await;
    assert!(peer.send(head("OPTIONS *", &[])).await);
    assert_eq!(peer.response().await.unwrap().status(), 204);
}
