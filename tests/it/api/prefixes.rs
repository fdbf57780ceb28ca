//! The same operations below OpenAI's prefix and those of Azure's clients, with the same keys.

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use windlass_engine::model::Limits;

use crate::support::client::id;
use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    every_operation_needs_a_key_under_every_prefix (WINDLASS_MAX_WRONG_KEYS_PER_MINUTE = "10000");
    a_key_works_in_either_header_and_under_every_prefix;
    an_error_is_the_same_under_every_prefix;
}

const PREFIXES: [&str; 3] = ["/v1", "/openai/v1", "/openai"];

/// Every documented operation and some that do not exist.
fn operations() -> Vec<(Method, String)> {
    let document = serde_json::to_value(windlass::http::document(&Limits::default())).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().map(|it| it.to_uppercase()) {
            operations.push((method.parse().unwrap(), path.replace("{upload_id}", "u").replace("{file_id}", "f")));
        }
        operations.push((Method::PATCH, path.replace("{upload_id}", "u").replace("{file_id}", "f")));
    }
    operations.extend(["", "/", "/nothing", "/files/f/nothing", "/v1/v1/files"].map(|it| (Method::GET, it.to_owned())));
    operations
}

async fn every_operation_needs_a_key_under_every_prefix(app: &TestApp) {
    let http = reqwest::Client::new();
    let bearer = format!("Bearer {}", app.client.key);
    let operations = operations();
    assert!(operations.len() > 25, "{operations:?}");
    for prefix in PREFIXES {
        for (method, path) in &operations {
            for headers in [
                &[][..],
                &[("authorization", "Bearer wrong")],
                &[("api-key", "wrong")],
                &[("authorization", bearer.as_str()), ("api-key", "wrong")],
                &[("authorization", "Bearer wrong"), ("api-key", app.client.key.as_str())],
                &[("authorization", app.client.key.as_str())],
                &[("api-key", bearer.as_str())],
            ] {
                let url = format!("{}{prefix}{path}?api-version=2025-04-01-preview", app.client.address);
                let request = http.request(method.clone(), url);
                let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
                let answer = Answer::from(request.send().await.unwrap()).await;
                if method == Method::HEAD {
                    assert_eq!(answer.status.as_u16(), 401, "{method} {prefix}{path} {headers:?}");
                } else {
                    answer.error(401, None);
                }
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            }
        }
    }
    assert!(!app.log().contains(&app.client.key), "a key is logged");
}

async fn a_key_works_in_either_header_and_under_every_prefix(app: &TestApp) {
    let http = reqwest::Client::new();
    for (prefix, header) in PREFIXES.into_iter().flat_map(|it| [(it, "authorization"), (it, "api-key")]) {
        let value = if header == "api-key" { app.client.key.clone() } else { format!("Bearer {}", app.client.key) };
        let request = |method: Method, path: &str| {
            let url = format!("{}{prefix}{path}?api-version=2025-04-01-preview", app.client.address);
            http.request(method, url).header(header, &value)
        };
        let send = async |request: reqwest::RequestBuilder| Answer::from(request.send().await.unwrap()).await;
        let declared = json!({"filename": "a", "purpose": "user_data", "bytes": 3, "mime_type": "text/plain"});
        let upload = id(&send(request(Method::POST, "/uploads").json(&declared)).await.ok());
        let form = Form::new().part("data", Part::bytes(b"abc".to_vec()));
        let part = id(&send(request(Method::POST, &format!("/uploads/{upload}/parts")).multipart(form)).await.ok());
        let order = json!({ "part_ids": [part] });
        let completed = send(request(Method::POST, &format!("/uploads/{upload}/complete")).json(&order)).await.ok();
        let file = id(&completed["file"]);
        assert_eq!(app.client.download(&file).await, b"abc");
        let path = format!("/files/{file}");
        assert_eq!(send(request(Method::GET, &path)).await.ok(), app.client.get(&format!("/v1{path}")).await.ok());
        let content = send(request(Method::GET, &format!("{path}/content"))).await;
        assert_eq!((content.status.as_u16(), &content.body[..]), (200, &b"abc"[..]));
        let listed = send(request(Method::GET, "/files")).await.ok();
        assert_eq!(listed, app.client.get("/v1/files").await.ok());
        assert_eq!(send(request(Method::DELETE, &path)).await.ok()["deleted"], true);
        app.client.get(&format!("/v1{path}")).await.error(404, Some("id"));
    }
}

async fn an_error_is_the_same_under_every_prefix(app: &TestApp) {
    let wrong = json!({"filename": "a", "purpose": "world_domination", "bytes": 3, "mime_type": "text/plain"});
    for (method, path, body) in [
        (Method::GET, "/files/file-unknown", Value::Null),
        (Method::GET, "/files/file-unknown/content", Value::Null),
        (Method::GET, "/files?limit=0", Value::Null),
        (Method::POST, "/uploads", wrong),
        (Method::POST, "/uploads/upload_unknown/cancel", Value::Null),
    ] {
        let mut answers = Vec::new();
        for prefix in PREFIXES {
            let mut request = app.client.request(method.clone(), &format!("{prefix}{path}"));
            if !body.is_null() {
                request = request.json(&body);
            }
            let answer = app.client.send(request).await;
            answers.push((answer.status, answer.json()));
        }
        assert!(answers[0].0.is_client_error(), "{answers:?}");
        assert!(answers.iter().all(|it| *it == answers[0]), "{answers:?}");
    }
}
