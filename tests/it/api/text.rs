//! Hostile text at every input of the service: NUL, invalid UTF-8, lone surrogates, control characters. Each gets a 4xx
//! that names the parameter, and none of it reaches the database.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    hostile_query_parameters_are_refused_by_name;
    hostile_ids_in_a_path_are_not_found;
    hostile_json_strings_are_refused_by_name;
    hostile_form_fields_and_names_are_refused_by_name;
    headers_that_are_not_text_are_ignored;
}

/// Percent-encoded: NUL, its overlong form, invalid UTF-8, a surrogate, half an escape, no escape, a line end, a
/// bidirectional override, a quote, a noncharacter.
const ENCODED: &[&str] = &[
    "%00",
    "a%00b",
    "%C0%80",
    "%FF",
    "%ED%A0%80",
    "%4",
    "%zz",
    "%0D%0A",
    "%1B%5B2J",
    "%E2%80%AE",
    "'",
    "%EF%BF%BF",
    "+",
];

/// The same inside JSON strings.
const ESCAPED: &[&str] = &[r"\u0000", r"a\u0000b", r"\ud800", r"\udc00", r"\ud800\u0041", r"\u001b[2J", r"\r\n"];

/// The same as raw bytes.
const RAW: &[&[u8]] = &[b"\0", b"a\0b", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x1b[2J", b"\x7f"];

/// Asserts that no request was logged as a server error.
fn nothing_failed(app: &TestApp) {
    let log = app.log();
    assert!(!log.contains("ERROR"), "{log}");
}

async fn hostile_query_parameters_are_refused_by_name(app: &TestApp) {
    let parts = format!("/v1/uploads/{}/parts", app.client.upload(1).await);
    let lists = [
        ("/v1/files", &["purpose", "limit", "order", "after"][..]),
        ("/v1/uploads", &["limit", "order", "after"]),
        (&parts, &["limit", "after"]),
    ];
    for (path, names) in lists {
        for (name, value) in names.iter().flat_map(|name| ENCODED.iter().map(move |value| (name, value))) {
            let status = if *name == "after" { 404 } else { 400 };
            app.client.get(&format!("{path}?{name}={value}")).await.error(status, Some(name));
        }
        // An unknown parameter is ignored, whatever it is.
        for value in ENCODED {
            app.client.get(&format!("{path}?{value}={value}")).await.ok();
        }
    }
    nothing_failed(app);
}

async fn hostile_ids_in_a_path_are_not_found(app: &TestApp) {
    let empty = json!({"part_ids": []});
    for text in ENCODED.iter().chain(&["%2F", "..%2f.."]) {
        app.client.get(&format!("/v1/uploads/{text}")).await.error(404, Some("upload_id"));
        app.client.get(&format!("/v1/uploads/{text}/parts")).await.error(404, Some("upload_id"));
        app.client.add_part(text, "x").await.error(404, Some("upload_id"));
        app.client.post(&format!("/v1/uploads/{text}/complete"), &empty).await.error(404, Some("upload_id"));
        app.client.cancel(text).await.error(404, Some("upload_id"));
        app.client.get(&format!("/v1/files/{text}")).await.error(404, Some("id"));
        app.client.delete(&format!("/v1/files/{text}")).await.error(404, Some("id"));
        app.client.get(&format!("/v1/files/{text}/content")).await.error(404, Some("id"));
        app.client.get(&format!("/v1/{text}")).await.error(404, None);
    }
    nothing_failed(app);
}

async fn send_json(app: &TestApp, path: &str, body: String) -> Answer {
    let request = app.client.request(Method::POST, path).header("content-type", "application/json");
    app.client.send(request.body(body)).await
}

async fn hostile_json_strings_are_refused_by_name(app: &TestApp) {
    let whole = r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"created_at","seconds":3600}}"#;
    let complete = format!("/v1/uploads/{}/complete", app.client.upload(1).await);
    for text in ESCAPED {
        for (name, value) in [("filename", "f"), ("purpose", "evals"), ("mime_type", "x"), ("anchor", "created_at")] {
            let body = whole.replace(&format!("\"{name}\":\"{value}\""), &format!("\"{name}\":\"{text}\""));
            let param = if name == "anchor" { "expires_after.anchor" } else { name };
            send_json(app, "/v1/uploads", body).await.error(400, Some(param));
        }
        let unknown = send_json(app, "/v1/uploads", whole.replace("\"filename\"", &format!("\"{text}\""))).await;
        assert_eq!(unknown.status, 400, "{unknown:?}");
        send_json(app, &complete, format!(r#"{{"part_ids":["{text}"]}}"#)).await.error(400, Some("part_ids"));
        send_json(app, &complete, format!(r#"{{"part_ids":[],"md5":"{text}"}}"#)).await.error(400, Some("md5"));
    }
    for bytes in RAW {
        let body = [br#"{"filename":""#, *bytes, br#""}"#].concat();
        let request = app.client.request(Method::POST, "/v1/uploads").body(body);
        app.client.send(request).await.error(400, if *bytes == b"\x7f" { Some("purpose") } else { None });
    }
    nothing_failed(app);
}

async fn send_form(app: &TestApp, path: &str, fields: &[(&[u8], &[u8])]) -> Answer {
    let mut body = Vec::new();
    for (head, content) in fields {
        body.extend_from_slice(b"--B\r\nContent-Disposition: form-data; ");
        body.extend_from_slice(head);
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B--\r\n");
    let request = app.client.request(Method::POST, path).header("content-type", "multipart/form-data; boundary=B");
    app.client.send(request.body(body)).await
}

async fn hostile_form_fields_and_names_are_refused_by_name(app: &TestApp) {
    let (file, purpose, anchor, seconds): (&[u8], &[u8], &[u8], &[u8]) = (
        b"name=\"file\"; filename=\"x\"",
        b"name=\"purpose\"",
        b"name=\"expires_after[anchor]\"",
        b"name=\"expires_after[seconds]\"",
    );
    let parts = format!("/v1/uploads/{}/parts", app.client.upload(1).await);
    for text in RAW {
        let refused = async |fields: &[(&[u8], &[u8])], param| {
            send_form(app, "/v1/files", fields).await.error(400, Some(param));
        };
        refused(&[(purpose, text), (file, b"x")], "purpose").await;
        refused(&[(purpose, b"evals"), (anchor, text), (seconds, b"3600"), (file, b"x")], "expires_after[anchor]")
            .await;
        refused(
            &[(purpose, b"evals"), (anchor, b"created_at"), (seconds, text), (file, b"x")],
            "expires_after[seconds]",
        )
        .await;
        for head in [
            [b"name=\"file\"; filename=\"", *text, b"\""].concat(),
            [b"name=\"", *text, b"\"; filename=\"x\""].concat(),
            [file, b"\r\nContent-Type: text/", *text].concat(),
        ] {
            let answer = send_form(app, "/v1/files", &[(purpose, b"evals"), (&head, b"x")]).await;
            assert_eq!(answer.status, 400, "{}: {answer:?}", head.escape_ascii());
        }
        let name = [b"name=\"", *text, b"\""].concat();
        assert_eq!(send_form(app, &parts, &[(&name, b"x")]).await.status, 400);
    }
    assert_eq!(app.client.get("/v1/files").await.ok()["data"], json!([]));
    nothing_failed(app);
}

async fn headers_that_are_not_text_are_ignored(app: &TestApp) {
    let file = app.client.file("0123456789").await;
    let path = format!("/v1/files/{file}/content");
    for bytes in [&b"\xff"[..], b"\xc3\xa9", b"bytes=\xff-", b"\"\xed\xa0\x80\""] {
        let status = |head: Vec<u8>| {
            let mut socket = TcpStream::connect(app.client.socket_address()).unwrap();
            socket.write_all(&head).unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            String::from_utf8_lossy(&answer)[9..12].to_owned()
        };
        let head = |name: &str, key: &[u8]| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{name}: ");
            [request.as_bytes(), bytes, b"\r\nAuthorization: Bearer ", key, b"\r\n\r\n"].concat()
        };
        for name in ["Range", "If-Range", "If-None-Match", "User-Agent", "X-Anything"] {
            assert_eq!(status(head(name, app.client.key.as_bytes())), "200", "{name}");
        }
        assert_eq!(status(head("X-Anything", bytes)), "401");
    }
    nothing_failed(app);
}
