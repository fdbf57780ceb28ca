//! Log lines of requests: bounded length, no control characters, and no errors or warnings for client errors.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use reqwest::Method;
use serde_json::Value;

use crate::support::client::id;
use crate::support::{TestApp, eventually};

crate::on_a_directory_and_s3! {
    log_lines_are_bounded_whatever_a_client_sends;
    json_log_lines_are_bounded_whatever_a_client_sends (WINDLASS_LOG_FORMAT = "json");
    client_errors_are_not_logged_as_errors;
    a_request_is_logged_at_its_end_with_the_ids_of_its_objects (WINDLASS_LOG_FORMAT = "json");
    a_request_keeps_the_id_that_it_was_given (WINDLASS_LOG_FORMAT = "json");
    an_interrupted_download_is_logged_as_aborted (WINDLASS_LOG_FORMAT = "json");
    an_interrupted_request_is_logged (WINDLASS_LOG_FORMAT = "json");
}

/// Maximum length of a line in bytes: three truncated texts of a client, and the rest of the line.
const LONGEST: usize = 3000;

/// Sends these bytes. Returns everything that is received until the connection is closed.
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
    assert!(log.matches("request completed").count() + log.matches("request rejected").count() > 5, "{log}");
    for line in log.lines() {
        assert!(line.len() < LONGEST, "{} bytes: {}", line.len(), &line[..line.floor_char_boundary(LONGEST)]);
        assert!(!line.contains(|it: char| it.is_control() || it == '\u{202e}'), "{line:?}");
    }
}

async fn log_lines_are_bounded_whatever_a_client_sends(app: &TestApp) {
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

async fn json_log_lines_are_bounded_whatever_a_client_sends(app: &TestApp) {
    log_lines_are_bounded_whatever_a_client_sends(app).await;
}

async fn client_errors_are_not_logged_as_errors(app: &TestApp) {
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

/// The lines of the access log for a route, oldest first.
fn access_lines(app: &TestApp, method: &str, route: &str) -> Vec<Value> {
    let lines = app.log();
    let lines = lines.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
    lines.filter(|it| it["span"]["route"] == route && it["span"]["method"] == method && it["status"].is_u64()).collect()
}

async fn a_request_is_logged_at_its_end_with_the_ids_of_its_objects(app: &TestApp) {
    let client = &app.client;
    let bytes = vec![7; 300_000];
    let upload = client.upload(bytes.len()).await;
    let part = client.part(&upload, bytes.clone()).await;
    let file = id(&client.complete(&upload, &[&part]).await.ok()["file"]);
    assert!(client.download(&file).await == bytes);
    let line = async |method, route| {
        let mut found = Vec::new();
        eventually("the request is logged", async || {
            found = access_lines(app, method, route);
            !found.is_empty()
        })
        .await;
        found.remove(0)
    };
    let created = line("POST", "/v1/uploads").await;
    assert_eq!(created["message"], "request completed", "{created}");
    assert_eq!(created["span"]["upload.id"], *upload, "{created}");
    let added = line("POST", "/v1/uploads/{id}/parts").await;
    assert_eq!(added["span"]["upload.id"], *upload, "{added}");
    assert_eq!(added["span"]["part.id"], *part, "{added}");
    assert!(added["bytes_in"].as_u64().unwrap() >= 300_000, "{added}");
    assert!(added["span"]["id"].as_str().unwrap().starts_with("req_"), "{added}");
    assert!(added["span"]["project.id"].as_str().unwrap().starts_with("proj_"), "{added}");
    assert!(added["span"]["key.id"].as_str().unwrap().starts_with("key_"), "{added}");
    let sent = line("GET", "/v1/files/{id}/content").await;
    assert_eq!(sent["span"]["file.id"], *file, "{sent}");
    assert_eq!((sent["status"].as_u64(), sent["bytes_out"].as_u64()), (Some(200), Some(300_000)), "{sent}");
    assert!(sent["duration_ms"].is_u64(), "{sent}");
}

async fn a_request_keeps_the_id_that_it_was_given(app: &TestApp) {
    let sent = async |id: &str| {
        let request = app.client.request(Method::GET, "/v1/files").header("x-request-id", id);
        app.client.send(request).await.header("x-request-id").unwrap().to_owned()
    };
    for id in ["4bf92f3577b34da6a3ce929d0e0e4736", "gateway:7.b-1_A", &"x".repeat(128)] {
        assert_eq!(sent(id).await, id);
        eventually("it is logged", async || app.log().contains(&format!("\"id\":\"{id}\""))).await;
    }
    for id in ["", "two words", "a\"b", "<script>", "a/b", &"x".repeat(129)] {
        assert!(sent(id).await.starts_with("req_"), "{id}");
    }
}

async fn an_interrupted_download_is_logged_as_aborted(app: &TestApp) {
    // More than the buffers of both sockets hold.
    let file = app.client.file(vec![7; 32 << 20]).await;
    let mut socket = TcpStream::connect(app.client.socket_address()).unwrap();
    let key = &app.client.key;
    let head = format!("GET /v1/files/{file}/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    socket.read_exact(&mut [0; 1000]).unwrap();
    drop(socket);
    eventually("the aborted response is logged", async || {
        let lines = access_lines(app, "GET", "/v1/files/{id}/content");
        lines.iter().any(|it| it["message"] == "response aborted" && it["bytes_out"].as_u64().unwrap() < 32 << 20)
    })
    .await;
}

async fn an_interrupted_request_is_logged(app: &TestApp) {
    let mut socket = TcpStream::connect(app.client.socket_address()).unwrap();
    let key = &app.client.key;
    let head =
        format!("POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 100\r\n\r\n{{");
    socket.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(socket);
    eventually("the request is logged", async || {
        let log = app.log();
        let lines = log.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
        lines
            .filter(|it| it["span"]["path"] == "/v1/uploads" && it["span"]["key.id"].is_string())
            .any(|it| it["message"] == "request aborted" || it["status"] == 400)
    })
    .await;
}
