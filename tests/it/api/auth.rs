//! API keys, and the isolation of projects.

use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, Client, TestApp};

crate::on_a_directory_and_s3! {
    a_missing_or_wrong_key_is_401_before_anything_else;
    objects_of_another_project_are_not_found;
    a_revoked_key_is_rejected;
    keys_are_stored_as_hashes;
    a_short_key_of_an_earlier_version_is_accepted;
}

async fn a_missing_or_wrong_key_is_401_before_anything_else(app: &TestApp) {
    let http = reqwest::Client::new();
    for (method, path) in [
        ("POST", "/v1/uploads"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/file-x/content"),
        ("POST", "/v1/uploads/u/parts"),
        ("GET", "/v1/nothing"),
    ] {
        let request =
            || http.request(method.parse().unwrap(), format!("{}{path}", app.client.address)).body("not json");
        for header in [None, Some("Basic dXNlcjpwYXNz"), Some("Bearer"), Some("test-key-of-the-default-project")] {
            let request = header.into_iter().fold(request(), |request, header| request.header("authorization", header));
            let answer = Answer::from(request.send().await.unwrap()).await;
            let error = answer.error(401, None);
            assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!(null)));
            assert_eq!(
                (answer.header("www-authenticate"), answer.header("x-should-retry")),
                (Some("Bearer"), Some("false"))
            );
            assert!(answer.header("x-request-id").is_some());
        }
        for key in ["wrong", "test-key-of-the-default-projec", "test-key-of-the-default-project2"] {
            let answer = Answer::from(request().bearer_auth(key).send().await.unwrap()).await;
            assert_eq!(answer.error(401, None)["code"], "invalid_api_key");
            assert!(!String::from_utf8_lossy(&answer.body).contains(key), "the response repeats a key");
        }
    }
    let request = http.get(format!("{}/v1/files", app.client.address));
    let lower = request.header("authorization", "bearer test-key-of-the-default-project");
    assert_eq!(lower.send().await.unwrap().status(), 200, "the scheme is case-insensitive");
    assert!(!app.log().contains("test-key-of-the-default-project"), "a key is logged");
}

async fn objects_of_another_project_are_not_found(app: &TestApp) {
    let upload = app.client.upload(1).await;
    let part = app.client.part(&upload, "x").await;
    let file = app.client.file("secret").await;
    let them = app.stranger();
    for path in [format!("/v1/uploads/{upload}"), format!("/v1/uploads/{upload}/parts")] {
        them.get(&path).await.error(404, Some("upload_id"));
    }
    them.add_part(&upload, "x").await.error(404, Some("upload_id"));
    them.complete(&upload, &[&part]).await.error(404, Some("upload_id"));
    them.post(&format!("/v1/uploads/{upload}/complete"), &json!({"part_ids": [part], "md5": "0".repeat(32)}))
        .await
        .error(404, Some("upload_id"));
    them.cancel(&upload).await.error(404, Some("upload_id"));
    for path in [format!("/v1/files/{file}"), format!("/v1/files/{file}/content")] {
        them.get(&path).await.error(404, Some("id"));
    }
    them.delete(&format!("/v1/files/{file}")).await.error(404, Some("id"));
    assert_eq!(them.get("/v1/files").await.ok()["data"], json!([]));
    let own = them.upload(1).await;
    them.complete(&own, &[&part]).await.error(400, Some("part_ids"));
    app.client.complete(&upload, &[&part]).await.ok();
    assert_eq!(app.client.download(&file).await, b"secret");
}

async fn a_revoked_key_is_rejected(app: &TestApp) {
    app.stranger().get("/v1/files").await.ok();
    let listed = String::from_utf8(app.run(&["keys", "list"]).stdout).unwrap();
    let line = listed.lines().find(|it| it.contains("stranger")).unwrap();
    assert!(line.contains("valid") && !listed.contains(&app.stranger().key), "{listed}");
    let key = line.split_whitespace().next().unwrap();
    assert!(app.run(&["keys", "revoke", key]).status.success());
    // Valid keys are cached for a few seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    app.stranger().get("/v1/files").await.error(401, None);
    assert!(app.run(&["keys", "revoke", key]).status.success(), "revoking twice changes nothing");
    assert!(String::from_utf8(app.run(&["keys", "list"]).stdout).unwrap().contains("revoked"));
    let unknown = app.run(&["keys", "revoke", "key_00000000000000000000000000000000"]);
    assert!(!unknown.status.success() && String::from_utf8(unknown.stderr).unwrap().contains("there is no key"));
    // The check after the test downloads the files of both projects: make the key valid again.
    sqlx::query("update api_key set revoked_at = null").execute(&app.pool).await.unwrap();
}

async fn keys_are_stored_as_hashes(app: &TestApp) {
    let keys = [&app.client.key, &app.stranger().key];
    let rows: Vec<String> = sqlx::query_scalar("select api_key::text || encode(hash, 'escape') from api_key")
        .fetch_all(&app.pool)
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| keys.iter().all(|key| !row.contains(*key))));
}

async fn a_short_key_of_an_earlier_version_is_accepted(app: &TestApp) {
    app.stranger();
    let made = "insert into api_key (id, project_id, name, hash)
                select gen_random_uuid(), id, 'made by an earlier version', sha256('x') from project where name = 'stranger'";
    sqlx::query(made).execute(&app.pool).await.unwrap();
    Client::new(&app.client.address, "x").get("/v1/files").await.ok();
}
