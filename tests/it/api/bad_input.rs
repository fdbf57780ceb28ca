//! Client errors in one table, each with its status, `param` and part of the message. None of them changes anything.

use reqwest::Method;
use serde_json::Value;

use crate::support::TestApp;
use crate::support::client::id;

crate::on_a_directory_and_s3! {
    every_error_names_its_parameter_and_changes_nothing;
    unusual_file_names_are_kept_or_refused;
    a_truncated_body_changes_nothing;
}

/// The body of a request, or a `GET`.
enum Send {
    Json(&'static str),
    /// A form: pairs of the parameters of a `Content-Disposition` and a content.
    Form(&'static [(&'static str, &'static str)]),
    /// A content type and a body.
    Raw(&'static str, &'static str),
    Get,
}
use Send::{Form, Get, Json, Raw};

const UPLOADS: &str = "/v1/uploads";
const FILES: &str = "/v1/files";
const PARTS: &str = "/v1/uploads/{pending}/parts";
const COMPLETE: &str = "/v1/uploads/{pending}/complete";
const DATA: &str = "name=\"data\"; filename=\"x\"";
const FILE: &str = "name=\"file\"; filename=\"x\"";
const PURPOSE: &str = "name=\"purpose\"";

/// Path, request, status, `param`, and part of the message.
#[rustfmt::skip]
const MISTAKES: &[(&str, Send, u16, Option<&str>, &str)] = &[
    // Creating an upload.
    (UPLOADS, Json(""), 400, None, "empty"),
    (UPLOADS, Json("{"), 400, None, "not JSON"),
    (UPLOADS, Json("{} {}"), 400, None, "not JSON"),
    (UPLOADS, Json("\"text\""), 400, None, "must be a JSON object, but was a string"),
    (UPLOADS, Json("[1]"), 400, None, "must be a JSON object, but was a list"),
    (UPLOADS, Json("{}"), 400, Some("filename"), "Missing required parameter: 'filename'"),
    (UPLOADS, Json(r#"{"filename":"f","bytes":1,"mime_type":"x"}"#), 400, Some("purpose"), "Missing"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","mime_type":"x"}"#), 400, Some("bytes"), "Missing"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1}"#), 400, Some("mime_type"), "Missing"),
    (UPLOADS, Json(r#"{"filename":1,"purpose":"evals","bytes":1,"mime_type":"x"}"#), 400, Some("filename"), "must be a string, but was a number"),
    (UPLOADS, Json(r#"{"filename":null,"purpose":"evals","bytes":1,"mime_type":"x"}"#), 400, Some("filename"), "must be a string, but was null"),
    (UPLOADS, Json(r#"{"filename":"f","filename":"g","purpose":"evals","bytes":1,"mime_type":"x"}"#), 400, Some("filename"), "'filename' is given more than once"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"created_at","seconds":3600,"seconds":7200}}"#), 400, Some("expires_after.seconds"), "given more than once"),
    (UPLOADS, Json(r#"{"filename":"","purpose":"evals","bytes":1,"mime_type":"x"}"#), 400, Some("filename"), "empty"),
    (UPLOADS, Json(r#"{"filename":"a\nb","purpose":"evals","bytes":1,"mime_type":"x"}"#), 400, Some("filename"), "control characters"),
    (UPLOADS, Json(r#"{"filename":"{long}","purpose":"evals","bytes":1,"mime_type":"x"}"#), 400, Some("filename"), "at most 512 characters, but this one has 1000"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"world_domination","bytes":1,"mime_type":"x"}"#), 400, Some("purpose"), "'world_domination' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals'] - 'purpose'"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":["evals"],"bytes":1,"mime_type":"x"}"#), 400, Some("purpose"), "must be a string, but was a list"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":"1","mime_type":"x"}"#), 400, Some("bytes"), "must be a whole number, but was a string"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":-1,"mime_type":"x"}"#), 400, Some("bytes"), "must be 0 or more, but was -1"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1.5,"mime_type":"x"}"#), 400, Some("bytes"), "must be a whole number, but was 1.5"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":5.0000000000000000000001,"mime_type":"x"}"#), 400, Some("bytes"), "must be a whole number, but was 5.00"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1e-400,"mime_type":"x"}"#), 400, Some("bytes"), "must be a whole number, but was 1e-400"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":-1.0,"mime_type":"x"}"#), 400, Some("bytes"), "must be 0 or more, but was -1"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1e999999999,"mime_type":"x"}"#), 400, Some("bytes"), "from -2^63 to 2^63-1, but was 1e999999999"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":9223372036854775807.0,"mime_type":"x"}"#), 400, Some("bytes"), "but 9223372036854775807"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":05,"mime_type":"x"}"#), 400, None, "not JSON"),
    (UPLOADS, Json("\u{feff}"), 400, None, "empty"),
    (UPLOADS, Json("\u{feff}\u{feff}{}"), 400, None, "not JSON"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1e400,"mime_type":"x"}"#), 400, Some("bytes"), "from -2^63 to 2^63-1, but was 1e400"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":99999999999999999999,"mime_type":"x"}"#), 400, Some("bytes"), "must be a whole number"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":8589934593,"mime_type":"x"}"#), 400, Some("bytes"), "at most 8589934592 bytes, but 8589934593"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":true,"mime_type":"x"}"#), 400, Some("bytes"), "but was a boolean"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":""}"#), 400, Some("mime_type"), "1 to 255 printable"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"a\u0000"}"#), 400, Some("mime_type"), "printable"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"vision","bytes":1,"mime_type":"text/plain"}"#), 400, Some("mime_type"), "accepted are image/png"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"assistants","bytes":1,"mime_type":"video/mp4"}"#), 400, Some("mime_type"), "text/plain"),
    (UPLOADS, Json(r#"{"filename":"f.json","purpose":"batch","bytes":1,"mime_type":"x"}"#), 400, Some("filename"), "Invalid file format for Batch API. Must be .jsonl, but the file is named 'f.json'."),
    (UPLOADS, Json(r#"{"filename":"jsonl","purpose":"fine-tune","bytes":1,"mime_type":"x"}"#), 400, Some("filename"), "Invalid file format for Fine-Tuning API. Must be .jsonl, but the file is named 'jsonl'."),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","part_size":5}"#), 400, Some("part_size"), "Unknown parameter: 'part_size'. Known parameters: filename"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":3600}"#), 400, Some("expires_after"), "must be an object"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{}}"#), 400, Some("expires_after.anchor"), "Missing"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"now","seconds":3600}}"#), 400, Some("expires_after.anchor"), "must be 'created_at'"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"created_at"}}"#), 400, Some("expires_after.seconds"), "Missing"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"created_at","seconds":3599}}"#), 400, Some("expires_after.seconds"), "between 3600"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"created_at","seconds":2592001}}"#), 400, Some("expires_after.seconds"), "2592000"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"created_at","seconds":3600.5}}"#), 400, Some("expires_after.seconds"), "must be a whole number, but was 3600.5"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"created_at","seconds":1e30}}"#), 400, Some("expires_after.seconds"), "from -2^63 to 2^63-1"),
    (UPLOADS, Json(r#"{"filename":"f","purpose":"evals","bytes":1,"mime_type":"x","expires_after":{"anchor":"created_at","seconds":3600,"x":1}}"#), 400, Some("expires_after.x"), "Unknown"),

    // Adding a part.
    ("/v1/uploads/upload_00000000000000000000000000000000/parts", Form(&[(DATA, "x")]), 404, Some("upload_id"), "No such Upload object: upload_0000"),
    ("/v1/uploads/nonsense/parts", Form(&[(DATA, "x")]), 404, Some("upload_id"), "No such Upload object: nonsense"),
    ("/v1/uploads/{completed}/parts", Form(&[(DATA, "x")]), 400, Some("upload_id"), "is completed, not pending"),
    ("/v1/uploads/{cancelled}/parts", Form(&[(DATA, "x")]), 400, Some("upload_id"), "is cancelled, not pending"),
    ("/v1/uploads/{expired}/parts", Form(&[(DATA, "x")]), 410, Some("upload_id"), "has expired; create a new upload"),
    (PARTS, Form(&[(DATA, "")]), 400, Some("data"), "empty"),
    (PARTS, Form(&[]), 400, Some("data"), "Missing required parameter: 'data'"),
    (PARTS, Form(&[("name=\"file\"; filename=\"x\"", "x")]), 400, Some("file"), "Known parameters: data"),
    (PARTS, Form(&[("name=\"data[0]\"", "97"), ("name=\"data[1]\"", "98")]), 400, Some("data[0]"), "Known parameters: data"),
    (PARTS, Form(&[(DATA, "x"), (DATA, "y")]), 400, Some("data"), "given more than once"),
    (PARTS, Form(&[(DATA, "x"), ("name=\"order\"", "1")]), 400, Some("order"), "Unknown"),
    (PARTS, Form(&[("filename=\"x\"", "x")]), 400, Some(""), "Unknown"),
    (PARTS, Json(r#"{"data":"x"}"#), 400, None, "multipart/form-data"),
    (PARTS, Raw("multipart/form-data", "--B--"), 400, None, "with a boundary"),
    (PARTS, Raw("multipart/form-data; boundary=B", ""), 400, None, "is not terminated"),
    (PARTS, Raw("multipart/form-data; boundary=B", "nothing of the kind"), 400, None, "is not terminated"),
    (PARTS, Raw("multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nno end"), 400, None, "is not terminated"),
    (PARTS, Raw("multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nx\r\n--C--\r\n"), 400, None, "is not terminated"),
    (PARTS, Raw("multipart/form-data; boundary=B", "--B\r\nno colon\r\n\r\nx\r\n--B--\r\n"), 400, None, "form"),

    // Completing.
    ("/v1/uploads/nonsense/complete", Json(r#"{"part_ids":[]}"#), 404, Some("upload_id"), "No such Upload object"),
    ("/v1/uploads/{completed}/complete", Json(r#"{"part_ids":["{part}"]}"#), 400, Some("part_ids"), "already been completed"),
    ("/v1/uploads/{cancelled}/complete", Json(r#"{"part_ids":[]}"#), 400, Some("upload_id"), "is cancelled"),
    ("/v1/uploads/{expired}/complete", Json(r#"{"part_ids":[]}"#), 410, Some("upload_id"), "has expired"),
    (COMPLETE, Json(""), 400, None, "empty"),
    (COMPLETE, Json("{}"), 400, Some("part_ids"), "Missing"),
    (COMPLETE, Json(r#"{"part_ids":"{part}"}"#), 400, Some("part_ids"), "must be a list of strings, but was a string"),
    (COMPLETE, Json(r#"{"part_ids":[1]}"#), 400, Some("part_ids"), "one of its items is a number"),
    (COMPLETE, Json(r#"{"part_ids":["string"]}"#), 400, Some("part_ids"), "'string' is not the id of a part"),
    (COMPLETE, Json(r#"{"part_ids":[]}"#), 400, Some("part_ids"), "add up to 0 bytes, but the upload was created with 5 bytes"),
    (COMPLETE, Json(r#"{"part_ids":["{part}"]}"#), 400, Some("part_ids"), "add up to 4 bytes, but the upload was created with 5 bytes"),
    (COMPLETE, Json(r#"{"part_ids":["{part}","{part}"]}"#), 400, Some("part_ids"), "more than once"),
    (COMPLETE, Json(r#"{"part_ids":["part_00000000000000000000000000000000"]}"#), 400, Some("part_ids"), "has no finished part 'part_0000"),
    (COMPLETE, Json(r#"{"part_ids":["{part}","{foreign}"]}"#), 400, Some("part_ids"), "has no finished part"),
    (COMPLETE, Json(r#"{"part_ids":["{part}","{other}"],"md5":"md5"}"#), 400, Some("md5"), "32 hexadecimal digits"),
    (COMPLETE, Json(r#"{"part_ids":["{part}","{other}"],"md5":5}"#), 400, Some("md5"), "must be a string"),
    (COMPLETE, Json(r#"{"part_ids":["{part}","{other}"],"md5":"00000000000000000000000000000000"}"#), 400, Some("md5"), "the request has 00000000000000000000000000000000"),
    (COMPLETE, Json(r#"{"part_ids":[],"order":[1]}"#), 400, Some("order"), "Known parameters: part_ids, md5"),

    // Cancelling.
    ("/v1/uploads/nonsense/cancel", Json("{}"), 404, Some("upload_id"), "No such Upload object"),
    ("/v1/uploads/{completed}/cancel", Json("{}"), 400, Some("upload_id"), "is completed"),
    ("/v1/uploads/{cancelled}/cancel", Json("{}"), 400, Some("upload_id"), "is cancelled"),
    ("/v1/uploads/{expired}/cancel", Json("{}"), 410, Some("upload_id"), "has expired"),

    // Files.
    (FILES, Form(&[]), 400, Some("file"), "Missing"),
    (FILES, Form(&[(PURPOSE, "evals")]), 400, Some("file"), "Missing"),
    (FILES, Form(&[(FILE, "x")]), 400, Some("purpose"), "Missing"),
    (FILES, Form(&[(FILE, "x"), (PURPOSE, "")]), 400, Some("purpose"), "'' is not one of"),
    (FILES, Form(&[(FILE, "x"), (PURPOSE, "world_domination")]), 400, Some("purpose"), "'world_domination' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals'] - 'purpose'"),
    (FILES, Form(&[(PURPOSE, "evals"), (PURPOSE, "evals"), (FILE, "x")]), 400, Some("purpose"), "given more than once"),
    (FILES, Form(&[(FILE, "x"), (FILE, "y"), (PURPOSE, "evals")]), 400, Some("file"), "given more than once"),
    (FILES, Form(&[(FILE, "x"), (PURPOSE, "evals"), ("name=\"name\"", "y")]), 400, Some("name"), "Known parameters: purpose, file"),
    (FILES, Form(&[(PURPOSE, "evals"), ("name=\"file\"; filename=\"a%0Ab\"", "x")]), 400, Some("file"), "control characters"),
    (FILES, Form(&[(PURPOSE, "evals"), ("name=\"file\"; filename=\"\"", "x")]), 400, Some("file"), "cannot be empty"),
    (FILES, Form(&[(PURPOSE, "batch"), (FILE, "{}")]), 400, Some("file"), "Invalid file format for Batch API. Must be .jsonl, but the file is named 'x'."),
    (FILES, Form(&[(FILE, "{}"), (PURPOSE, "fine-tune")]), 400, Some("file"), "Invalid file format for Fine-Tuning API. Must be .jsonl, but the file is named 'x'."),
    (FILES, Json(r#"{"purpose":"evals"}"#), 400, None, "multipart/form-data"),
    // Lists.
    ("/v1/files?limit=0", Get, 400, Some("limit"), "between 1 and 10000, but was '0'"),
    ("/v1/files?limit=10001", Get, 400, Some("limit"), "between 1 and 10000"),
    ("/v1/files?limit=-1", Get, 400, Some("limit"), "between 1 and 10000"),
    ("/v1/files?limit=ten", Get, 400, Some("limit"), "but was 'ten'"),
    ("/v1/files?purpose=world_domination", Get, 400, Some("purpose"), "'world_domination' is not one of"),
    ("/v1/files?order=newest", Get, 400, Some("order"), "must be 'asc' or 'desc', but was 'newest'"),
    ("/v1/files?purpose=a%1Bb", Get, 400, Some("purpose"), "'a\\u{1b}b' is not one of"),
    ("/v1/files?order=a%E2%80%AEb", Get, 400, Some("order"), "but was 'a\\u{202e}b'"),
    ("/v1/files?after=nonsense", Get, 404, Some("after"), "nonsense"),
    ("/v1/files?after=file-00000000000000000000000000000000", Get, 404, Some("after"), "takes the id of the last object"),
    ("/v1/uploads?after={part}", Get, 404, Some("after"), "part_"),
    ("/v1/uploads/{pending}/parts?after={foreign}", Get, 404, Some("after"), "takes the id of the last object"),
    ("/v1/uploads/{pending}/parts?limit=0", Get, 400, Some("limit"), "between 1 and 10000"),

    // Objects that do not exist.
    ("/v1/uploads/nonsense", Get, 404, Some("upload_id"), "No such Upload object: nonsense"),
    ("/v1/files/nonsense", Get, 404, Some("id"), "No such File object: nonsense"),
    ("/v1/files/file-00000000000000000000000000000000/content", Get, 404, Some("id"), "No such File object"),
    ("/v1/files/..%2f..%2fetc%2fpasswd/content", Get, 404, Some("id"), "No such File object"),
];

async fn every_error_names_its_parameter_and_changes_nothing(app: &TestApp) {
    let pending = app.client.upload(5).await;
    let (part, other) = (app.client.part(&pending, "four").await, app.client.part(&pending, "1").await);
    let foreign = app.client.part(&app.client.upload(1).await, "1").await;
    let expired = app.client.upload(1).await;
    app.expire(&expired).await;
    let (completed, cancelled) = (app.client.upload(0).await, app.client.upload(1).await);
    app.client.complete(&completed, &[]).await.ok();
    app.client.cancel(&cancelled).await.ok();
    let fill = |text: &str| {
        [
            ("{pending}", &pending),
            ("{completed}", &completed),
            ("{cancelled}", &cancelled),
            ("{expired}", &expired),
            ("{part}", &part),
        ]
        .into_iter()
        .chain([("{other}", &other), ("{foreign}", &foreign), ("{long}", &"x".repeat(1000))])
        .fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
    };
    let before = state(app, &pending).await;
    for (path, send, status, param, words) in MISTAKES {
        let method = if matches!(send, Get) { Method::GET } else { Method::POST };
        let request = app.client.request(method, &fill(path));
        let request = match send {
            Json(body) => request.header("content-type", "application/json").body(fill(body)),
            Form(fields) => request.header("content-type", "multipart/form-data; boundary=B").body(form(fields)),
            Raw(content_type, body) => request.header("content-type", *content_type).body(*body),
            Get => request,
        };
        let answer = app.client.send(request).await;
        let shown = format!("{path}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!((answer.status.as_u16(), answer.json()["error"]["param"].as_str()), (*status, *param), "{shown}");
        let message = answer.error(*status, *param)["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "'{words}' is not in {shown}");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{shown}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{shown}");
    }
    app.no_writer_is_busy().await;
    assert_eq!(state(app, &pending).await, before);
    app.client.complete(&pending, &[&other, &part]).await.ok();
}

fn form(fields: &[(&str, &str)]) -> String {
    let fields = fields
        .iter()
        .map(|(head, content)| format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n"));
    fields.collect::<String>() + "--B--\r\n"
}

/// The lists of uploads, of files, and of the parts of one upload.
async fn state(app: &TestApp, upload: &str) -> Vec<Value> {
    let mut state = Vec::new();
    for path in [UPLOADS, FILES, &format!("/v1/uploads/{upload}/parts")] {
        state.push(app.client.get(path).await.ok());
    }
    state
}

async fn unusual_file_names_are_kept_or_refused(app: &TestApp) {
    let create = async |name: &str| {
        let body = serde_json::json!({"filename": name, "purpose": "evals", "bytes": 0, "mime_type": "x"});
        app.client.post(UPLOADS, &body).await
    };
    for kept in [
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\x",
        ".",
        "..",
        "🦀🦀",
        "a\"b';--",
        "%00",
        "x\u{202e}y",
        &"x".repeat(512),
        "CON",
    ] {
        let upload = create(kept).await.ok();
        let file = app.client.complete(&id(&upload), &[]).await.ok()["file"].clone();
        assert_eq!(file["filename"], kept);
        let answer = app.client.get(&format!("/v1/files/{}/content", id(&file))).await;
        assert!(!answer.header("content-disposition").unwrap().contains(['/', '\\']), "{answer:?}");
    }
    for (refused, words) in [
        ("", "empty"),
        ("a\u{0}b", "U+0000"),
        ("a\r\nSet-Cookie: x", "U+000D"),
        ("\u{7f}", "U+007F"),
        (&*"x".repeat(1000), "has 1000"),
    ] {
        let error = create(refused).await.error(400, Some("filename"));
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    assert_eq!(app.store.list().await, [], "a name was used as a path");
}

async fn a_truncated_body_changes_nothing(app: &TestApp) {
    use std::io::{Read as _, Write as _};
    let upload = app.client.upload(3).await;
    let before = state(app, &upload).await;
    let part = form(&[(DATA, "abc")]);
    let file = form(&[(PURPOSE, "evals"), (FILE, "abc")]);
    for (path, content_type, body) in [
        (UPLOADS.to_owned(), "application/json", r#"{"filename":"f","purpose":"evals","bytes":0,"mime_type":"x"}"#),
        (format!("/v1/uploads/{upload}/parts"), "multipart/form-data; boundary=B", &part),
        (FILES.to_owned(), "multipart/form-data; boundary=B", &file),
    ] {
        for sent in [0, 1, body.len() / 2, body.len() - 6, body.len() - 1] {
            let mut socket = std::net::TcpStream::connect(app.client.address.replace("http://", "")).unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
                app.client.key,
                body.len()
            );
            socket.write_all(head.as_bytes()).unwrap();
            socket.write_all(&body.as_bytes()[..sent]).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).ok();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
    }
    app.no_writer_is_busy().await;
    assert_eq!(state(app, &upload).await, before);
}
