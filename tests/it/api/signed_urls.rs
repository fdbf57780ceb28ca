//! Signed URLs for downloads, and what all signed URLs have in common.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::support::client::id;
use crate::support::{Answer, Client, TestApp, eventually};

crate::on_a_directory_and_s3! {
    a_file_is_downloaded_without_a_key;
    a_url_for_one_download_is_void_after_it;
    of_parallel_downloads_with_a_url_for_one_download_one_succeeds;
    a_url_is_void_when_it_has_expired_or_its_file_is_gone;
    a_url_is_void_when_its_key_is_revoked_or_has_expired;
    a_changed_url_is_refused;
    a_url_for_a_download_cannot_upload_and_the_reverse;
    urls_stay_valid_when_the_secret_is_rotated_unless_they_are_voided;
    a_url_has_the_public_address (WINDLASS_PUBLIC_URL = "https://files.example.com/windlass/");
    a_url_has_the_address_of_the_request;
    an_invalid_request_for_a_url_is_refused;
    a_key_without_the_scope_write_signs_only_downloads;
    the_log_contains_no_token;
}

/// The path of a signed URL, which a client with the service's address can request.
pub fn path(signed: &Value) -> String {
    let url = reqwest::Url::parse(signed["url"].as_str().unwrap()).unwrap();
    url.path().to_owned()
}

/// Creates a URL with this body.
pub async fn sign(client: &Client, path: &str, body: Value) -> Value {
    let signed = client.post(path, &body).await.ok();
    assert_eq!(signed["object"], "signed_url");
    signed
}

/// Creates a URL for a download.
async fn sign_download(client: &Client, file: &str, body: Value) -> String {
    path(&sign(client, &format!("/v1/files/{file}/signed_url"), body).await)
}

/// Sends a request without a key.
pub async fn send(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let request = reqwest::Client::new().request(method, format!("{}{path}", app.client.address)).body(body.to_owned());
    let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
    Answer::from(request.send().await.unwrap()).await
}

async fn seconds_left(app: &TestApp, signed: &Value) -> i64 {
    let now = sqlx::query_scalar::<_, i64>("select extract(epoch from now())::bigint").fetch_one(&app.pool).await;
    signed["expires_at"].as_i64().unwrap() - now.unwrap()
}

async fn get(app: &TestApp, path: &str) -> Answer {
    send(app, Method::GET, path, &[], b"").await
}

#[track_caller]
pub fn assert_refused(answer: &Answer, code: &str) {
    assert_eq!(answer.error(403, None)["code"], code);
    assert_eq!(answer.header("www-authenticate"), None);
}

async fn a_file_is_downloaded_without_a_key(app: &TestApp) {
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = app.client.file(bytes.clone()).await;
    let signed = sign(&app.client, &format!("/v1/files/{file}/signed_url"), json!({"expires_in": 900})).await;
    assert_eq!(signed["method"], "GET");
    assert!((840..=900).contains(&seconds_left(app, &signed).await), "{signed}");
    assert!(!signed["url"].as_str().unwrap().contains(&app.client.key));

    let signed = path(&signed);
    let with_key = app.client.get(&format!("/v1/files/{file}/content")).await;
    let answer = get(app, &signed).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &bytes[..]));
    for header in ["content-disposition", "etag", "accept-ranges", "content-type", "content-length"] {
        assert_eq!(answer.header(header), with_key.header(header), "{header}");
    }
    let range = send(app, Method::GET, &signed, &[("range", "bytes=4-7")], b"").await;
    assert_eq!((range.status.as_u16(), &range.body[..]), (206, &bytes[4..8]));
    let head = send(app, Method::HEAD, &signed, &[], b"").await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, Some("1200000")));
    let cached = send(app, Method::GET, &signed, &[("if-none-match", "*")], b"").await;
    assert_eq!(cached.status, 304);
    // A key is not needed, but does no harm.
    assert_eq!(send(app, Method::GET, &signed, &[("authorization", "Bearer x")], b"").await.status, 200);

    let named = get(app, &format!("{signed}?response-content-disposition=inline%3B%20filename%3D%22b.txt%22")).await;
    assert_eq!(named.header("content-disposition"), Some("inline; filename=\"b.txt\""));
    assert_eq!(named.header("x-content-type-options"), Some("nosniff"));
    for bad in ["text", "attachment%0d%0ax: y", "inline%00", "%e4", &format!("inline;{}", "a".repeat(1024))] {
        let refused = get(app, &format!("{signed}?response-content-disposition={bad}")).await;
        refused.error(400, Some("response-content-disposition"));
    }
    // Without the file's name, which is only for clients, and with the default lifetime.
    let (token, name) = signed.rsplit_once('/').unwrap();
    assert_eq!((get(app, token).await.status.as_u16(), name), (200, "data.bin"));
    let default = app.client.request(Method::POST, &format!("/v1/files/{file}/signed_url"));
    let default = app.client.send(default).await.ok();
    sign_download(&app.client, &file, Value::Null).await;
    assert!((840..=900).contains(&seconds_left(app, &default).await), "{default}");
}

async fn a_url_for_one_download_is_void_after_it(app: &TestApp) {
    let file = app.client.file("once").await;
    let signed = sign_download(&app.client, &file, json!({"once": true})).await;
    for _ in 0..2 {
        assert_eq!(send(app, Method::HEAD, &signed, &[], b"").await.status, 200);
        assert_eq!(send(app, Method::GET, &signed, &[("if-none-match", "*")], b"").await.status, 304);
        assert_eq!(send(app, Method::GET, &signed, &[("range", "bytes=9-")], b"").await.status, 416);
    }
    assert_eq!(get(app, &signed).await.body, "once");
    assert_refused(&get(app, &signed).await, "signed_url_used");
    assert_eq!(send(app, Method::HEAD, &signed, &[], b"").await.status, 403);

    let used = "select count(*) from used_url";
    let count = async || sqlx::query_scalar::<_, i64>(used).fetch_one(&app.pool).await.unwrap();
    app.sweep();
    assert_eq!(count().await, 1);
    app.pool.execute("update used_url set expires_at = now() - interval '30 days'").await.unwrap();
    app.sweep();
    assert_eq!(count().await, 0, "the use of an expired URL is forgotten");
}

async fn of_parallel_downloads_with_a_url_for_one_download_one_succeeds(app: &TestApp) {
    let file = app.client.file("once").await;
    let signed = sign_download(&app.client, &file, json!({"once": true})).await;
    // Holds up the first two until both have found the URL unused.
    let mut lock = app.pool.begin().await.unwrap();
    lock.execute("lock table used_url in share mode").await.unwrap();
    let waiting = "select count(*) from pg_locks where relation = 'used_url'::regclass and not granted";
    let release = async {
        eventually("two downloads wait", async || {
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&app.pool).await.unwrap() >= 2
        })
        .await;
        lock.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(join_all((0..20).map(|_| get(app, &signed))), release);
    let (succeeded, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.status == 200);
    assert_eq!(succeeded.len(), 1);
    for answer in refused {
        assert_refused(answer, "signed_url_used");
    }
}

async fn a_url_is_void_when_it_has_expired_or_its_file_is_gone(app: &TestApp) {
    let file = app.client.file("x").await;
    let signed = sign_download(&app.client, &file, json!({"expires_in": 1})).await;
    let lasting = sign_download(&app.client, &file, json!({"expires_in": 604_800})).await;
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    assert_refused(&get(app, &signed).await, "signed_url_expired");
    assert_eq!(get(app, &lasting).await.status, 200);
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    get(app, &lasting).await.error(404, Some("id"));
}

async fn a_url_is_void_when_its_key_is_revoked_or_has_expired(app: &TestApp) {
    let file = app.client.file("x").await;
    for end in ["revoked_at = now()", "created_at = now() - interval '2 days', expires_at = now() - interval '1 day'"] {
        let created = app.run(&["keys", "create", "--json"]);
        let created: Value = serde_json::from_slice(&created.stdout).unwrap();
        let client = Client::new(&app.client.address, created["key"].as_str().unwrap());
        let signed = sign_download(&client, &file, json!({})).await;
        assert_eq!(get(app, &signed).await.status, 200);
        let key = id(&created).replace("key_", "");
        app.pool.execute(sqlx::AssertSqlSafe(format!("update api_key set {end} where id = '{key}'"))).await.unwrap();
        assert_refused(&get(app, &signed).await, "invalid_signed_url");
    }
    let other = sign_download(&app.client, &file, json!({})).await;
    assert_eq!(get(app, &other).await.status, 200);
}

async fn a_changed_url_is_refused(app: &TestApp) {
    let file = app.client.file("x").await;
    let signed = sign_download(&app.client, &file, json!({})).await;
    let token = signed.split('/').nth(2).unwrap();
    let other = if token.ends_with('A') { "B" } else { "A" };
    let changed = format!("{}{other}", &token[..token.len() - 2]);
    for token in ["x", "%00", "%ff", "..%2f", &token[1..], &token[..token.len() - 1], &changed, &"A".repeat(5000)] {
        assert_refused(&get(app, &format!("/signed/{token}")).await, "invalid_signed_url");
        assert_refused(&get(app, &format!("/signed/{token}/data.bin")).await, "invalid_signed_url");
        assert_refused(&send(app, Method::PUT, &format!("/signed/{token}"), &[], b"x").await, "invalid_signed_url");
    }
    assert_eq!(get(app, "/signed").await.status, 404);
    assert_eq!(get(app, &format!("{signed}/more")).await.status, 404);
    assert_eq!(send(app, Method::DELETE, &signed, &[], b"").await.status, 405);
    assert_eq!(send(app, Method::POST, &signed, &[], b"x").await.status, 405);
}

async fn a_url_for_a_download_cannot_upload_and_the_reverse(app: &TestApp) {
    let file = app.client.file("x").await;
    let signed = sign_download(&app.client, &file, json!({})).await;
    assert_refused(&send(app, Method::PUT, &signed, &[], b"x").await, "invalid_signed_url");
    let body = json!({"method": "PUT", "filename": "a", "purpose": "user_data"});
    let upload = path(&sign(&app.client, "/v1/files/signed_url", body).await);
    assert_refused(&get(app, &upload).await, "invalid_signed_url");
    // Neither of them is a key.
    let token = signed.split('/').nth(2).unwrap();
    let with_token = Client::new(&app.client.address, &token[..token.len().min(512)]);
    with_token.get("/v1/files").await.error(401, None);
}

async fn urls_stay_valid_when_the_secret_is_rotated_unless_they_are_voided(app: &TestApp) {
    let file = app.client.file("x").await;
    let before = sign_download(&app.client, &file, json!({})).await;
    let rotate = |more: &[&str]| {
        assert!(app.run(&[&["signed-urls", "rotate-secret"], more].concat()).status.success());
        app.kill_and_restart();
    };
    rotate(&[]);
    let between = sign_download(&app.client, &file, json!({})).await;
    app.pool.execute("update url_secret set signs_from = signs_from - interval '1 hour'").await.unwrap();
    app.kill_and_restart();
    let after = sign_download(&app.client, &file, json!({})).await;
    rotate(&[]);
    for signed in [&before, &between, &after] {
        assert_eq!(get(app, signed).await.status, 200);
    }
    // The secrets that a newer one replaced more than the longest lifetime ago are gone.
    app.pool.execute("update url_secret set signs_from = signs_from - interval '9 days'").await.unwrap();
    rotate(&[]);
    let secrets = "select count(*) from url_secret";
    assert_eq!(sqlx::query_scalar::<_, i64>(secrets).fetch_one(&app.pool).await.unwrap(), 2);
    rotate(&["--void-existing"]);
    for signed in [&before, &between, &after] {
        assert_refused(&get(app, signed).await, "invalid_signed_url");
    }
    let new = sign_download(&app.client, &file, json!({})).await;
    assert_eq!(get(app, &new).await.status, 200);
}

async fn a_url_has_the_public_address(app: &TestApp) {
    let file = app.client.file("x").await;
    let signed = sign(&app.client, &format!("/v1/files/{file}/signed_url"), json!({})).await;
    let url = signed["url"].as_str().unwrap();
    assert!(url.starts_with("https://files.example.com/windlass/signed/"), "{url}");
    assert_eq!(get(app, url.strip_prefix("https://files.example.com/windlass").unwrap()).await.body, "x");
}

async fn a_url_has_the_address_of_the_request(app: &TestApp) {
    let file = app.client.file("x").await;
    let sign_via = async |headers: &[(&str, &str)]| {
        let request = app.client.request(Method::POST, &format!("/openai/v1/files/{file}/signed_url"));
        let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
        app.client.send(request).await
    };
    let url = sign_via(&[]).await.ok()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("{}/signed/", app.client.address)), "{url}");
    assert_eq!(reqwest::get(&url).await.unwrap().bytes().await.unwrap(), "x");
    let proxied = [("x-forwarded-host", "example.com"), ("x-forwarded-proto", "https")];
    let url = sign_via(&proxied).await.ok()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("https://example.com/signed/"), "{url}");
    sign_via(&[("x-forwarded-host", "a b")]).await.error(400, None);
}

async fn an_invalid_request_for_a_url_is_refused(app: &TestApp) {
    let file = app.client.file("x").await;
    let path = format!("/v1/files/{file}/signed_url");
    for (body, param) in [
        (json!({"expires_in": 0}), "expires_in"),
        (json!({"expires_in": 604_801}), "expires_in"),
        (json!({"expires_in": -1}), "expires_in"),
        (json!({"expires_in": "900"}), "expires_in"),
        (json!({"expires_in": 1.5}), "expires_in"),
        (json!({"once": "true"}), "once"),
        (json!({"once": 1}), "once"),
        (json!({"expires": 900}), "expires"),
    ] {
        app.client.post(&path, &body).await.error(400, Some(param));
    }
    let with = |name: &str, value: Value| {
        let mut body = json!({"method": "PUT", "filename": "a", "purpose": "user_data"});
        body[name] = value;
        body
    };
    for (body, param) in [
        (with("method", json!("GET")), "method"),
        (with("method", json!("put")), "method"),
        (with("filename", json!("")), "filename"),
        (with("purpose", json!("batch_output")), "purpose"),
        (with("purpose", json!("nothing")), "purpose"),
        (with("purpose", json!("batch")), "filename"),
        (with("purpose", json!("vision")), "mime_type"),
        (with("max_bytes", json!(-1)), "max_bytes"),
        (with("max_bytes", json!(1_u64 << 40)), "max_bytes"),
        (with("expires_in", json!(0)), "expires_in"),
        (with("expires_after", json!({"anchor": "created_at", "seconds": 1})), "expires_after.seconds"),
        (with("once", json!(false)), "once"),
        (json!({"method": "PUT", "purpose": "user_data"}), "filename"),
    ] {
        app.client.post("/v1/files/signed_url", &body).await.error(400, Some(param));
    }
    app.client.post("/v1/files/file-x/signed_url", &json!({})).await.error(404, Some("id"));
    app.stranger().post(&path, &json!({})).await.error(404, Some("id"));
    assert_eq!(app.client.get("/v1/files/signed_url").await.status, 405);
}

async fn a_key_without_the_scope_write_signs_only_downloads(app: &TestApp) {
    let file = app.client.file("x").await;
    let reader = app.run(&["keys", "create", "--scope", "read"]);
    let reader = Client::new(&app.client.address, String::from_utf8(reader.stdout).unwrap().trim());
    let signed = sign_download(&reader, &file, json!({})).await;
    assert_eq!(get(app, &signed).await.body, "x");
    let body = json!({"method": "PUT", "filename": "a", "purpose": "user_data"});
    for path in ["/v1/files/signed_url", "/v1/file%73/signed_url", "/openai/%66iles/signed_url"] {
        assert_eq!(reader.post(path, &body).await.error(403, None)["code"], "missing_scope", "{path}");
    }
}

async fn the_log_contains_no_token(app: &TestApp) {
    let file = app.client.file("x").await;
    let signed = sign_download(&app.client, &file, json!({"once": true})).await;
    let token = signed.split('/').nth(2).unwrap();
    let half = &token[..token.len() / 2];
    let body = json!({"method": "PUT", "filename": "a", "purpose": "user_data", "max_bytes": 1});
    let upload = path(&sign(&app.client, "/v1/files/signed_url", body).await);
    let encoded = signed.replacen("/signed", "/%73igned", 1);
    for path in [
        signed.clone(),
        signed.clone(),
        encoded,
        format!("/{signed}"),
        format!("{signed}/x"),
        format!("/signed/{half}"),
    ] {
        get(app, &path).await;
    }
    send(app, Method::PUT, &upload, &[], b"too long").await;
    send(app, Method::POST, &upload, &[], b"x").await;
    let log = app.log();
    assert!(log.contains(&file), "a download with a signed URL is logged");
    for token in [half, &upload.split('/').nth(2).unwrap()[..40]] {
        assert!(!log.contains(&token[..40]), "{log}");
    }
}
