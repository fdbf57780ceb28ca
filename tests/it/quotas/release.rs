//! What is reserved is released exactly, however an upload or a file ends.

use serde_json::json;

use super::{assert_exceeded, set, usage, used};
use crate::support::client::id;
use crate::support::{TestApp, eventually};

crate::on_a_directory_and_s3! {
    every_end_of_an_upload_releases_what_it_has_reserved;
    every_end_of_a_file_releases_it;
    what_was_reserved_can_be_used_again;
    a_crash_leaves_no_difference (WINDLASS_PROJECT_MAX_PENDING_UPLOADS = "40");
    usage_is_that_of_the_project_only;
    fsck_finds_and_corrects_wrong_counters;
    an_upload_does_not_store_much_more_than_it_has_declared (WINDLASS_MAX_PART_BYTES = "100");
}

async fn every_end_of_an_upload_releases_what_it_has_reserved(app: &TestApp) {
    let client = &app.client;
    let upload = client.upload(1000).await;
    client.part(&upload, vec![1; 600]).await;
    assert_eq!(used(client).await, [1000, 1, 0], "the declared size counts, not what has arrived");
    client.cancel(&upload).await.ok();
    assert_eq!(used(client).await, [0, 0, 0]);
    client.cancel(&upload).await.error(400, Some("upload_id"));
    assert_eq!(used(client).await, [0, 0, 0], "a second cancel releases nothing");

    let upload = client.upload(70).await;
    app.expire(&upload).await;
    assert_eq!(used(client).await, [70, 1, 0], "until it is swept");
    app.sweep();
    assert_eq!(used(client).await, [0, 0, 0]);

    // Parts that are left out do not count: neither before nor after the completion.
    let upload = client.upload(5).await;
    let kept = client.part(&upload, "12345").await;
    client.part(&upload, "left out").await;
    let file = client.complete(&upload, &[&kept]).await.ok()["file"].clone();
    assert_eq!(used(client).await, [5, 0, 1]);
    client.complete(&upload, &[&kept]).await.ok();
    assert_eq!(used(client).await, [5, 0, 1], "a repeated completion adds nothing");
    client.delete(&format!("/v1/files/{}", id(&file))).await.ok();
    assert_eq!(used(client).await, [0, 0, 0]);
    let empty = client.upload(0).await;
    client.complete(&empty, &[]).await.ok();
    assert_eq!(used(client).await, [0, 0, 1]);
}

async fn every_end_of_a_file_releases_it(app: &TestApp) {
    let client = &app.client;
    let file = client.file("a file").await;
    assert_eq!(used(client).await, [6, 0, 1]);
    client.delete(&format!("/v1/files/{file}")).await.ok();
    client.delete(&format!("/v1/files/{file}")).await.error(404, Some("id"));
    assert_eq!(used(client).await, [0, 0, 0]);
    id(&client.create_file("batch", "{}").await.ok());
    app.let_time_pass("31 days").await;
    assert_eq!(used(client).await, [2, 0, 1], "until it is swept");
    app.sweep();
    assert_eq!(used(client).await, [0, 0, 0]);
    // Rows that are forgotten later release nothing again.
    app.let_time_pass("30 days").await;
    app.sweep();
    assert_eq!(used(client).await, [0, 0, 0]);
}

async fn what_was_reserved_can_be_used_again(app: &TestApp) {
    set(app, "default", &["--max-bytes", "100", "--max-pending-uploads", "2", "--max-files", "3"]);
    let client = &app.client;
    let upload = client.upload(60).await;
    assert_exceeded(&client.begin_upload(41).await, "60 of 100 bytes");
    let other = client.upload(40).await;
    assert_exceeded(&client.begin_upload(0).await, "2 of 2 pending uploads");
    client.cancel(&other).await.ok();
    let part = client.part(&upload, vec![7; 60]).await;
    let file = id(&client.complete(&upload, &[&part]).await.ok()["file"]);
    client.file(vec![1; 20]).await;
    client.file(vec![1; 20]).await;
    assert_exceeded(&client.create_file("user_data", "").await, "3 of 3 files");
    client.delete(&format!("/v1/files/{file}")).await.ok();
    assert_exceeded(&client.create_file("user_data", vec![1; 61]).await, "of 100 bytes");
    client.file(vec![1; 60]).await;
    assert_eq!(used(client).await, [100, 0, 3]);
    // Another project is not affected.
    app.stranger().upload(1000).await;
}

async fn a_crash_leaves_no_difference(app: &TestApp) {
    for round in 0..4 {
        let client = app.client.alone();
        let requests = (0..12_u64).map(async |n| {
            let Some(upload) = client.try_upload(4).await else { return };
            let Some(part) = client.try_part(&upload, b"four").await else { return };
            let Some(file) = client.try_complete(&upload, &part).await else { return };
            if n % 2 == 0 {
                client.try_delete(&file).await;
            }
        });
        let work = futures_util::future::join_all(requests);
        let kill = async {
            tokio::time::sleep(std::time::Duration::from_millis(15 * (round + 1))).await;
            app.program(crate::support::program::Program::kill);
        };
        futures_util::future::join(work, kill).await;
        app.kill_and_restart();
        app.usage_is_counted_exactly().await;
    }
    let listed = app.client.get("/v1/files").await.ok()["data"].as_array().unwrap().len() as u64;
    assert_eq!(used(&app.client).await[2], listed);
    app.expire_everything().await;
    assert_eq!(used(&app.client).await, [4 * listed, 0, listed]);
}

async fn usage_is_that_of_the_project_only(app: &TestApp) {
    app.client.file("mine").await;
    app.client.upload(10).await;
    set(app, "default", &["--max-bytes", "1000"]);
    let none = json!({"bytes": null, "pending_uploads": null, "files": null});
    let empty = json!({"object": "usage", "bytes": 0, "pending_uploads": 0, "files": 0, "limits": none});
    assert_eq!(usage(app.stranger()).await, empty);
    app.stranger().file("theirs").await;
    assert_eq!(used(&app.client).await, [14, 1, 1]);
    let own = usage(&app.client).await;
    assert_eq!(own["limits"], json!({"bytes": 1000, "pending_uploads": null, "files": null}));
    assert_eq!(own["object"], "usage");
}

async fn fsck_finds_and_corrects_wrong_counters(app: &TestApp) {
    app.client.file("a file").await;
    app.client.upload(10).await;
    let report = |options: &[&str]| {
        let done = app.run(&[&["fsck"], options].concat());
        (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap())
    };
    assert!(!report(&[]).1.contains("usage:"));
    let spoil = "update usage_counter set bytes = bytes + 7, files = files - 1 where bytes <> 0";
    sqlx::query(spoil).execute(&app.pool).await.unwrap();
    let (status, text) = report(&[]);
    assert!(status == 3 && text.contains("lack -") && text.contains("0 pending uploads, 0 forms and"), "{text}");
    let (_, text) = report(&["--repair"]);
    assert!(text.contains("usage: ") && text.contains("; corrected"), "{text}");
    assert!(!report(&[]).1.contains("usage:"));
    assert_eq!(used(&app.client).await, [16, 1, 1]);
}

async fn an_upload_does_not_store_much_more_than_it_has_declared(app: &TestApp) {
    let client = &app.client;
    let without = client.upload(1).await;
    for _ in 0..15 {
        client.part(&without, vec![1; 100]).await;
    }
    set(app, "default", &["--max-bytes", "1000000"]);
    let upload = client.upload(100).await;
    // Twice the declared size, and eight parts of the maximum size.
    for _ in 0..11 {
        client.part(&upload, vec![1; 100]).await;
    }
    let refused = client.add_part(&upload, vec![1; 100]).await;
    assert_eq!(refused.error(400, Some("upload_id"))["code"], "quota_exceeded");
    let parts = client.get(&format!("/v1/uploads/{upload}/parts")).await.ok();
    let part = id(&parts["data"][3]);
    client.complete(&upload, &[&part]).await.ok();
    client.cancel(&without).await.ok();
    eventually("the parts that were left out are swept", async || {
        app.let_time_pass("1 day").await;
        app.sweep();
        app.store.list().await.len() <= 1
    })
    .await;
}
