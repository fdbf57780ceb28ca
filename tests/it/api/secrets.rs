//! Keys, bodies, signed URLs and internal details occur neither in logs, at any level, nor in error responses.

use reqwest::Method;
use serde_json::json;
use sqlx::Executor as _;

use super::signed_urls::{path, send, sign};
use crate::support::TestApp;
use crate::support::client::id;

crate::on_a_directory_and_s3! {
    no_secret_is_logged_at_the_finest_level (WINDLASS_LOG = "trace");
    an_internal_error_reveals_no_internal_detail;
}

/// Part of every body that this test sends.
const CONTENT: &str = "content-of-a-body";

async fn no_secret_is_logged_at_the_finest_level(app: &TestApp) {
    let client = &app.client;
    // Small parts are parameters of a statement, larger ones a request to the store.
    for size in [0, 300_000] {
        let bytes = format!("{CONTENT}{}", "x".repeat(size)).into_bytes();
        let upload = client.upload(bytes.len()).await;
        let part = client.part(&upload, bytes.clone()).await;
        let file = id(&client.complete(&upload, &[&part]).await.ok()["file"]);
        assert_eq!(client.download(&file).await, bytes);
        client.file(bytes).await;
    }
    client.send(client.request(Method::POST, "/v1/uploads").body(CONTENT)).await.error(400, None);

    let file = client.file(CONTENT).await;
    let download = path(&sign(client, &format!("/v1/files/{file}/signed_url"), json!({})).await);
    assert_eq!(send(app, Method::GET, &download, &[], b"").await.status, 200);
    let put = json!({"method": "PUT", "filename": "x.txt", "purpose": "user_data"});
    let put = path(&sign(client, "/v1/files/signed_url", put).await);
    assert_eq!(send(app, Method::PUT, &put, &[], CONTENT.as_bytes()).await.status, 200);
    let wrong_key = "sk-windlass-of-somebody-else";
    let stranger = crate::support::Client::new(&client.address, wrong_key);
    stranger.get("/v1/files").await.error(401, None);

    let log = app.log();
    assert!(log.contains("TRACE"), "the level is not in force");
    let tokens = [&download, &put].map(|it| it.split('/').nth(2).unwrap().to_owned());
    let mut secrets = vec![client.key.clone(), wrong_key.to_owned(), CONTENT.to_owned()];
    secrets.extend(tokens);
    secrets.extend(app.settings.iter().filter(|it| it.0 == "AWS_SECRET_ACCESS_KEY").map(|it| it.1.clone()));
    for secret in secrets {
        let line = log.lines().find(|it| it.contains(&secret));
        assert_eq!(line, None, "contains {secret:?}");
    }
}

async fn an_internal_error_reveals_no_internal_detail(app: &TestApp) {
    let file = app.client.file("x").await;
    app.pool.execute("alter table file rename column filename to broken").await.unwrap();
    let answer = app.client.get(&format!("/v1/files/{file}")).await;
    app.pool.execute("alter table file rename column broken to filename").await.unwrap();
    let error = answer.error(500, None);
    let text = error.to_string().to_lowercase();
    for detail in ["column", "broken", "sql", "postgres", "relation", "127.0.0.1", "/tmp", "bucket"] {
        assert!(!text.contains(detail), "{text}");
    }
    assert!(app.log().contains("does not exist"), "the log has the cause");
}
