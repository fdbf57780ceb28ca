//! Responses sent before the end of the request's body: the client receives them, and the connection is closed.

use tokio::io::AsyncWriteExt as _;

use super::peer::{Peer, app, chunk, head};
use crate::support::client::id;
use crate::support::raw::chunked;
use crate::support::{TestApp, eventually};

const WRONG: &str = "authorization: Bearer wrong-key-wrong-key";
const FORM: &str = "content-type: multipart/form-data; boundary=B";

/// Requests that are answered before their body has been read.
fn refused(app: &TestApp) -> Vec<(u16, String, Vec<String>)> {
    let right = format!("authorization: Bearer {}", app.client.key);
    let json = "content-type: application/json";
    let form = |key: &str| vec![key.to_owned(), FORM.to_owned()];
    let unknown = "/v1/uploads/upload_00000000000000000000000000000000/parts";
    vec![
        (401, "POST /v1/files".to_owned(), form(WRONG)),
        (401, "POST /v1/uploads".to_owned(), vec![json.to_owned()]),
        (404, format!("POST {unknown}"), form(&right)),
        (404, "POST /v1/nothing".to_owned(), form(&right)),
        (404, "POST /nothing".to_owned(), form(WRONG)),
        (405, "PUT /v1/files".to_owned(), form(&right)),
        (400, "POST /v1/files".to_owned(), vec![right.clone(), json.to_owned()]),
        (400, "POST /v1/uploads".to_owned(), vec![right.clone(), json.to_owned()]),
        (200, "GET /v1/files".to_owned(), vec![right]),
    ]
}

#[tokio::test]
async fn an_early_response_is_received_and_ends_the_connection_whatever_the_body() {
    let app = app(&[]).await;
    for (status, line, headers) in refused(&app) {
        for length in [320 * 1024, 8 * 1024 * 1024] {
            // A small JSON body is read before it is checked.
            if line == "POST /v1/uploads" && status == 400 && length < 1024 * 1024 {
                continue;
            }
            for is_chunked in [true, false] {
                let framing = if is_chunked {
                    "transfer-encoding: chunked".to_owned()
                } else {
                    format!("content-length: {length}")
                };
                let headers: Vec<_> = headers.iter().map(String::as_str).chain([&*framing]).collect();
                let mut peer = Peer::connect(&app).await;
                // Like many clients, write the whole body before reading.
                assert!(peer.send(head(&line, &headers)).await);
                for _ in 0..length / 65_536 {
                    assert!(peer.send(if is_chunked { chunk(65_536) } else { vec![0; 65_536] }).await, "{line}");
                }
                if is_chunked {
                    peer.send("0\r\n\r\n").await;
                }
                let response = peer.response().await.unwrap_or_else(|| panic!("no response to {line}, {framing}"));
                assert_eq!(response.status(), status, "{line} {framing}: {response:?}");
                response.is_last();
                peer.closed().await;
            }
        }
    }
}

#[tokio::test]
async fn a_small_body_that_has_arrived_keeps_the_connection_open() {
    let app = app(&[]).await;
    let mut peer = Peer::connect(&app).await;
    // A request without a valid key is answered without waiting for its body.
    for key in [WRONG, "x: none", WRONG, "x: none"] {
        for request in [head("POST /v1/files", &[key, "content-length: 5"]) + "hello", head("GET /v1/files", &[key])] {
            assert!(peer.send(request).await);
            let response = peer.response().await.unwrap();
            response.is_error(401);
            assert_eq!(response.header("connection"), None, "{response:?}");
        }
    }
}

#[tokio::test]
async fn an_endless_body_is_read_for_a_bounded_number_of_bytes_after_the_response() {
    let app = app(&[]).await;
    for framing in ["transfer-encoding: chunked", "content-length: 999999999999"] {
        let mut peer = Peer::connect(&app).await;
        assert!(peer.send(head("POST /v1/files", &[WRONG, FORM, framing])).await);
        let piece = if framing.starts_with('t') { chunk(65_536) } else { vec![0; 65_536] };
        let mut sent = 0;
        while peer.send(&piece).await {
            sent += piece.len();
            assert!(sent < 256 * 1024 * 1024, "{framing}: the service keeps reading");
        }
    }
    nothing_is_open(&app).await;
}

#[tokio::test]
async fn chunked_framing_without_content_is_cut_off() {
    let app = app(&[]).await;
    let key = format!("authorization: Bearer {}", app.client.key);
    let endless: [(&str, Vec<u8>, Vec<u8>); 4] = [
        ("an extension", b"1;".to_vec(), vec![b'x'; 65_536]),
        ("extensions", b"".to_vec(), [b"1;".as_slice(), &[b'y'; 1000], b"\r\nx\r\n"].concat()),
        ("a trailer", b"1\r\nx\r\n0\r\na: ".to_vec(), vec![b'x'; 65_536]),
        ("trailers", b"1\r\nx\r\n0\r\n".to_vec(), b"a: b\r\n".repeat(10_000)),
    ];
    for path in ["POST /v1/files", "POST /v1/uploads", "GET /v1/files"] {
        for key in [&*key, WRONG] {
            for (what, first, then) in &endless {
                let mut peer = Peer::connect(&app).await;
                assert!(peer.send(head(path, &[key, FORM, "transfer-encoding: chunked"])).await);
                peer.send(first).await;
                let mut sent = 0;
                while peer.send(then).await {
                    sent += then.len();
                    assert!(sent < 256 * 1024 * 1024, "{path}: the service keeps reading {what}");
                }
            }
        }
    }
    nothing_is_open(&app).await;
}

/// Waits until no connection is open but the one that fetches the metrics.
async fn nothing_is_open(app: &TestApp) {
    let client = app.client.alone();
    eventually("all connections are closed", async || {
        let metrics = client.get("/metrics").await;
        String::from_utf8_lossy(&metrics.body).lines().any(|it| it == "windlass_connections 1")
    })
    .await;
}

#[tokio::test]
async fn a_100_continue_is_sent_only_if_the_body_will_be_read() {
    let app = app(&[]).await;
    let upload = app.client.upload(5).await;
    let request = app.client.raw_part(&upload, b"hello");
    for request in [request.clone(), chunked(&request)] {
        let end = request.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 2;
        let with_expect = [&request[..end], b"Expect: 100-continue\r\n\r\n"].concat();
        let text = String::from_utf8(with_expect.clone()).unwrap();
        let wrong = text.replace(&app.client.key, "another-key-another-key");
        let unknown = text.replace(&upload, "upload_00000000000000000000000000000000");
        // The upload of a small part is checked only after its body has been read.
        let unknown = text.contains("chunked").then_some((404, unknown));
        for (status, refused) in unknown.into_iter().chain([(401, wrong)]) {
            let mut peer = Peer::connect(&app).await;
            assert!(peer.send(refused).await);
            let response = peer.response().await.unwrap();
            response.is_error(status);
            response.is_last();
            peer.closed().await;
        }
        let mut peer = Peer::connect(&app).await;
        for _ in 0..2 {
            assert!(peer.send(&with_expect).await);
            assert_eq!(peer.response().await.unwrap().status(), 100);
            assert!(peer.send(&request[end + 2..]).await);
            assert_eq!(peer.response().await.unwrap().status(), 200);
            // A client may send the body without waiting for the 100.
            assert!(peer.send([&with_expect, &request[end + 2..]].concat()).await);
            let mut response = peer.response().await.unwrap();
            if response.status() == 100 {
                response = peer.response().await.unwrap();
            }
            assert_eq!(response.status(), 200);
        }
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test]
async fn an_upgrade_request_is_handled_like_any_other() {
    let app = app(&[]).await;
    let upload = app.client.upload(5).await;
    let request = app.client.raw_part(&upload, b"hello");
    let end = request.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 2;
    for upgrade in
        ["Upgrade: websocket\r\nConnection: Upgrade\r\n", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"]
    {
        for request in [request.clone(), chunked(&request)] {
            let end = if request.windows(9).any(|it| it == b"chunked\r\n") {
                request.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 2
            } else {
                end
            };
            let mut peer = Peer::connect(&app).await;
            assert!(peer.send([&request[..end], upgrade.as_bytes(), &request[end..]].concat()).await);
            let response = peer.response().await.unwrap();
            assert_eq!(response.status(), 200, "{upgrade}: {response:?}");
            assert!(id(&serde_json::from_slice(&response.body).unwrap()).starts_with("part_"));
        }
        let mut peer = Peer::connect(&app).await;
        let list = head("GET /v1/files", &[&format!("authorization: Bearer {}", app.client.key)]);
        assert!(peer.send(list.replace("\r\n\r\n", &format!("\r\n{upgrade}\r\n"))).await);
        assert_eq!(peer.response().await.unwrap().status(), 200);
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test]
async fn a_client_that_stalls_after_an_early_response_is_disconnected() {
    let app = app(&[]).await;
    for framing in ["transfer-encoding: chunked", "content-length: 9999999"] {
        let mut peer = Peer::connect(&app).await;
        assert!(peer.send(head("POST /v1/files", &[WRONG, FORM, framing])).await);
        peer.0.write_all(&chunk(400_000)[..300_000]).await.unwrap();
        let response = peer.response().await.unwrap();
        response.is_error(401);
        response.is_last();
        peer.closed().await;
        // The client keeps its side of the connection open.
        nothing_is_open(&app).await;
    }
}

#[tokio::test]
async fn the_response_to_malformed_chunks_is_received() {
    let app = app(&[]).await;
    let upload = app.client.upload(1000).await;
    let key = format!("authorization: Bearer {}", app.client.key);
    let part = format!("POST /v1/uploads/{upload}/parts");
    let json = "content-type: application/json";
    let begin = b"--B\r\nContent-Disposition: form-data; name=\"data\"; filename=\"x\"\r\n\r\nhello";
    for (line, kind, begin) in [(&*part, FORM, &begin[..]), ("POST /v1/uploads", json, b"{\"filename\": \"x")] {
        for malformed in ["zz\r\n", "-1\r\n", "3 3\r\nabc\r\n", "3\r\nabcde\r\n", "fffffffffffffffff\r\n"] {
            for pieces in [0, 200] {
                let mut peer = Peer::connect(&app).await;
                assert!(peer.send(head(line, &[&key, kind, "transfer-encoding: chunked"])).await);
                let chunk =
                    [format!("{:x}\r\n", begin.len()).as_bytes(), begin, b"\r\n", malformed.as_bytes()].concat();
                peer.send(chunk).await;
                for _ in 0..pieces {
                    peer.send(vec![b'y'; 16 * 1024]).await;
                }
                let response = peer.response().await.unwrap_or_else(|| panic!("no response to {malformed:?}"));
                response.is_error(400);
                response.is_last();
                peer.closed().await;
            }
        }
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test]
async fn a_response_never_offers_an_upgrade() {
    let app = app(&[]).await;
    for upgrade in ["connection: upgrade", "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c"] {
        for line in ["GET /livez", "GET /v1/files", "OPTIONS /v1/files", "PUT /livez"] {
            let mut peer = Peer::connect(&app).await;
            assert!(peer.send(head(line, &[upgrade])).await);
            let response = peer.response().await.unwrap();
            response.is_last();
            peer.closed().await;
        }
    }
}
