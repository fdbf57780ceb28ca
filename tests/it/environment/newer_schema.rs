//! The program on a schema that a newer version has migrated: during an update of the replicas one by one, and after it
//! was rolled back.

use serde_json::json;
use sqlx::Executor as _;
use windlass_engine::db::migrate;

use crate::support::client::id;
use crate::support::{Client, StoreKind, TestApp, eventually};

/// What the newer version did.
const NEWER_VERSION: &str = include_str!("../sql/newer_version.sql");

async fn record(app: &TestApp, name: &str) {
    sqlx::query("insert into refinery_schema_history values ($1, $2, now()::text, '1')")
        .bind(i32::try_from(migrate::all().len()).unwrap() + 1)
        .bind(name)
        .execute(&app.pool)
        .await
        .unwrap();
}

/// Finishes an upload that has one part, and does everything else once.
async fn works(app: &TestApp, client: &Client, upload: &str, part: &str) {
    let other = client.part(upload, "more").await;
    let file = id(&client.complete(upload, &[part, &other]).await.ok()["file"]);
    assert_eq!(client.download(&file).await, b"bytesmore");
    let form = client.file(vec![7; 100_000]).await;
    assert_eq!(client.download(&form).await, vec![7; 100_000]);
    let signed = client.post(&format!("/v1/files/{form}/signed_url"), &json!({})).await.ok();
    assert_eq!(signed["object"], "signed_url");
    let cancelled = client.upload(5).await;
    client.part(&cancelled, "bytes").await;
    client.cancel(&cancelled).await.ok();
    client.delete(&format!("/v1/files/{form}")).await.ok();
    assert!(app.run(&["keys", "create", "--project", "another"]).status.success());
    app.sweep();
    assert!(app.run(&["fsck", "--deep"]).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_works_on_a_schema_that_was_expanded_while_it_ran_and_can_start_on_it() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let begun = async || {
        let upload = app.client.upload(9).await;
        let part = app.client.part(&upload, "bytes").await;
        (upload, part)
    };
    // Every statement has been prepared before the tables change.
    let (upload, part) = begun().await;
    works(&app, &app.client, &upload, &part).await;
    let (upload, part) = begun().await;
    let mut tx = app.pool.begin().await.unwrap();
    tx.execute(sqlx::raw_sql(NEWER_VERSION)).await.unwrap();
    tx.commit().await.unwrap();
    record(&app, "expand_add_a_column_to_every_table").await;
    works(&app, &app.client, &upload, &part).await;
    let (upload, part) = begun().await;
    app.kill_and_restart();
    assert!(app.log().contains("the schema is newer, and supports this version"), "{}", app.log());
    works(&app, &app.client, &upload, &part).await;
    let events: i64 = sqlx::query_scalar("select count(*) from file_event").fetch_one(&app.pool).await.unwrap();
    assert_eq!(events, 4, "the newer version's trigger has not run");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_program_that_the_schema_no_longer_supports_is_not_ready() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let causes = async || app.client.get("/readyz").await.json()["causes"].clone();
    assert_eq!(causes().await, json!([]));
    let next = migrate::all().len() + 1;
    record(&app, &format!("contract_{next}_drop_a_column")).await;
    eventually("it is not ready", async || causes().await[0]["code"] == "schema_too_new").await;
    assert!(app.log().contains(&format!("know V{next} or later")), "{}", app.log());
    let refused = app.run(&["keys", "list"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("run a newer version"), "{refused:?}");
    sqlx::query("delete from refinery_schema_history where name like 'contract%'").execute(&app.pool).await.unwrap();
    eventually("it is ready again", async || causes().await == json!([])).await;
    app.nothing_is_lost_and_nothing_is_left().await;
}
