//! Every request leaves one event: who did what, when and from where.

use reqwest::Method;
use serde_json::{Value, json};

use super::{assert_is, event_of, events, left_by, own_key, run};
use crate::support::client::id;
use crate::support::{Client, TestApp};

crate::on_a_directory_and_s3! {
    every_request_leaves_one_event (WINDLASS_AUDIT = "on");
    an_event_says_who_when_and_from_where (WINDLASS_AUDIT = "on");
    the_use_of_a_signed_url_names_the_key_that_signed_it (WINDLASS_AUDIT = "on");
    a_service_key_acts_for_a_project (WINDLASS_AUDIT = "on");
    every_way_to_write_a_path_is_recorded_alike (WINDLASS_AUDIT = "on");
    a_repeated_request_is_recorded_with_its_object (WINDLASS_AUDIT = "on");
    no_secret_and_no_content_is_recorded (WINDLASS_AUDIT = "on");
    nothing_is_recorded_without_an_audit_trail;
}

/// The path of a signed URL.
fn path(signed: &Value) -> String {
    reqwest::Url::parse(signed["url"].as_str().unwrap()).unwrap().path().to_owned()
}

async fn every_request_leaves_one_event(app: &TestApp) {
    let client = &app.client;
    let (left, upload) = left_by(app, client.upload(3)).await;
    assert_is(&left[0], "upload.create", "ok", Some(200), Some(&upload));
    let (left, part) = left_by(app, client.part(&upload, "abc")).await;
    assert_eq!(left, Vec::<Value>::new(), "a part is visible to nobody before the completion");
    for (address, action, object) in [
        ("/v1/uploads".to_owned(), "upload.list", None),
        (format!("/v1/uploads/{upload}"), "upload.retrieve", Some(&*upload)),
        (format!("/v1/uploads/{upload}/parts"), "upload.list_parts", Some(&*upload)),
        ("/v1/usage".to_owned(), "usage.retrieve", None),
    ] {
        assert_is(&event_of(app, client.get(&address)).await, action, "ok", Some(200), object);
    }
    let (left, completed) = left_by(app, client.complete(&upload, &[&part])).await;
    assert_is(&left[0], "upload.complete", "ok", Some(200), Some(&upload));
    let file = id(&completed.ok()["file"]);
    let other = client.upload(1).await;
    assert_is(&event_of(app, client.cancel(&other)).await, "upload.cancel", "ok", Some(200), Some(&other));

    let (left, form) = left_by(app, client.file("in a form")).await;
    assert_is(&left[0], "file.create", "ok", Some(200), Some(&form));
    let content = format!("/v1/files/{file}/content");
    for (method, address, range, action, status, object) in [
        (Method::GET, "/v1/files".to_owned(), None, "file.list", 200, None),
        (Method::GET, format!("/v1/files/{file}"), None, "file.retrieve", 200, Some(&*file)),
        (Method::HEAD, format!("/v1/files/{file}"), None, "file.retrieve", 200, Some(&*file)),
        (Method::GET, content.clone(), None, "file.read", 200, Some(&*file)),
        (Method::GET, content.clone(), Some("bytes=0-0"), "file.read", 206, Some(&*file)),
        (Method::HEAD, content, None, "file.retrieve", 200, Some(&*file)),
        (Method::DELETE, format!("/v1/files/{form}"), None, "file.delete", 200, Some(&*form)),
    ] {
        let request = client.request(method, &address);
        let request = range.map_or(request.try_clone().unwrap(), |it| request.header("range", it));
        assert_is(&event_of(app, client.send(request)).await, action, "ok", Some(status), object);
    }
    let sign = format!("/v1/files/{file}/signed_url");
    let event = event_of(app, client.post(&sign, &json!({}))).await;
    assert_is(&event, "signed_url.create", "ok", Some(200), Some(&file));
    let body = json!({"method": "PUT", "filename": "a", "purpose": "user_data"});
    let event = event_of(app, client.post("/v1/files/signed_url", &body)).await;
    assert_is(&event, "signed_url.create", "ok", Some(200), None);
    let (left, ()) = left_by(app, async {
        client.get("/livez").await;
        client.get("/metrics").await;
        client.get("/v1/nothing").await;
        client.send(client.request(Method::OPTIONS, "/v1/files")).await;
    })
    .await;
    assert_eq!(left, Vec::<Value>::new(), "these disclose and change nothing");
}

async fn an_event_says_who_when_and_from_where(app: &TestApp) {
    let request = app
        .client
        .request(Method::GET, "/v1/files")
        .header("x-request-id", "req-of-a-gateway")
        .header("user-agent", "a client of caf\u{e9}")
        .header("x-forwarded-for", "203.0.113.7, 198.51.100.1");
    let event = event_of(app, app.client.send(request)).await;
    let key = own_key(app).await;
    for (field, expected) in [
        ("via", json!("key")),
        ("key_id", json!(key)),
        ("project", json!("default")),
        ("operator", Value::Null),
        ("address", json!("127.0.0.1")),
        ("forwarded_for", json!("203.0.113.7, 198.51.100.1")),
        ("request_id", json!("req-of-a-gateway")),
        ("user_agent", json!("a client of caf\u{e9}")),
    ] {
        assert_eq!(event[field], expected, "{field}: {event}");
    }
    let is_now = "select at between now() - interval '1 minute' and now() from audit_event where request_id = $1";
    let is_now = sqlx::query_scalar::<_, bool>(is_now).bind("req-of-a-gateway").fetch_one(&app.pool).await.unwrap();
    assert!(is_now, "{event}");
    let answer = app.client.get("/v1/files").await;
    assert_eq!(events(app).await.last().unwrap()["request_id"], answer.header("x-request-id").unwrap());
}

async fn the_use_of_a_signed_url_names_the_key_that_signed_it(app: &TestApp) {
    let file = app.client.file("some bytes").await;
    let download = path(&app.client.post(&format!("/v1/files/{file}/signed_url"), &json!({})).await.ok());
    let body = json!({"method": "PUT", "filename": "a", "purpose": "user_data"});
    let upload = path(&app.client.post("/v1/files/signed_url", &body).await.ok());
    let anyone = Client::new(&app.client.address, "no-key-at-all");
    let key = own_key(app).await;
    let (left, put) = left_by(app, anyone.send(anyone.request(Method::PUT, &upload).body("new"))).await;
    assert_is(&left[0], "file.create", "ok", Some(200), Some(&id(&put.ok())));
    let mut used = left;
    used.push(event_of(app, anyone.get(&download)).await);
    assert_is(&used[1], "file.read", "ok", Some(200), Some(&file));
    used.push(event_of(app, anyone.send(anyone.request(Method::HEAD, &download))).await);
    assert_is(&used[2], "file.retrieve", "ok", Some(200), Some(&file));
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    used.push(event_of(app, anyone.get(&download)).await);
    assert_is(&used[3], "file.read", "failed", Some(404), Some(&file));
    // The name at the end of a URL is any text, and not what the event is about.
    let token = upload.split('/').nth(2).unwrap();
    let event = event_of(app, anyone.get(&format!("/signed/{token}/{file}"))).await;
    assert_is(&event, "file.read", "denied", Some(403), None);
    for event in used {
        let found = (&event["via"], &event["key_id"], &event["project"]);
        assert_eq!(found, (&json!("signed_url"), &json!(key), &json!("default")), "{event}");
    }
}

async fn a_service_key_acts_for_a_project(app: &TestApp) {
    let create = ["keys", "create", "--kind", "service", "--acts-for", "team-*", "--creates-projects"];
    let gateway = Client::new(&app.client.address, run(app, &create).trim());
    let list = async |project: &str| {
        gateway.send(gateway.request(Method::GET, "/v1/files").header("openai-project", project)).await
    };
    let (left, _) = left_by(app, list("team-a")).await;
    assert_eq!(left.len(), 2, "{left:?}");
    assert_is(&left[0], "project.create", "ok", None, None);
    assert_is(&left[1], "file.list", "ok", Some(200), None);
    assert!(left.iter().all(|it| it["project"] == "team-a" && it["via"] == "key"), "{left:?}");
    assert_eq!(event_of(app, list("team-a")).await["project"], "team-a");
    let denied = event_of(app, list("default")).await;
    assert_is(&denied, "file.list", "denied", Some(403), None);
    assert_eq!((&denied["project"], &denied["key_id"]), (&json!("default"), &left[0]["key_id"]), "{denied}");
    let unnamed = event_of(app, gateway.get("/v1/files")).await;
    assert_is(&unnamed, "file.list", "denied", Some(403), None);
    assert_eq!(unnamed["project"], Value::Null);
}

async fn every_way_to_write_a_path_is_recorded_alike(app: &TestApp) {
    let file = app.client.file("some bytes").await;
    for prefix in ["/v1", "/openai/v1", "/openai", "/%76%31", "/open%61i/v1"] {
        for path in ["files/{}/content", "file%73/{}/content", "files/{}/conten%74", "files/{}/content/"] {
            let path = format!("{prefix}/{}", path.replace("{}", &file));
            let (left, answer) = left_by(app, app.client.get(&path)).await;
            if answer.status == 404 {
                assert_eq!(left, Vec::<Value>::new(), "{path}: it is no operation");
            } else {
                assert_is(&left[0], "file.read", "ok", Some(200), Some(&file));
            }
        }
    }
    let encoded = file.replace("file-", "fil%65-");
    let event = event_of(app, app.client.delete(&format!("/v1/files/{encoded}"))).await;
    assert_is(&event, "file.delete", "ok", Some(200), Some(&file));
}

async fn a_repeated_request_is_recorded_with_its_object(app: &TestApp) {
    let body = json!({"filename": "a", "purpose": "user_data", "bytes": 1, "mime_type": "text/plain"});
    let create = async || {
        let request = app.client.request(Method::POST, "/v1/uploads").header("idempotency-key", "a key");
        id(&app.client.send(request.json(&body)).await.ok())
    };
    let upload = create().await;
    let event = event_of(app, async { assert_eq!(create().await, upload) }).await;
    assert_is(&event, "upload.create", "ok", Some(200), Some(&upload));
}

async fn no_secret_and_no_content_is_recorded(app: &TestApp) {
    let key = run(app, &["keys", "create"]).trim().to_owned();
    let file = app.client.file("confidential content").await;
    let signed = app.client.post(&format!("/v1/files/{file}/signed_url"), &json!({})).await.ok();
    let token = path(&signed).split('/').nth(2).unwrap().to_owned();
    app.client.get(&path(&signed)).await;
    Client::new(&app.client.address, &key).get("/v1/files").await.ok();
    let all = format!("{:?}", events(app).await);
    assert!(all.contains("signed_url"));
    for secret in [&key, &app.client.key, &token[..20], &token[token.len() - 20..], "confidential"] {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }
}

async fn nothing_is_recorded_without_an_audit_trail(app: &TestApp) {
    let file = app.client.file("some bytes").await;
    app.client.download(&file).await;
    run(app, &["keys", "create"]);
    run(app, &["projects", "set", "default", "--max-files", "9"]);
    assert_eq!(events(app).await, Vec::<Value>::new());
}
