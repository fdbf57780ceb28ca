//! Rates of keys, and the slowing down of wrong keys.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Client, TestApp, eventually};

crate::on_a_directory_and_s3! {
    a_key_that_sends_too_many_requests_is_answered_with_429;
    a_key_that_transfers_too_many_bytes_is_answered_with_429;
    signed_urls_count_for_the_key_that_made_them;
    a_key_without_a_rate_has_that_of_the_settings (WINDLASS_KEY_MAX_REQUESTS_PER_SECOND = "3");
    a_rate_can_be_changed_while_the_service_runs;
    a_refused_request_creates_no_project;
    wrong_keys_from_one_address_are_slowed_down (WINDLASS_MAX_WRONG_KEYS_PER_MINUTE = "5");
    without_a_limit_wrong_keys_are_never_slowed_down (WINDLASS_MAX_WRONG_KEYS_PER_MINUTE = "0");
}

/// More than a bucket of 1000 bytes per second can repay within a minute.
const MANY: usize = 200_000;

fn create(app: &TestApp, limits: &[&str]) -> (Client, String) {
    let made = app.run(&[&["keys", "create", "--json"], limits].concat());
    assert!(made.status.success(), "{made:?}");
    let key: Value = serde_json::from_slice(&made.stdout).unwrap();
    let client = Client::new(&app.client.address, key["key"].as_str().unwrap());
    (client, key["id"].as_str().unwrap().to_owned())
}

/// Asserts that an answer is a 429 of the form that SDKs retry.
#[track_caller]
fn assert_limited(answer: &Answer) {
    let error = answer.error(429, None);
    assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("rate_limit_error")));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(answer.header("x-should-retry"), None, "SDKs may retry it");
    assert!(answer.header("x-request-id").is_some());
}

async fn a_key_that_sends_too_many_requests_is_answered_with_429(app: &TestApp) {
    let (limited, _) = create(app, &["--max-requests-per-second", "2"]);
    let first = limited.get("/v1/files").await;
    first.ok();
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    assert!(first.header("x-ratelimit-reset-requests").is_some_and(|it| it.ends_with('s')));
    assert_eq!(first.header("x-ratelimit-limit-bytes"), None, "it has no such limit");
    let mut refused = None;
    eventually("a request is refused", async || {
        let answers = futures_util::future::join_all((0..20).map(|_| limited.get("/v1/files"))).await;
        refused = answers.into_iter().find(|it| it.status == 429);
        refused.is_some()
    })
    .await;
    let refused = refused.unwrap();
    assert_limited(&refused);
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    // Other keys of the project are not affected, and a refused request has no effect.
    let other = app.client.get("/v1/uploads").await;
    assert_eq!((other.ok()["data"].clone(), other.header("x-ratelimit-limit-requests")), (json!([]), None));
    eventually("the key is served again", async || limited.get("/v1/files").await.status == 200).await;
    // Errors count and have the headers, too.
    eventually("an error has the headers", async || {
        let missing = limited.get("/v1/files/file-00000000000000000000000000000000").await;
        missing.status == 404 && missing.header("x-ratelimit-limit-requests") == Some("2")
    })
    .await;
}

async fn a_key_that_transfers_too_many_bytes_is_answered_with_429(app: &TestApp) {
    // A body that is received.
    let (sender, _) = create(app, &["--max-bytes-per-second", "1000"]);
    let file = sender.file(vec![1; MANY]).await;
    let refused = sender.get("/v1/files").await;
    assert_limited(&refused);
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(refused.header("x-ratelimit-limit-bytes"), Some("1000"));
    assert_eq!(refused.header("x-ratelimit-remaining-bytes"), Some("0"));
    assert!(refused.header("x-ratelimit-reset-bytes").unwrap().contains('m'));
    // A body that is sent.
    let (reader, _) = create(app, &["--max-bytes-per-second", "1000"]);
    assert_eq!(reader.download(&file).await.len(), MANY);
    assert_limited(&reader.get("/v1/files").await);
    app.client.get("/v1/files").await.ok();
}

async fn a_refused_request_creates_no_project(app: &TestApp) {
    let service = ["--kind", "service", "--acts-for", "team-*", "--creates-projects", "--max-requests-per-second", "1"];
    let (gateway, _) = create(app, &service);
    let answers = futures_util::future::join_all((0..20).map(|n| {
        let list = gateway.request(Method::GET, "/v1/files").header("openai-project", format!("team-{n}"));
        gateway.send(list)
    }));
    let answers = answers.await;
    let admitted = answers.iter().filter(|it| it.status == 200).count();
    let projects: Value = serde_json::from_slice(&app.run(&["projects", "list", "--json"]).stdout).unwrap();
    let teams = projects.as_array().unwrap().iter().filter(|it| it["name"].as_str().unwrap().starts_with("team-"));
    assert_eq!(teams.count(), admitted);
    answers.iter().filter(|it| it.status != 200).for_each(assert_limited);
}

async fn signed_urls_count_for_the_key_that_made_them(app: &TestApp) {
    let file = app.client.file(vec![1; MANY]).await;
    let (limited, _) = create(app, &["--max-bytes-per-second", "2000"]);
    let signed = limited.post(&format!("/v1/files/{file}/signed_url"), &json!({})).await.ok();
    let get = async || Answer::from(reqwest::get(signed["url"].as_str().unwrap()).await.unwrap()).await;
    let first = get().await;
    assert_eq!((first.status.as_u16(), first.body.len()), (200, MANY));
    assert_eq!(first.header("x-ratelimit-limit-bytes"), Some("2000"));
    assert_limited(&get().await);
    assert_limited(&limited.get("/v1/files").await);
}

async fn a_key_without_a_rate_has_that_of_the_settings(app: &TestApp) {
    let (unlimited, _) = create(app, &["--max-requests-per-second", "unlimited"]);
    assert_eq!(unlimited.get("/v1/files").await.header("x-ratelimit-limit-requests"), None);
    let (own, _) = create(app, &["--max-requests-per-second", "70"]);
    assert_eq!(own.get("/v1/files").await.header("x-ratelimit-limit-requests"), Some("70"));
    let (default, id) = create(app, &[]);
    assert_eq!(default.get("/v1/files").await.header("x-ratelimit-limit-requests"), Some("3"));
    assert!(app.run(&["keys", "revoke", &id]).status.success());
    // The key of the test itself, which the audit uses.
    let keys: Vec<Value> = serde_json::from_slice(&app.run(&["keys", "list", "--json"]).stdout).unwrap();
    let first = keys.iter().find(|it| it["name"] == "from the settings").unwrap()["id"].as_str().unwrap();
    assert!(app.run(&["keys", "set", first, "--max-requests-per-second", "unlimited"]).status.success());
    eventually("the key is unlimited", async || {
        let answer = app.client.get("/v1/files").await;
        answer.status == 200 && answer.header("x-ratelimit-limit-requests").is_none()
    })
    .await;
}

async fn a_rate_can_be_changed_while_the_service_runs(app: &TestApp) {
    let (client, id) = create(app, &[]);
    assert_eq!(client.get("/v1/files").await.header("x-ratelimit-limit-requests"), None);
    for (limit, header) in [("500", Some("500")), ("default", None)] {
        assert!(app.run(&["keys", "set", &id, "--max-requests-per-second", limit]).status.success());
        eventually("the rate is changed", async || {
            client.get("/v1/files").await.header("x-ratelimit-limit-requests") == header
        })
        .await;
    }
}

async fn send_wrong_key(app: &TestApp, number: usize) -> Answer {
    Client::new(&app.client.address, &format!("a-wrong-key-{number}")).get("/v1/files").await
}

async fn wrong_keys_from_one_address_are_slowed_down(app: &TestApp) {
    app.client.get("/v1/files").await.ok();
    let mut sent = 0;
    let mut refused = None;
    eventually("wrong keys are refused", async || {
        sent += 1;
        let answer = send_wrong_key(app, sent).await;
        let is_refused = answer.status == 429;
        if is_refused {
            refused = Some(answer);
        } else {
            answer.error(401, None);
        }
        is_refused
    })
    .await;
    assert!(sent > 5, "{sent}");
    let refused = refused.unwrap();
    assert_limited(&refused);
    assert_eq!(refused.header("x-ratelimit-limit-requests"), None);
    // A key that was valid a short time ago is accepted from the same address; a request without a key is a 401.
    app.client.get("/v1/files").await.ok();
    let request = reqwest::Client::new().request(Method::GET, format!("{}/v1/files", app.client.address));
    Answer::from(request.send().await.unwrap()).await.error(401, None);
}

async fn without_a_limit_wrong_keys_are_never_slowed_down(app: &TestApp) {
    for number in 0..300 {
        send_wrong_key(app, number).await.error(401, None);
    }
}
