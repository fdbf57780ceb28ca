//! Service keys, scopes, expiry, and the last use of keys.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Answer, Client, TestApp, eventually};

crate::on_a_directory_and_s3! {
    a_service_key_acts_for_the_project_that_the_request_names;
    a_service_key_without_a_permitted_project_is_refused;
    a_gateway_may_name_the_project_in_a_header_of_its_own (WINDLASS_PROJECT_HEADER = "X-MaaS-Username");
    only_a_service_key_may_create_files_of_output_purposes;
    a_key_without_a_scope_is_refused;
    an_expired_key_is_rejected;
    the_use_of_a_key_is_recorded;
    keys_and_projects_are_managed_in_json;
}

/// Creates a key. Returns its JSON output.
fn created(app: &TestApp, arguments: &[&str]) -> Value {
    let output = app.run(&[&["keys", "create", "--json"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn client(app: &TestApp, key: &Value) -> Client {
    Client::new(&app.client.address, key["key"].as_str().unwrap())
}

/// A service key for the projects `team-*`.
fn gateway(app: &TestApp, more: &[&str]) -> Client {
    client(app, &created(app, &[&["--kind", "service", "--acts-for", "team-*", "--name", "gateway"], more].concat()))
}

fn create_upload(client: &Client, purpose: &str) -> RequestBuilder {
    let body = json!({"filename": "a.jsonl", "purpose": purpose, "bytes": 2, "mime_type": "application/jsonl"});
    client.request(Method::POST, "/v1/uploads").json(&body)
}

async fn send_as(client: &Client, project: &str, request: RequestBuilder) -> Answer {
    client.send(request.header("openai-project", project)).await
}

async fn a_service_key_acts_for_the_project_that_the_request_names(app: &TestApp) {
    let gateway = gateway(app, &["--creates-projects"]);
    let upload = id(&send_as(&gateway, "team-a", create_upload(&gateway, "batch")).await.ok());
    let list = |project| send_as(&gateway, project, gateway.request(Method::GET, "/v1/uploads"));
    assert_eq!(list("team-a").await.ok()["data"][0]["id"], *upload);
    assert_eq!(list("team-b").await.ok()["data"], json!([]));
    let path = format!("/v1/uploads/{upload}");
    send_as(&gateway, "team-b", gateway.request(Method::GET, &path)).await.error(404, Some("upload_id"));
    // A key of the project sees the same upload.
    let team = client(app, &created(app, &["--project", "team-a"]));
    assert_eq!(team.get(&path).await.ok()["id"], *upload);
    // A project key ignores the header.
    assert_eq!(send_as(&team, "team-b", team.request(Method::GET, &path)).await.ok()["id"], *upload);
    app.client.get(&path).await.error(404, Some("upload_id"));
    team.cancel(&upload).await.ok();
}

async fn a_service_key_without_a_permitted_project_is_refused(app: &TestApp) {
    let gateway = gateway(app, &[]);
    let get = || gateway.request(Method::GET, "/v1/files");
    let refused = |answer: &Answer, text: &str| {
        let error = answer.error(403, None);
        assert_eq!(error["code"], "project_not_allowed");
        assert!(error["message"].as_str().unwrap().contains(text), "{error}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    };
    refused(&gateway.send(get()).await, "OpenAI-Project");
    let two = get().header("openai-project", "team-a").header("openai-project", "team-b");
    refused(&gateway.send(two).await, "exactly one");
    for project in ["default", "stranger", "xteam-a", "Team-a", "", "team-*", "team-a,team-b", "team-new"] {
        refused(&send_as(&gateway, project, get()).await, "may not act for");
    }
    let not_text = get().header("openai-project", b"team-\xff".as_slice());
    refused(&gateway.send(not_text).await, "may not act for");
    send_as(&gateway, "default", create_upload(&gateway, "batch")).await.error(403, None);
    // Once the project exists, the key may act for it.
    assert!(app.run(&["projects", "create", "team-new"]).status.success());
    send_as(&gateway, "team-new", get()).await.ok();
    let projects = String::from_utf8(app.run(&["projects", "list"]).stdout).unwrap();
    assert!(!projects.contains("team-a"), "a project was created: {projects}");
}

async fn a_gateway_may_name_the_project_in_a_header_of_its_own(app: &TestApp) {
    let key = created(app, &["--kind", "service", "--acts-for", "*@example.com", "--creates-projects"]);
    let gateway = client(app, &key);
    let get = || gateway.request(Method::GET, "/v1/files");
    gateway.send(get().header("x-maas-username", "Alice@example.com")).await.ok();
    gateway.send(get().header("openai-project", "Alice@example.com")).await.ok();
    let both = get().header("x-maas-username", "a@example.com").header("openai-project", "a@example.com");
    gateway.send(both).await.ok();
    let different = get().header("x-maas-username", "a@example.com").header("openai-project", "b@example.com");
    gateway.send(different).await.error(403, None);
}

async fn only_a_service_key_may_create_files_of_output_purposes(app: &TestApp) {
    let gateway = gateway(app, &["--creates-projects"]);
    for purpose in ["batch_output", "fine-tune-results", "assistants_output"] {
        let upload = id(&send_as(&gateway, "team-a", create_upload(&gateway, purpose)).await.ok());
        let cancel = gateway.request(Method::POST, &format!("/v1/uploads/{upload}/cancel"));
        send_as(&gateway, "team-a", cancel).await.ok();
        app.client.send(create_upload(&app.client, purpose)).await.error(400, Some("purpose"));
        let form = || {
            let file = reqwest::multipart::Part::bytes(b"{}".as_slice()).file_name("out.jsonl");
            reqwest::multipart::Form::new().text("purpose", purpose).part("file", file)
        };
        let create = gateway.request(Method::POST, "/v1/files").multipart(form());
        let file = send_as(&gateway, "team-a", create).await.ok();
        assert_eq!(file["purpose"], purpose);
        let create = app.client.request(Method::POST, "/v1/files").multipart(form());
        app.client.send(create).await.error(400, Some("purpose"));
        // The team finds, reads and deletes it with its own key.
        let team = client(app, &created(app, &["--project", "team-a"]));
        let listed = team.get(&format!("/v1/files?purpose={purpose}")).await.ok();
        assert_eq!(listed["data"][0]["id"], file["id"]);
        assert_eq!(team.download(&id(&file)).await, b"{}");
        team.delete(&format!("/v1/files/{}", id(&file))).await.ok();
    }
}

async fn a_key_without_a_scope_is_refused(app: &TestApp) {
    let file = app.client.file("kept").await;
    let reader = client(app, &created(app, &["--scope", "read"]));
    assert_eq!(reader.download(&file).await, b"kept");
    for request in [
        create_upload(&reader, "batch"),
        reader.request(Method::DELETE, &format!("/v1/files/{file}")),
        reader.request(Method::POST, "/v1/uploads/x/cancel"),
    ] {
        let answer = reader.send(request).await;
        assert_eq!(answer.error(403, None)["code"], "missing_scope");
    }
    let writer = client(app, &created(app, &["--scope", "write"]));
    writer.get(&format!("/v1/files/{file}")).await.error(403, None);
    let upload = writer.upload(1).await;
    writer.cancel(&upload).await.ok();
    assert_eq!(app.client.download(&file).await, b"kept");
}

async fn an_expired_key_is_rejected(app: &TestApp) {
    let key = created(app, &["--expires-in", "1h"]);
    let holder = client(app, &key);
    holder.get("/v1/files").await.ok();
    let expire =
        "update api_key set created_at = now() - interval '2 hours', expires_at = now() where name = 'unnamed'";
    sqlx::query(expire).execute(&app.pool).await.unwrap();
    // Valid keys are cached for a few seconds.
    eventually("the key is rejected", async || holder.get("/v1/files").await.status == 401).await;
    assert_eq!(holder.get("/v1/files").await.error(401, None)["code"], "invalid_api_key");
    let listed = String::from_utf8(app.run(&["keys", "list"]).stdout).unwrap();
    assert!(listed.lines().any(|it| it.contains(key["id"].as_str().unwrap()) && it.contains("expired")), "{listed}");
}

async fn the_use_of_a_key_is_recorded(app: &TestApp) {
    let key = created(app, &[]);
    let listed = || -> Vec<Value> { serde_json::from_slice(&app.run(&["keys", "list", "--json"]).stdout).unwrap() };
    let used_at = || listed().into_iter().find(|it| it["id"] == key["id"]).unwrap()["last_used_at"].clone();
    assert_eq!(used_at(), json!(null));
    client(app, &key).get("/v1/files").await.ok();
    eventually("the use is recorded", async || used_at().is_string()).await;
}

async fn keys_and_projects_are_managed_in_json(app: &TestApp) {
    let key = created(app, &["--kind", "service", "--acts-for", "a-*,b", "--name", "gw", "--expires-in", "7d"]);
    assert_eq!((&key["kind"], &key["acts_for"], &key["name"]), (&json!("service"), &json!(["a-*", "b"]), &json!("gw")));
    assert_eq!((&key["creates_projects"], &key["scopes"]), (&json!(false), &json!(["read", "write"])));
    let list = app.run(&["keys", "list", "--json"]);
    let listed: Vec<Value> = serde_json::from_slice(&list.stdout).unwrap();
    let entry = listed.iter().find(|it| it["id"] == key["id"]).unwrap();
    assert_eq!((&entry["state"], &entry["key"]), (&json!("valid"), &json!(null)));
    assert!(entry["expires_at"].is_string());
    let revoked = app.run(&["keys", "revoke", "--json", key["id"].as_str().unwrap()]);
    assert!(serde_json::from_slice::<Value>(&revoked.stdout).unwrap()["revoked_at"].is_string());
    let create = || app.run(&["projects", "create", "Org:x@y", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&create().stdout).unwrap()["created"], json!(true));
    assert_eq!(serde_json::from_slice::<Value>(&create().stdout).unwrap()["created"], json!(false));
    let projects: Vec<Value> = serde_json::from_slice(&app.run(&["projects", "list", "--json"]).stdout).unwrap();
    assert!(projects.iter().any(|it| it["name"] == "Org:x@y"), "{projects:?}");
    for wrong in [
        &["keys", "create", "--kind", "service"][..],
        &["keys", "create", "--acts-for", "a"],
        &["keys", "create", "--kind", "service", "--acts-for", "a b"],
        &["keys", "create", "--kind", "service", "--acts-for", "a", "--project", "b"],
        &["keys", "create", "--creates-projects"],
        &["keys", "create", "--scope", "admin"],
        &["keys", "create", "--expires-in", "0s"],
        &["projects", "create", "a b"],
    ] {
        let output = app.run(wrong);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{wrong:?}");
    }
}
