//! Uploads: created, retrieved, completed, cancelled.

use serde_json::json;

use crate::support::TestApp;
use crate::support::audit::move_clock;
use crate::support::client::id;

crate::on_every_store! {
    parts_become_a_file_in_the_listed_order;
    an_upload_has_the_fields_of_the_contract;
    concurrently_created_uploads_keep_their_own_fields;
    whole_numbers_are_accepted_in_any_notation;
    an_empty_file_is_completed_without_parts;
    completing_twice_gives_the_same_file;
    a_completed_upload_refuses_a_different_part_list;
    a_completed_upload_refuses_a_different_part_list_after_its_file_is_gone;
    parts_left_out_at_completion_are_discarded (WINDLASS_LEDGER_PART_BYTES = "0");
    a_wrong_md5_changes_nothing_and_a_right_one_is_kept;
    concurrent_completions_create_one_file;
    concurrent_complete_and_cancel_have_one_winner;
    a_cancelled_upload_accepts_no_parts_and_cannot_be_completed;
    cancel_accepts_any_body_or_none;
    a_completed_upload_cannot_be_cancelled;
    the_expiry_of_the_file_is_counted_from_the_uploads_creation;
    any_mime_type_can_be_allowed_for_any_purpose (WINDLASS_MIME_POLICY = "any");
    acknowledged_data_survives_kill_9;
}

async fn parts_become_a_file_in_the_listed_order(app: &TestApp) {
    let upload = app.client.upload(11).await;
    let (world, hello) = (app.client.part(&upload, "world").await, app.client.part(&upload, "hello ").await);
    let completed = app.client.complete(&upload, &[&hello, &world]).await.ok();
    assert_eq!(completed["status"], "completed");
    assert_eq!(app.client.download(&id(&completed["file"])).await, b"hello world");
}

async fn an_upload_has_the_fields_of_the_contract(app: &TestApp) {
    let asked = json!({"filename": "training.jsonl", "purpose": "fine-tune", "bytes": 4, "mime_type": "text/jsonl", "expires_after": null});
    let answer = app.client.post("/v1/uploads", &asked).await;
    let upload = answer.ok();
    let keys: Vec<_> = upload.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["id", "object", "bytes", "created_at", "filename", "purpose", "status", "expires_at", "mime_type"]
    );
    assert_eq!(
        (&upload["object"], &upload["bytes"], &upload["status"]),
        (&json!("upload"), &json!(4), &json!("pending"))
    );
    assert_eq!(upload["expires_at"].as_i64().unwrap() - upload["created_at"].as_i64().unwrap(), 3600);
    assert!(id(&upload).starts_with("upload_") && id(&upload).len() == 39);
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
    assert!(answer.header("openai-processing-ms").unwrap().parse::<u64>().is_ok());
    assert_eq!(answer.header("openai-version"), Some("2020-10-01"));

    let part = app.client.add_part(&id(&upload), "data").await.ok();
    assert_eq!((&part["object"], &part["upload_id"]), (&json!("upload.part"), &upload["id"]));
    assert!(part["created_at"].is_i64() && id(&part).starts_with("part_") && id(&part).len() == 37);

    let completed = app.client.complete(&id(&upload), &[&id(&part)]).await.ok();
    let file = &completed["file"];
    assert_eq!((&completed["status"], &completed["expires_at"]), (&json!("completed"), &upload["expires_at"]));
    assert_eq!(
        (&file["object"], &file["bytes"], &file["filename"]),
        (&json!("file"), &json!(4), &json!("training.jsonl"))
    );
    assert_eq!((&file["purpose"], &file["status"]), (&json!("fine-tune"), &json!("processed")));
    assert_eq!((&file["expires_at"], &file["status_details"]), (&json!(null), &json!(null)));
    assert_eq!(file["created_at"], upload["created_at"], "as at OpenAI: not the time of completion");
    assert!(id(file).starts_with("file-"));
    assert_eq!(app.client.get(&format!("/v1/uploads/{}", id(&upload))).await.ok(), completed);
}

async fn concurrently_created_uploads_keep_their_own_fields(app: &TestApp) {
    let asking = (0..60).map(|number| async move {
        let mut asked = json!({"filename": format!("{number}.jsonl"), "purpose": "batch", "bytes": number, "mime_type": "text/plain"});
        if number % 3 == 0 {
            asked["expires_after"] = json!({"anchor": "created_at", "seconds": 3600 + number});
        }
        app.client.post("/v1/uploads", &asked).await.ok()
    });
    for (number, upload) in futures_util::future::join_all(asking).await.into_iter().enumerate() {
        assert_eq!((&upload["filename"], &upload["bytes"]), (&json!(format!("{number}.jsonl")), &json!(number)));
        assert_eq!(app.client.get(&format!("/v1/uploads/{}", id(&upload))).await.ok(), upload);
        if number == 0 {
            let file = app.client.complete(&id(&upload), &[]).await.ok()["file"].clone();
            assert_eq!(file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap(), 3600);
        }
    }
    assert_eq!(app.client.get("/v1/uploads?limit=100").await.ok()["data"].as_array().unwrap().len(), 60);
}

async fn whole_numbers_are_accepted_in_any_notation(app: &TestApp) {
    let send = async |body: String| {
        let request = app.client.request("POST".parse().unwrap(), "/v1/uploads");
        app.client.send(request.header("content-type", "application/json").body(body)).await.ok()
    };
    let create = async |bytes: &str, seconds: &str| {
        let lifetime = format!(r#"{{"anchor":"created_at","seconds":{seconds}}}"#);
        send(format!(
            r#"{{"filename":"f","purpose":"evals","bytes":{bytes},"mime_type":"x","expires_after":{lifetime}}}"#
        ))
        .await
    };
    for (bytes, expected) in [("5.0", 5_u64), ("1e5", 100_000), ("5E+0", 5), ("50e-1", 5), ("-0.0", 0), ("0e400", 0)] {
        assert_eq!(create(bytes, "3600").await["bytes"], expected, "{bytes}");
    }
    for (seconds, expected) in [("3600.0", 3600), ("36e2", 3600), ("1.5e4", 15_000), ("2592000.000", 2_592_000)] {
        let upload = create("0", seconds).await;
        let file = app.client.complete(&id(&upload), &[]).await.ok()["file"].clone();
        let lifetime = file["expires_at"].as_i64().unwrap() - upload["created_at"].as_i64().unwrap();
        assert_eq!(lifetime, expected, "{seconds}");
    }
    let upload =
        send("\u{feff}{\"filename\":\"f\",\"purpose\":\"evals\",\"bytes\":7,\"mime_type\":\"x\"}".to_owned()).await;
    assert_eq!(upload["bytes"], 7, "a byte order mark before the JSON is skipped");
}

async fn an_empty_file_is_completed_without_parts(app: &TestApp) {
    let upload = app.client.upload(0).await;
    let file = id(&app.client.complete(&upload, &[]).await.ok()["file"]);
    assert_eq!(app.client.download(&file).await, b"");
}

async fn completing_twice_gives_the_same_file(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let part = app.client.part(&upload, "abc").await;
    let first = app.client.complete(&upload, &[&part]).await.ok();
    assert_eq!(app.client.complete(&upload, &[&part]).await.ok(), first);
    let md5 = json!({"part_ids": [part], "md5": "900150983cd24fb0d6963f7d28e17f72"});
    assert_eq!(
        app.client.post(&format!("/v1/uploads/{upload}/complete"), &md5).await.ok()["file"]["id"],
        first["file"]["id"]
    );
}

async fn a_completed_upload_refuses_a_different_part_list(app: &TestApp) {
    let upload = app.client.upload(2).await;
    let (a, b) = (app.client.part(&upload, "a").await, app.client.part(&upload, "b").await);
    let file = id(&app.client.complete(&upload, &[&a, &b]).await.ok()["file"]);
    app.client.complete(&upload, &[&b, &a]).await.error(400, Some("part_ids"));
    app.client.complete(&upload, &[&a]).await.error(400, Some("part_ids"));
    assert_eq!(app.client.download(&file).await, b"ab");
}

async fn a_completed_upload_refuses_a_different_part_list_after_its_file_is_gone(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let part = app.client.part(&upload, "abc").await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    app.client.complete(&upload, &[]).await.error(400, Some("part_ids"));
    app.let_time_pass("2 hours").await;
    app.sweep();
    app.client.complete(&upload, &[]).await.error(400, Some("part_ids"));
    let with_md5 = json!({"part_ids": [], "md5": "d41d8cd98f00b204e9800998ecf8427e"});
    let error = app.client.post(&format!("/v1/uploads/{upload}/complete"), &with_md5).await;
    let error = error.error(400, Some("part_ids"));
    assert!(error["message"].as_str().unwrap().contains("completed"), "{error}");
    // Like a File whose Parts were deleted before the schema had manifests.
    move_clock(&app.pool, "update file set manifest = '{}', offsets = '{}'").await;
    app.client.complete(&upload, &[]).await.error(400, Some("part_ids"));
}

async fn parts_left_out_at_completion_are_discarded(app: &TestApp) {
    let upload = app.client.upload(2).await;
    let kept = app.client.part(&upload, "ok").await;
    app.client.part(&upload, "a retry whose answer was lost").await;
    let file = id(&app.client.complete(&upload, &[&kept]).await.ok()["file"]);
    app.let_time_pass("2 hours").await;
    app.sweep();
    assert_eq!(app.store.list().await.len(), 1);
    assert_eq!(app.client.download(&file).await, b"ok");
}

async fn a_wrong_md5_changes_nothing_and_a_right_one_is_kept(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let (c, ab) = (app.client.part(&upload, "c").await, app.client.part(&upload, "ab").await);
    let path = format!("/v1/uploads/{upload}/complete");
    let claim = |md5: &str| json!({"part_ids": [ab, c], "md5": md5});
    let error = app.client.post(&path, &claim("00000000000000000000000000000000")).await.error(400, Some("md5"));
    assert!(error["message"].as_str().unwrap().contains("900150983cd24fb0d6963f7d28e17f72"), "{error}");
    assert_eq!(app.client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"], "pending");
    let completed = app.client.post(&path, &claim("kAFQmDzST7DWlj99KOF/cg==")).await.ok();
    assert_eq!(completed["file"]["md5"], "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(app.client.post(&path, &claim("900150983CD24FB0D6963F7D28E17F72")).await.ok(), completed);
    app.client.post(&path, &claim("00000000000000000000000000000000")).await.error(400, Some("md5"));
}

async fn concurrent_completions_create_one_file(app: &TestApp) {
    let upload = app.client.upload(2).await;
    let (a, b) = (app.client.part(&upload, "a").await, app.client.part(&upload, "b").await);
    let orders = [[&*a, &*b], [&*b, &*a]];
    let answers =
        futures_util::future::join_all((0..8).map(|it| app.client.complete(&upload, &orders[it % 2][..]))).await;
    let won = answers.iter().filter(|it| it.status == 200).count();
    assert_eq!(won, 4, "the completions with the same order as the first");
    assert!(answers.iter().all(|it| it.status == 200 || it.status == 400));
    assert_eq!(app.client.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 1);
}

async fn concurrent_complete_and_cancel_have_one_winner(app: &TestApp) {
    for _ in 0..10 {
        let upload = app.client.upload(1).await;
        let part = app.client.part(&upload, "a").await;
        let listed = [&*part];
        let (completed, cancelled) =
            futures_util::future::join(app.client.complete(&upload, &listed), app.client.cancel(&upload)).await;
        let status = app.client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"].clone();
        match (completed.status.as_u16(), cancelled.status.as_u16()) {
            (200, 400) => assert_eq!(status, "completed"),
            (400, 200) => assert_eq!(status, "cancelled"),
            other => panic!("{other:?}"),
        }
    }
}

async fn a_cancelled_upload_accepts_no_parts_and_cannot_be_completed(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let part = app.client.part(&upload, "abc").await;
    let cancelled = app.client.cancel(&upload).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled.get("file").is_none());
    app.client.add_part(&upload, "abc").await.error(400, Some("upload_id"));
    app.client.complete(&upload, &[&part]).await.error(400, Some("upload_id"));
    app.client.cancel(&upload).await.error(400, Some("upload_id"));
}

async fn cancel_accepts_any_body_or_none(app: &TestApp) {
    for (content_type, body) in
        [(None, ""), (Some("application/json"), ""), (Some("application/json"), "{}"), (None, "nonsense")]
    {
        let upload = app.client.upload(1).await;
        let mut request =
            app.client.request("POST".parse().unwrap(), &format!("/v1/uploads/{upload}/cancel")).body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        assert_eq!(app.client.send(request).await.ok()["status"], "cancelled");
    }
}

async fn a_completed_upload_cannot_be_cancelled(app: &TestApp) {
    let upload = app.client.upload(0).await;
    let file = id(&app.client.complete(&upload, &[]).await.ok()["file"]);
    app.client.cancel(&upload).await.error(400, Some("upload_id"));
    app.client.add_part(&upload, "late").await.error(400, Some("upload_id"));
    app.client.get(&format!("/v1/files/{file}")).await.ok();
}

async fn the_expiry_of_the_file_is_counted_from_the_uploads_creation(app: &TestApp) {
    let asked = json!({"filename": "f", "purpose": "user_data", "bytes": 0, "mime_type": "x", "expires_after": {"anchor": "created_at", "seconds": 7200}});
    let upload = app.client.post("/v1/uploads", &asked).await.ok();
    let file = app.client.complete(&id(&upload), &[]).await.ok()["file"].clone();
    assert_eq!(file["expires_at"].as_i64().unwrap() - upload["created_at"].as_i64().unwrap(), 7200);
    let batch = json!({"filename": "f.jsonl", "purpose": "batch", "bytes": 0, "mime_type": "x"});
    let upload = app.client.post("/v1/uploads", &batch).await.ok();
    let file = app.client.complete(&id(&upload), &[]).await.ok()["file"].clone();
    assert_eq!(file["expires_at"].as_i64().unwrap() - upload["created_at"].as_i64().unwrap(), 2_592_000);
}

async fn any_mime_type_can_be_allowed_for_any_purpose(app: &TestApp) {
    let asked = json!({"filename": "f", "purpose": "vision", "bytes": 0, "mime_type": "text/plain"});
    app.client.post("/v1/uploads", &asked).await.ok();
}

async fn acknowledged_data_survives_kill_9(app: &TestApp) {
    let upload = app.client.upload(6).await;
    let first = app.client.part(&upload, "abc").await;
    app.kill_and_restart();
    let second = app.client.part(&upload, "def").await;
    let file = id(&app.client.complete(&upload, &[&first, &second]).await.ok()["file"]);
    app.kill_and_restart();
    assert_eq!(app.client.download(&file).await, b"abcdef");
}
