//! Digests of content: those of a request are verified before it succeeds, those of a file are sent with it.

use std::slice;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};

use super::signed_urls::{path, send, sign};
use crate::support::client::id;
use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    every_digest_of_the_body_and_of_the_field_is_verified;
    all_of_several_digests_are_verified;
    a_digest_that_cannot_be_verified_is_refused;
    digests_of_json_bodies_are_verified;
    nothing_remains_of_a_discarded_part_or_file (WINDLASS_LEDGER_PART_BYTES = "1000");
    a_download_has_the_digests_that_are_known;
    a_digest_of_parts_at_completion_is_known_as_well;
}

/// The digests of some bytes as headers, one for each header and algorithm.
fn headers(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let md5 = STANDARD.encode(<md5::Md5 as md5::Digest>::digest(bytes));
    let members =
        [sha256(bytes), format!("sha-512=:{}:", STANDARD.encode(digest(&SHA512, bytes))), format!("md5=:{md5}:")];
    let dictionaries = ["content-digest", "repr-digest"];
    let all = dictionaries.into_iter().flat_map(|name| members.iter().map(move |it| (name, it.clone())));
    all.chain([("content-md5", md5)]).collect()
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, bytes)))
}

/// The form of a part or a file: its field has these headers.
fn form(field: &str, headers: &[(&str, String)], content: &[u8]) -> Vec<u8> {
    let mut form = b"--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n".to_vec();
    if field == "data" {
        form.clear();
    }
    form.extend(format!("--B\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"a.bin\"\r\n").bytes());
    for (name, value) in headers {
        form.extend(format!("{name}: {value}\r\n").bytes());
    }
    form.extend(b"\r\n");
    form.extend(content);
    form.extend(b"\r\n--B--\r\n");
    form
}

/// What receives content.
#[derive(Debug, Clone)]
enum Target {
    Part(String),
    File,
    SignedUrl(String),
}

impl Target {
    async fn all(app: &TestApp) -> [Self; 3] {
        [Self::Part(app.client.upload(10).await), Self::File, Self::SignedUrl(signed(app).await)]
    }

    fn field(&self) -> &'static str {
        if let Self::Part(_) = self { "data" } else { "file" }
    }

    fn request(&self, app: &TestApp) -> RequestBuilder {
        let path = match self {
            Self::Part(upload) => format!("/v1/uploads/{upload}/parts"),
            Self::File => "/v1/files".to_owned(),
            Self::SignedUrl(path) => return reqwest::Client::new().put(format!("{}{path}", app.client.address)),
        };
        app.client.request(Method::POST, &path).header("content-type", "multipart/form-data; boundary=B")
    }

    /// Sends content with these headers of the field, and the body with those that `of_body` returns for it.
    async fn send(
        &self,
        app: &TestApp,
        content: &[u8],
        of_field: &[(&'static str, String)],
        of_body: impl Fn(&[u8]) -> Vec<(&'static str, String)>,
        is_chunked: bool,
    ) -> Answer {
        let body = match self {
            Self::SignedUrl(_) => content.to_vec(),
            Self::Part(_) | Self::File => form(self.field(), of_field, content),
        };
        let request = of_body(&body).iter().fold(self.request(app), |it, (name, value)| it.header(*name, value));
        let pieces: Vec<_> = body.chunks(50_000).map(|it| Ok::<_, std::io::Error>(it.to_vec())).collect();
        let body = if is_chunked { Body::wrap_stream(stream::iter(pieces)) } else { body.into() };
        app.client.send(request.body(body)).await
    }
}

async fn signed(app: &TestApp) -> String {
    let body = json!({"method": "PUT", "filename": "a.bin", "purpose": "user_data"});
    path(&sign(&app.client, "/v1/files/signed_url", body).await)
}

#[track_caller]
fn assert_mismatch(answer: &Answer, param: &str) {
    let error = answer.error(400, Some(param));
    assert_eq!(error["code"], "digest_mismatch", "{error}");
}

/// The parameter with which an error in this header of a request is reported.
fn param(header: &str) -> &'static str {
    match header {
        "content-digest" => "Content-Digest",
        "repr-digest" => "Repr-Digest",
        _ => "Content-MD5",
    }
}

async fn every_digest_of_the_body_and_of_the_field_is_verified(app: &TestApp) {
    let large: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    for (content, is_chunked) in [(&b"small"[..], false), (b"small", true), (&large, false), (&large, true)] {
        for nth in 0..headers(b"").len() {
            let of_body = |body: &[u8]| vec![headers(body)[nth].clone()];
            let (right, wrong) = (headers(content)[nth].clone(), headers(b"other")[nth].clone());
            for target in Target::all(app).await {
                let other = |_: &[u8]| vec![wrong.clone()];
                let refused = target.send(app, content, &[], other, is_chunked).await;
                assert_mismatch(&refused, param(wrong.0));
                target.send(app, content, &[], of_body, is_chunked).await.ok();
                if let Target::Part(_) | Target::File = target {
                    let refused = target.send(app, content, slice::from_ref(&wrong), |_| Vec::new(), is_chunked).await;
                    assert_mismatch(&refused, target.field());
                    target.send(app, content, slice::from_ref(&right), of_body, is_chunked).await.ok();
                }
            }
        }
    }
}

async fn all_of_several_digests_are_verified(app: &TestApp) {
    let content = b"some content";
    let (right, other) = (headers(content), headers(b"other"));
    for target in Target::all(app).await {
        for wrong in 0..right.len() {
            let mut mixed = right.clone();
            mixed[wrong] = other[wrong].clone();
            if let Target::SignedUrl(_) = target {
                assert_mismatch(&target.send(app, content, &[], |_| mixed.clone(), false).await, param(mixed[wrong].0));
            } else {
                assert_mismatch(&target.send(app, content, &mixed, |_| Vec::new(), false).await, target.field());
                // The digest of the field is right, and that of the body is wrong.
                let of_body = |_: &[u8]| vec![other[wrong].clone()];
                assert_mismatch(&target.send(app, content, &right, of_body, false).await, param(other[wrong].0));
            }
        }
        target.send(app, content, &right, headers, false).await.ok();
    }
}

async fn a_digest_that_cannot_be_verified_is_refused(app: &TestApp) {
    let right = sha256(b"content");
    for (name, value, reason) in [
        ("content-digest", "", "cannot be read"),
        ("content-digest", "sha-256=abc", "cannot be read"),
        ("repr-digest", "sha-256", "cannot be read"),
        ("repr-digest", "sha-256=:AAAA:", "3 bytes instead of 32"),
        ("content-md5", "9a0364b9e99bb480dd25e1f0284c8555", "cannot be read"),
        ("content-digest", "sha=:AAAA:", "Supported are sha-256, sha-512 and md5"),
    ] {
        let header = || vec![(name, value.to_owned())];
        for target in Target::all(app).await {
            let error = target.send(app, b"content", &[], |_| header(), false).await.error(400, Some(param(name)));
            assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
            if let Target::Part(_) | Target::File = target {
                let answer = target.send(app, b"content", &header(), |_| Vec::new(), false).await;
                let error = answer.error(400, Some(target.field()));
                assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
            }
        }
    }
    // An unknown algorithm beside a known one is ignored.
    let beside = vec![("content-digest", format!("crc32c=:AAAA:, {right}"))];
    Target::File.send(app, b"content", &beside, |_| Vec::new(), false).await.ok();
}

async fn digests_of_json_bodies_are_verified(app: &TestApp) {
    let create = json!({"filename": "a", "purpose": "user_data", "bytes": 3, "mime_type": "text/plain"}).to_string();
    let post = async |path: &str, body: &str, digest_of: &str| {
        let request = app.client.request(Method::POST, path).header("content-digest", sha256(digest_of.as_bytes()));
        app.client.send(request.header("content-type", "application/json").body(body.to_owned())).await
    };
    assert_mismatch(&post("/v1/uploads", &create, "{}").await, "Content-Digest");
    let upload = id(&post("/v1/uploads", &create, &create).await.ok());
    assert_eq!(app.client.get("/v1/uploads").await.ok()["data"].as_array().unwrap().len(), 1);
    let part = app.client.part(&upload, "abc").await;
    let (path, complete) = (format!("/v1/uploads/{upload}/complete"), json!({"part_ids": [part]}).to_string());
    assert_mismatch(&post(&path, &complete, "{}").await, "Content-Digest");
    assert_eq!(app.client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"], "pending");
    let file = id(&post(&path, &complete, &complete).await.ok()["file"]);
    let path = format!("/v1/files/{file}/signed_url");
    assert_mismatch(&post(&path, "{}", "").await, "Content-Digest");
    post(&path, "{}", "{}").await.ok();
}

async fn nothing_remains_of_a_discarded_part_or_file(app: &TestApp) {
    for bytes in [500, 300_000] {
        let content = &vec![7; bytes];
        for target in Target::all(app).await {
            for is_chunked in [false, true] {
                let wrong = |_: &[u8]| headers(b"other");
                target.send(app, content, &[], wrong, is_chunked).await.error(400, Some("Content-Digest"));
                let field = headers(b"other");
                if let Target::Part(upload) = &target {
                    target.send(app, content, &field, |_| Vec::new(), is_chunked).await.error(400, Some("data"));
                    let parts = app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok();
                    assert_eq!(parts["data"], json!([]));
                }
            }
        }
    }
    app.no_writer_is_busy().await;
    assert_eq!(app.client.get("/v1/files").await.ok()["data"], json!([]));
    app.let_time_pass("400 days").await;
    app.sweep();
    let rows: i64 = sqlx::query_scalar("select count(*) from part").fetch_one(&app.pool).await.unwrap();
    assert_eq!((rows, app.store.list().await.len()), (0, 0));
}

async fn a_download_has_the_digests_that_are_known(app: &TestApp) {
    let content = b"some content";
    let right = headers(content);
    let (sha256, sha512, md5) = (&right[0].1, &right[1].1, &right[2].1);
    let get = async |file: &Value, more: &[(&str, &str)]| {
        let request = app.client.request(Method::GET, &format!("/v1/files/{}/content", id(file)));
        app.client.send(more.iter().fold(request, |it, (name, value)| it.header(*name, *value))).await
    };
    let by_url = Target::SignedUrl(signed(app).await).send(app, content, &[], |_| right.clone(), false).await.ok();
    for file in [Target::File.send(app, content, &right, |_| Vec::new(), false).await.ok(), by_url] {
        assert_eq!(file["sha256"], "290f493c44f5d63d06b374d0a5abd292fae38b92cab2fae5efefe1b0e9347f56");
        assert_eq!((file["sha512"].as_str().unwrap().len(), file["md5"].as_str().unwrap().len()), (128, 32));
        assert_eq!(app.client.get(&format!("/v1/files/{}", id(&file))).await.ok(), file);
        let all = format!("{sha256}, {sha512}, {md5}");
        let whole = get(&file, &[]).await;
        assert_eq!((whole.header("repr-digest"), whole.header("content-digest")), (Some(all.as_str()), None));
        let wanted =
            get(&file, &[("want-repr-digest", "md5=3, sha-512=5"), ("want-content-digest", "sha-256=1")]).await;
        assert_eq!(wanted.header("repr-digest"), Some(format!("{sha512}, {md5}").as_str()));
        assert_eq!(wanted.header("content-digest"), Some(sha256.as_str()));
        let range = get(&file, &[("range", "bytes=0-3"), ("want-content-digest", "sha-256=1")]).await;
        assert_eq!((range.status.as_u16(), range.header("content-digest")), (206, None));
        assert_eq!(range.header("repr-digest"), Some(all.as_str()), "it is that of the whole file");
        let head = app.client.request(Method::HEAD, &format!("/v1/files/{}/content", id(&file)));
        assert_eq!(app.client.send(head).await.header("repr-digest"), Some(all.as_str()));
    }
    // A digest of the form is not one of the file.
    let file = Target::File.send(app, content, &[], headers, false).await.ok();
    assert_eq!((&file["sha256"], &file["md5"]), (&Value::Null, &Value::Null));
    assert_eq!(get(&file, &[("want-repr-digest", "sha-256=10")]).await.header("repr-digest"), None);
}

async fn a_digest_of_parts_at_completion_is_known_as_well(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let part = app.client.part(&upload, "abc").await;
    let body = json!({"part_ids": [part], "md5": "900150983cd24fb0d6963f7d28e17f72"});
    let completed = app.client.post(&format!("/v1/uploads/{upload}/complete"), &body).await.ok();
    let content = app.client.get(&format!("/v1/files/{}/content", id(&completed["file"]))).await;
    assert_eq!(content.header("repr-digest"), Some("md5=:kAFQmDzST7DWlj99KOF/cg==:"));
    let signed = sign(&app.client, &format!("/v1/files/{}/signed_url", id(&completed["file"])), json!({})).await;
    let wanted = send(app, Method::GET, &path(&signed), &[("want-content-digest", "md5=1")], b"").await;
    assert_eq!(wanted.header("content-digest"), Some("md5=:kAFQmDzST7DWlj99KOF/cg==:"));
}
