//! HTTP semantics of every path: `HEAD` wherever there is `GET`, `Allow` with a 405, and a trailing slash that makes no
//! difference.

use reqwest::Method;
use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use serde_json::json;

use crate::support::client::id;
use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    head_is_get_without_the_body;
    an_unsupported_method_is_405_with_an_allow_header;
    one_trailing_slash_changes_nothing;
}

/// Every path with its methods; `{upload}` and `{file}` stand for ids.
const PATHS: &[(&str, &str)] = &[
    ("/livez", "GET, HEAD, OPTIONS"),
    ("/readyz", "GET, HEAD, OPTIONS"),
    ("/metrics", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
    ("/v1/uploads", "GET, HEAD, POST, OPTIONS"),
    ("/v1/uploads/{upload}", "GET, HEAD, OPTIONS"),
    ("/v1/uploads/{upload}/parts", "GET, HEAD, POST, OPTIONS"),
    ("/v1/uploads/{upload}/complete", "POST, OPTIONS"),
    ("/v1/uploads/{upload}/cancel", "POST, OPTIONS"),
    ("/v1/files", "GET, HEAD, POST, OPTIONS"),
    ("/v1/files/{file}", "GET, HEAD, DELETE, OPTIONS"),
    ("/v1/files/{file}/content", "GET, HEAD, OPTIONS"),
    ("/v1/files/{file}/signed_url", "POST, OPTIONS"),
    ("/v1/files/signed_url", "POST, OPTIONS"),
    ("/v1/usage", "GET, HEAD, OPTIONS"),
    ("/signed/{token}", "GET, HEAD, PUT, OPTIONS"),
    ("/signed/{token}/name", "GET, HEAD, PUT, OPTIONS"),
];

struct Things {
    upload: String,
    file: String,
    /// The token of a signed URL.
    token: String,
}

impl Things {
    async fn make(app: &TestApp) -> Self {
        let upload = app.client.upload(3).await;
        app.client.part(&upload, "abc").await;
        let file = app.client.file("0123456789").await;
        let signed = app.client.post(&format!("/v1/files/{file}/signed_url"), &json!({})).await.ok();
        let token = signed["url"].as_str().unwrap().rsplit('/').nth(1).unwrap().to_owned();
        Self { upload, file, token }
    }

    fn fill(&self, path: &str) -> String {
        path.replace("{upload}", &self.upload).replace("{file}", &self.file).replace("{token}", &self.token)
    }
}

async fn send(app: &TestApp, method: &str, path: &str) -> Answer {
    app.client.send(app.client.request(method.parse().unwrap(), path)).await
}

/// The headers without those that differ from response to response.
fn lasting(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in ["date", "x-request-id", "openai-processing-ms"] {
        headers.remove(name);
    }
    headers
}

async fn head_is_get_without_the_body(app: &TestApp) {
    let things = Things::make(app).await;
    let gets = PATHS.iter().filter(|(_, methods)| methods.starts_with("GET")).map(|(path, _)| things.fill(path));
    let others = ["/v1/files?limit=1", "/v1/files?limit=x", "/v1/files/nothing/content", "/v1/uploads/nothing"];
    for path in gets.chain(others.map(str::to_owned)) {
        let (get, head) = (send(app, "GET", &path).await, send(app, "HEAD", &path).await);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        let (mut got, mut headed) = (lasting(&get.headers), lasting(&head.headers));
        if path == "/metrics" {
            // The counters change between the two requests.
            assert!(got.remove("content-length").is_some() && headed.remove("content-length").is_some());
        }
        assert_eq!(headed, got, "{path}");
    }
    assert_eq!(send(app, "HEAD", "/nothing").await.status, 404);
    let without_key = reqwest::Client::new().head(format!("{}/v1/files", app.client.address)).send().await.unwrap();
    assert_eq!(without_key.status(), 401);

    // A range is defined for GET only.
    let path = things.fill("/v1/files/{file}/content");
    for range in ["bytes=2-4", "bytes=-1", "bytes=99-"] {
        let head = app.client.send(app.client.request(Method::HEAD, &path).header("range", range)).await;
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, Some("10")), "{range}");
        assert_eq!(head.header("content-range"), None, "{range}");
    }
    let etag = send(app, "HEAD", &path).await.header("etag").unwrap().to_owned();
    let head = app.client.send(app.client.request(Method::HEAD, &path).header("if-none-match", etag)).await;
    assert_eq!(head.status, 304);
}

async fn an_unsupported_method_is_405_with_an_allow_header(app: &TestApp) {
    let things = Things::make(app).await;
    for (path, allow) in PATHS {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PURGE", "get"] {
            if allow.split(", ").any(|it| it == method) {
                continue;
            }
            let answer = send(app, method, &things.fill(path)).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some(*allow), "{method} {path}");
            if method != "HEAD" {
                let error = answer.error(405, None);
                assert!(error["message"].as_str().unwrap().contains(allow), "{error}");
            }
        }
    }
    assert_eq!(send(app, "PUT", "/v1/nothing").await.header("allow"), None);
    app.client.get(&things.fill("/v1/files/{file}")).await.ok();
}

async fn one_trailing_slash_changes_nothing(app: &TestApp) {
    let things = Things::make(app).await;
    for (path, allow) in PATHS {
        let path = things.fill(path);
        if allow.starts_with("GET") {
            let (with, without) = (app.client.get(&format!("{path}/")).await, app.client.get(&path).await);
            assert_eq!(with.status, 200, "{path}/");
            assert!(path == "/metrics" || with.body == without.body, "{path}/");
        }
        let refused = send(app, "PATCH", &format!("{path}/")).await;
        assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, Some(*allow)), "{path}/");
        for other in [format!("{path}//"), path.replacen('/', "//", 1), path.replace("v1/", "v1//")] {
            if other != path {
                app.client.get(&other).await.error(404, None);
            }
        }
    }
    let body = json!({"filename": "f", "purpose": "evals", "bytes": 1, "mime_type": "x"});
    let upload = id(&app.client.post("/v1/uploads/", &body).await.ok());
    let form = Form::new().part("data", Part::bytes(&b"x"[..]).file_name("x"));
    let request = app.client.request(Method::POST, &format!("/v1/uploads/{upload}/parts/?x=/"));
    let part = id(&app.client.send(request.multipart(form)).await.ok());
    let completed =
        app.client.post(&format!("/v1/uploads/{upload}/complete/"), &json!({"part_ids": [part]})).await.ok();
    assert_eq!(app.client.get("/v1/files/?limit=1").await.ok()["data"][0]["id"], completed["file"]["id"]);
    app.client.delete(&format!("/v1/files/{}/", id(&completed["file"]))).await.ok();
    app.client.get("/v1/").await.error(404, None);
    app.client.get("/").await.error(404, None);
}
