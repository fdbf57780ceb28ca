//! What requests leave in the log: lines of bounded length, no control characters, and no errors for client errors.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use reqwest::Method;

use crate::support::TestApp;

crate::on_a_directory_and_s3! {
    no_line_is_as_long_as_a_client_likes;
    no_line_is_as_long_as_a_client_likes_as_json (WINDLASS_LOG_FORMAT = "json");
    what_a_client_did_wrong_is_no_error_of_ours;
}

/// The longest line: three texts of a client, truncated, and what is around them.
const LONGEST: usize = 3000;

/// Everything that is sent in response to these bytes, until the connection is closed.
fn send(app: &TestApp, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(app.client.socket_address()).unwrap();
    // The service may have answered and closed before it has read everything.
    socket.write_all(bytes).ok();
    socket.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn lines_are_short_and_plain(app: &TestApp) {
    let log = app.log();
    assert!(log.matches("answered").count() > 5, "{log}");
    for line in log.lines() {
        assert!(line.len() < LONGEST, "{} bytes: {}", line.len(), &line[..line.floor_char_boundary(LONGEST)]);
        assert!(!line.contains(|it: char| it.is_control() || it == '\u{202e}'), "{line:?}");
    }
}

async fn no_line_is_as_long_as_a_client_likes(app: &TestApp) {
    let long = "x".repeat(50_000);
    let key = &app.client.key;
    for (method, target, header) in [
        ("GET", format!("/v1/files/{long}"), String::new()),
        ("GET", format!("/{long}?{long}"), String::new()),
        ("GET", format!("/v1/files?after={long}&purpose={long}&{long}={long}"), String::new()),
        (&long, "/v1/files".to_owned(), String::new()),
        ("GET", "/v1/files".to_owned(), format!("X-Request-Id: {long}\r\nUser-Agent: {long}\r\n")),
        ("GET", "/v1/files".to_owned(), format!("{long}: {long}\r\n")),
        ("GET", "/v1/\u{202e}\u{85}\u{7f}é".to_owned(), String::new()),
        ("GET", format!("/v1/{}", "\u{202e}".repeat(10_000)), String::new()),
        ("GET", "/v1/%1B%5B2J%0A%0D".to_owned(), String::new()),
    ] {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{header}Authorization: Bearer {key}\r\n");
        send(app, format!("{head}Connection: close\r\n\r\n").as_bytes());
    }
    send(app, format!("GET /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {long}\r\n\r\n").as_bytes());
    let json = format!(r#"{{"{long}":"{long}","filename":"{long}"}}"#);
    app.client.send(app.client.request(Method::POST, "/v1/uploads").body(json)).await.error(400, Some("purpose"));
    let form = |name: &str| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\r\nx\r\n--B--\r\n")
    };
    let request =
        app.client.request(Method::POST, "/v1/files").header("content-type", "multipart/form-data; boundary=B");
    assert_eq!(app.client.send(request.body(form(&long))).await.status, 400);
    lines_are_short_and_plain(app);
}

async fn no_line_is_as_long_as_a_client_likes_as_json(app: &TestApp) {
    no_line_is_as_long_as_a_client_likes(app).await;
}

async fn what_a_client_did_wrong_is_no_error_of_ours(app: &TestApp) {
    let key = &app.client.key;
    let upload = app.client.upload(1).await;
    let before = app.log().len();
    let head = |rest: &str| format!("POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{rest}");
    for wrong in [
        "nonsense\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".to_owned(),
        "GET /v1/files".to_owned(),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(300_000)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200)),
        head("Content-Length: 5\r\n\r\n{"),
        head("Content-Length: x\r\n\r\n{}"),
        head("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        head("Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        head("Transfer-Encoding: chunked\r\n\r\n5\r\n{"),
        head("Transfer-Encoding: nonsense\r\n\r\n{}"),
        format!(
            "GET /v1/files?purpose=%00 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        ),
    ] {
        send(app, wrong.as_bytes());
    }
    app.client.add_part("nothing", "x").await.error(404, Some("upload_id"));
    app.client.complete(&upload, &["part_00000000000000000000000000000000"]).await.error(400, Some("part_ids"));
    app.no_writer_is_busy().await;
    let log = &app.log()[before..];
    assert!(log.contains("/v1/files") && !log.contains("ERROR") && !log.contains("WARN"), "{log}");
}
