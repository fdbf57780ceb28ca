//! Lists: every object once and in order, whatever the page size, including objects with the same creation time.

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Client, TestApp};

crate::on_a_directory_and_s3! {
    pages_of_any_size_list_every_file_once_in_order;
    files_can_be_listed_by_purpose;
    a_deleted_file_is_still_a_valid_cursor;
    an_empty_list_has_the_usual_fields;
    uploads_can_be_listed;
    invalid_page_parameters_are_refused;
    a_parameter_without_a_value_counts_as_absent;
    an_unknown_purpose_is_refused;
}

/// Pages through a list as SDKs do: `after` is the last id of `data`, until `has_more` is false.
async fn pages(client: &Client, path: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let after = ids.last().map(|it| format!("&after={it}")).unwrap_or_default();
        let page = client.get(&format!("{path}{after}")).await.ok();
        let data = page["data"].as_array().unwrap();
        assert_eq!(page["object"], "list");
        assert_eq!(
            (&page["first_id"], &page["last_id"]),
            (
                &data.first().map_or(Value::Null, |it| it["id"].clone()),
                &data.last().map_or(Value::Null, |it| it["id"].clone())
            )
        );
        ids.extend(data.iter().map(id));
        if page["has_more"] == json!(false) {
            return ids;
        }
        assert!(!data.is_empty(), "an empty page with has_more");
    }
}

/// Gives all rows of a table the same creation time.
async fn set_same_creation_time(app: &TestApp, table: &str) {
    let statement = format!(
        "begin; set local session_replication_role = replica; update {table} set created_at = date_trunc('day', now()); commit"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&app.pool).await.unwrap();
}

async fn pages_of_any_size_list_every_file_once_in_order(app: &TestApp) {
    let mut files = Vec::new();
    for _ in 0..7 {
        files.push(app.client.file("x").await);
    }
    app.stranger().file("not ours").await;
    for is_same_time in [false, true] {
        if is_same_time {
            set_same_creation_time(app, "file").await;
        }
        let newest_first: Vec<_> = files.iter().rev().cloned().collect();
        for limit in [1, 2, 3, 7, 8] {
            assert_eq!(pages(&app.client, &format!("/v1/files?limit={limit}&order=asc")).await, files);
            assert_eq!(pages(&app.client, &format!("/v1/files?limit={limit}&order=desc")).await, newest_first);
            assert_eq!(pages(&app.client, &format!("/v1/files?limit={limit}")).await, newest_first);
        }
        assert_eq!(pages(&app.client, "/v1/files?").await, newest_first);
    }
}

async fn files_can_be_listed_by_purpose(app: &TestApp) {
    let mut batch = Vec::new();
    for _ in 0..3 {
        batch.push(id(&app.client.create_file("batch", "x").await.ok()));
        app.client.create_file("evals", "x").await.ok();
    }
    assert_eq!(pages(&app.client, "/v1/files?purpose=batch&limit=1&order=asc").await, batch);
    batch.reverse();
    assert_eq!(pages(&app.client, "/v1/files?purpose=batch&limit=2").await, batch);
    assert_eq!(pages(&app.client, "/v1/files?purpose=assistants_output").await, [""; 0]);
    assert_eq!(pages(&app.client, "/v1/files?").await.len(), 6);
}

async fn a_deleted_file_is_still_a_valid_cursor(app: &TestApp) {
    let mut files = Vec::new();
    for _ in 0..3 {
        files.push(app.client.file("x").await);
    }
    app.client.delete(&format!("/v1/files/{}", files[1])).await.ok();
    let rest = app.client.get(&format!("/v1/files?order=asc&after={}", files[1])).await.ok();
    assert_eq!(rest["data"].as_array().unwrap().iter().map(id).collect::<Vec<_>>(), [files[2].clone()]);
}

async fn an_empty_list_has_the_usual_fields(app: &TestApp) {
    let list = json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false});
    assert_eq!(app.client.get("/v1/files").await.ok(), list);
    assert_eq!(app.client.get("/v1/uploads").await.ok(), list);
}

async fn uploads_can_be_listed(app: &TestApp) {
    let mut uploads = Vec::new();
    for _ in 0..4 {
        uploads.push(app.client.upload(1).await);
    }
    app.client.cancel(&uploads[1]).await.ok();
    app.stranger().upload(1).await;
    set_same_creation_time(app, "upload").await;
    assert_eq!(pages(&app.client, "/v1/uploads?limit=1&order=asc").await, uploads);
    uploads.reverse();
    assert_eq!(pages(&app.client, "/v1/uploads?limit=3").await, uploads);
    app.client.get(&format!("/v1/uploads?after={}", app.stranger().upload(1).await)).await.error(404, Some("after"));
}

async fn invalid_page_parameters_are_refused(app: &TestApp) {
    for list in ["/v1/files", "/v1/uploads"] {
        for limit in ["0", "-1", "10001", "x", "1.5", "1e9", "%20", "1e400"] {
            app.client.get(&format!("{list}?limit={limit}")).await.error(400, Some("limit"));
        }
        for limit in ["10000", "1e4", "5.0"] {
            app.client.get(&format!("{list}?limit={limit}")).await.ok();
        }
        for twice in ["limit=1&limit=2", "limit=1&limit=1", "order=asc&order=desc", "after=a&after=a"] {
            let name = twice.split('=').next();
            let error = app.client.get(&format!("{list}?{twice}")).await.error(400, name);
            assert!(error["message"].as_str().unwrap().contains("given more than once"), "{error}");
        }
        app.client.get(&format!("{list}?order=newest")).await.error(400, Some("order"));
        for after in ["nonsense", "file-00000000000000000000000000000000", "upload_00000000000000000000000000000000"] {
            app.client.get(&format!("{list}?after={after}")).await.error(404, Some("after"));
        }
    }
    let strangers = app.stranger().file("x").await;
    app.client.get(&format!("/v1/files?after={strangers}")).await.error(404, Some("after"));
}

async fn a_parameter_without_a_value_counts_as_absent(app: &TestApp) {
    let (file, upload) = (app.client.file("x").await, app.client.upload(1).await);
    app.client.part(&upload, "x").await;
    for (list, parameters) in [
        ("/v1/files", &["after", "purpose", "limit", "order"][..]),
        ("/v1/uploads", &["after", "limit", "order"]),
        (&format!("/v1/uploads/{upload}/parts"), &["after", "limit"]),
    ] {
        let whole = app.client.get(list).await.ok();
        assert_eq!(whole["data"].as_array().unwrap().len(), 1);
        let together = parameters.join("=&") + "=";
        for query in parameters.iter().flat_map(|it| [format!("{it}="), (*it).to_owned()]).chain([together]) {
            assert_eq!(app.client.get(&format!("{list}?{query}")).await.ok(), whole, "{list}?{query}");
        }
        assert_eq!(app.client.get(&format!("{list}?limit=&limit=1&limit=")).await.ok(), whole);
    }
    assert_eq!(pages(&app.client, "/v1/files?purpose=&order=&limit=1").await, [file]);
}

async fn an_unknown_purpose_is_refused(app: &TestApp) {
    for purpose in ["world_domination", "Batch", "batch%20", "%20", "fine_tune", "assistants,batch", "%00", "null"] {
        let error = app.client.get(&format!("/v1/files?purpose={purpose}")).await.error(400, Some("purpose"));
        assert!(error["message"].as_str().unwrap().contains("is not one of ['fine-tune', 'assistants'"), "{error}");
    }
    app.client.get("/v1/files?purpose=batch&purpose=evals").await.error(400, Some("purpose"));
    // Purposes of files that only OpenAI's own services create.
    for purpose in ["assistants_output", "batch_output", "fine-tune-results"] {
        assert_eq!(app.client.get(&format!("/v1/files?purpose={purpose}")).await.ok()["data"], json!([]), "{purpose}");
    }
}
