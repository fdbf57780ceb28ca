//! Files sent in one request: created, retrieved, deleted.

use reqwest::multipart::{Form, Part};
use serde_json::json;

use super::parts::noise;
use crate::support::client::id;
use crate::support::{TestApp, eventually};

crate::on_every_store! {
    a_file_sent_in_one_request_is_downloaded_whole;
    a_file_has_the_fields_of_the_contract;
    a_file_larger_than_a_part_is_split_into_parts (WINDLASS_MAX_PART_BYTES = "1000", WINDLASS_LEDGER_PART_BYTES = "0");
    a_file_that_is_too_large_is_refused_and_leaves_nothing (WINDLASS_MAX_FILE_BYTES = "2000", WINDLASS_MAX_PART_BYTES = "900");
    a_batch_file_has_its_own_size_limit (WINDLASS_MAX_BATCH_FILE_BYTES = "10");
    a_failed_file_is_abandoned_at_once_not_at_its_expiry (WINDLASS_MAX_FILE_BYTES = "3000000");
    an_empty_file_can_be_created;
    expires_after_is_sent_as_two_bracketed_fields;
    a_deleted_file_is_gone_at_once_and_its_bytes_after_the_grace_period (WINDLASS_LEDGER_PART_BYTES = "0");
    an_upload_does_not_show_a_deleted_file;
    a_file_sent_in_one_request_has_no_visible_upload;
}

async fn a_file_sent_in_one_request_is_downloaded_whole(app: &TestApp) {
    let whole = noise(7 * 1024 * 1024 + 3);
    let file = app.client.file(whole.clone()).await;
    assert!(app.client.download(&file).await == whole);
}

async fn a_file_has_the_fields_of_the_contract(app: &TestApp) {
    let file = app.client.create_file("batch", "{}\n").await.ok();
    let keys: Vec<_> = file.as_object().unwrap().keys().take(9).collect();
    assert_eq!(
        keys,
        ["object", "id", "purpose", "filename", "bytes", "created_at", "expires_at", "status", "status_details"]
    );
    assert_eq!(
        (&file["object"], &file["purpose"], &file["filename"]),
        (&json!("file"), &json!("batch"), &json!("data.jsonl"))
    );
    assert_eq!(
        (&file["bytes"], &file["status"], &file["status_details"]),
        (&json!(3), &json!("processed"), &json!(null))
    );
    assert_eq!(
        file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap(),
        2_592_000,
        "batch files expire after 30 days"
    );
    assert_eq!(app.client.get(&format!("/v1/files/{}", id(&file))).await.ok(), file);
    assert_eq!(app.client.create_file("evals", "x").await.ok()["expires_at"], json!(null));
}

async fn a_file_larger_than_a_part_is_split_into_parts(app: &TestApp) {
    for size in [999, 1000, 1001, 4000, 4321] {
        let whole = noise(size);
        let file = app.client.file(whole.clone()).await;
        assert_eq!(app.client.download(&file).await, whole);
        assert_eq!(app.store.list().await.len(), size.div_ceil(1000));
        app.client.delete(&format!("/v1/files/{file}")).await.ok();
        app.let_time_pass("2 hours").await;
        app.sweep();
    }
}

async fn a_file_that_is_too_large_is_refused_and_leaves_nothing(app: &TestApp) {
    app.client.create_file("user_data", noise(2001)).await.error(400, Some("file"));
    app.client.create_file("user_data", noise(3 * 1024 * 1024)).await.error(400, Some("file"));
    app.no_writer_is_busy().await;
    assert_eq!(app.client.get("/v1/files").await.ok()["data"], json!([]));
    app.client.create_file("user_data", noise(2000)).await.ok();
}

async fn a_batch_file_has_its_own_size_limit(app: &TestApp) {
    let error = app.client.create_file("batch", "0123456789+").await.error(400, Some("file"));
    assert!(error["message"].as_str().unwrap().contains("at most 10 bytes, but this one has 11"), "{error}");
    app.client.create_file("batch", "0123456789").await.ok();
    app.client.create_file("user_data", "0123456789+").await.ok();
}

async fn a_failed_file_is_abandoned_at_once_not_at_its_expiry(app: &TestApp) {
    app.client.create_file("world_domination", noise(2_000_000)).await.error(400, Some("purpose"));
    app.client.create_file("user_data", noise(3_000_001)).await.error(400, Some("file"));
    let no_purpose = Form::new().part("file", Part::bytes(noise(2_000_000)).file_name("f"));
    let request = app.client.request("POST".parse().unwrap(), "/v1/files");
    app.client.send(request.multipart(no_purpose)).await.error(400, Some("purpose"));
    eventually("no upload is pending", async || {
        let pending = "select count(*) from upload where status = 'pending'";
        sqlx::query_scalar::<_, i64>(pending).fetch_one(&app.pool).await.unwrap() == 0
    })
    .await;
    app.let_time_pass("2 minutes").await;
    app.sweep();
    assert_eq!(app.store.list().await, []);
}

async fn an_empty_file_can_be_created(app: &TestApp) {
    let file = app.client.create_file("user_data", "").await.ok();
    assert_eq!(file["bytes"], 0);
    assert_eq!(app.client.download(&id(&file)).await, b"");
}

async fn expires_after_is_sent_as_two_bracketed_fields(app: &TestApp) {
    let form = |fields: &[(&'static str, &'static str)]| {
        let form = Form::new().text("purpose", "user_data").part("file", Part::bytes(&b"x"[..]).file_name("f"));
        fields.iter().fold(form, |form, (name, value)| form.text(*name, *value))
    };
    let send =
        |fields| app.client.send(app.client.request("POST".parse().unwrap(), "/v1/files").multipart(form(fields)));
    let file = send(&[("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")]).await.ok();
    assert_eq!(file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap(), 3600);
    let file = send(&[("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "7.2e3")]).await.ok();
    assert_eq!(file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap(), 7200);
    send(&[("expires_after[seconds]", "3600")]).await.error(400, Some("expires_after[anchor]"));
    send(&[("expires_after[anchor]", "created_at")]).await.error(400, Some("expires_after[seconds]"));
    send(&[("expires_after[anchor]", "now"), ("expires_after[seconds]", "3600")])
        .await
        .error(400, Some("expires_after[anchor]"));
    for seconds in ["3599", "2592001", "3600.5", "1e400", "-1", "an hour", ""] {
        let fields: &'static [(&str, &str)] =
            Box::leak(Box::new([("expires_after[anchor]", "created_at"), ("expires_after[seconds]", seconds)]));
        send(fields).await.error(400, Some("expires_after[seconds]"));
    }
    send(&[("expires_after", "{\"anchor\":\"created_at\",\"seconds\":3600}")]).await.error(400, Some("expires_after"));
}

async fn a_deleted_file_is_gone_at_once_and_its_bytes_after_the_grace_period(app: &TestApp) {
    let file = app.client.file("abc").await;
    let path = format!("/v1/files/{file}");
    assert_eq!(app.client.delete(&path).await.ok(), json!({"object": "file", "deleted": true, "id": file}));
    for answer in
        [app.client.get(&path).await, app.client.delete(&path).await, app.client.get(&format!("{path}/content")).await]
    {
        let error = answer.error(404, Some("id"));
        assert_eq!(error["message"], format!("No such File object: {file}"));
    }
    app.sweep();
    assert_eq!(app.store.list().await.len(), 1, "downloads in progress may finish");
    app.let_time_pass("2 hours").await;
    app.sweep();
    assert_eq!(app.store.list().await, []);
}

async fn an_upload_does_not_show_a_deleted_file(app: &TestApp) {
    let upload = app.client.upload(0).await;
    let file = id(&app.client.complete(&upload, &[]).await.ok()["file"]);
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    let left = app.client.get(&format!("/v1/uploads/{upload}")).await.ok();
    assert_eq!(left["status"], "completed");
    assert!(left.get("file").is_none());
}

async fn a_file_sent_in_one_request_has_no_visible_upload(app: &TestApp) {
    let file = app.client.file("abc").await;
    let upload = file.replace("file-", "upload_");
    app.client.get(&format!("/v1/uploads/{upload}")).await.error(404, Some("upload_id"));
    app.client.complete(&upload, &[]).await.error(404, Some("upload_id"));
    app.client.cancel(&upload).await.error(404, Some("upload_id"));
    app.client.add_part(&upload, "x").await.error(404, Some("upload_id"));
    assert_eq!(app.client.get("/v1/uploads").await.ok()["data"], json!([]));
}
