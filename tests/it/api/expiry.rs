//! Expiry of uploads and files, and collection of garbage after its grace period.

use serde_json::json;

use crate::support::client::id;
use crate::support::{TestApp, eventually};

crate::on_a_directory_and_s3! {
    an_overdue_upload_is_expired_on_every_route_before_the_sweep;
    the_sweeper_expires_uploads_and_collects_their_parts(WINDLASS_DELETION_GRACE = "1m");
    an_expired_file_is_gone_before_the_sweep;
    the_service_sweeps_periodically (WINDLASS_SWEEP_INTERVAL = "50ms");
    concurrent_sweepers_handle_each_row_once;
    ended_uploads_are_kept_for_a_week;
    the_lifetime_of_uploads_can_be_set (WINDLASS_UPLOAD_LIFETIME = "90s");
}

async fn is_expired_on_every_route(app: &TestApp, upload: &str, part: &str) {
    assert_eq!(app.client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"], "expired");
    assert_eq!(app.client.get("/v1/uploads").await.ok()["data"][0]["status"], "expired");
    let error = app.client.add_part(upload, "late").await.error(410, Some("upload_id"));
    assert_eq!(error["code"], "upload_expired");
    app.client.complete(upload, &[part]).await.error(410, Some("upload_id"));
    app.client
        .post(&format!("/v1/uploads/{upload}/complete"), &json!({"part_ids": [part], "md5": "0".repeat(32)}))
        .await
        .error(410, Some("upload_id"));
    app.client.cancel(upload).await.error(410, Some("upload_id"));
}

async fn an_overdue_upload_is_expired_on_every_route_before_the_sweep(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let part = app.client.part(&upload, "abc").await;
    app.let_time_pass("59 minutes").await;
    app.client.part(&upload, "in time").await;
    app.let_time_pass("1 minute").await;
    is_expired_on_every_route(app, &upload, &part).await;
    // A rejected completion may still hold the row's lock for a moment, and the sweep skips locked rows.
    eventually("the sweep expires it", async || app.sweep().contains("uploads expired: 1")).await;
    is_expired_on_every_route(app, &upload, &part).await;
}

async fn the_sweeper_expires_uploads_and_collects_their_parts(app: &TestApp) {
    for _ in 0..3 {
        let upload = app.client.upload(2).await;
        app.client.part(&upload, "a").await;
        app.client.part(&upload, "b").await;
    }
    let young = app.client.upload(1).await;
    assert!(app.sweep().starts_with("uploads expired: 0, files expired: 0, objects deleted: 0"));
    app.let_time_pass("1 hour").await;
    let fresh = app.client.upload(1).await;
    assert!(app.sweep().contains("uploads expired: 4"));
    app.let_time_pass("2 minutes").await;
    assert!(app.sweep().contains("objects deleted: 6"));
    assert_eq!(app.store.list().await, []);
    assert_eq!(app.client.get(&format!("/v1/uploads/{young}")).await.ok()["status"], "expired");
    assert_eq!(app.client.get(&format!("/v1/uploads/{fresh}")).await.ok()["status"], "pending");
}

async fn an_expired_file_is_gone_before_the_sweep(app: &TestApp) {
    let body = json!({"filename": "f", "purpose": "user_data", "bytes": 3, "mime_type": "x", "expires_after": {"anchor": "created_at", "seconds": 3600}});
    let upload = id(&app.client.post("/v1/uploads", &body).await.ok());
    let part = app.client.part(&upload, "abc").await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    let stays = app.client.file("never expires").await;
    app.let_time_pass("59 minutes").await;
    app.client.get(&format!("/v1/files/{file}")).await.ok();
    app.let_time_pass("1 minute").await;
    app.client.get(&format!("/v1/files/{file}")).await.error(404, Some("id"));
    app.client.get(&format!("/v1/files/{file}/content")).await.error(404, Some("id"));
    app.client.delete(&format!("/v1/files/{file}")).await.error(404, Some("id"));
    assert_eq!(app.client.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 1);
    assert!(app.sweep().contains("files expired: 1"));
    app.let_time_pass("2 hours").await;
    assert!(app.sweep().contains("objects deleted: 1"));
    assert_eq!(app.client.download(&stays).await, b"never expires");
}

async fn the_service_sweeps_periodically(app: &TestApp) {
    let upload = app.client.upload(3).await;
    app.client.part(&upload, "abc").await;
    app.let_time_pass("1 hour").await;
    eventually("the upload is expired", async || {
        sqlx::query_scalar::<_, String>("select status from upload").fetch_one(&app.pool).await.unwrap() == "expired"
    })
    .await;
    app.let_time_pass("1 hour").await;
    eventually("its part is deleted", async || app.store.list().await.is_empty()).await;
}

async fn concurrent_sweepers_handle_each_row_once(app: &TestApp) {
    for _ in 0..30 {
        let upload = app.client.upload(1).await;
        app.client.part(&upload, "a").await;
    }
    app.let_time_pass("1 hour").await;
    let count = |reports: &[String], what: &str| -> u64 {
        let number =
            |report: &String| report.split(", ").find_map(|it| it.trim().strip_prefix(what)?.parse::<u64>().ok());
        reports.iter().filter_map(number).sum()
    };
    let sweep_by_three = || {
        std::thread::scope(|scope| {
            let sweepers: Vec<_> = (0..3).map(|_| scope.spawn(|| app.sweep())).collect();
            sweepers.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        })
    };
    assert_eq!(count(&sweep_by_three(), "uploads expired: "), 30, "each upload is expired once");
    app.let_time_pass("1 hour").await;
    assert_eq!(count(&sweep_by_three(), "objects deleted: "), 30, "each object is deleted once");
}

async fn ended_uploads_are_kept_for_a_week(app: &TestApp) {
    let (cancelled, expired) = (app.client.upload(1).await, app.client.upload(1).await);
    app.client.cancel(&cancelled).await.ok();
    app.let_time_pass("1 hour").await;
    app.sweep();
    app.let_time_pass("6 days").await;
    app.sweep();
    app.client.add_part(&cancelled, "x").await.error(400, Some("upload_id"));
    app.client.add_part(&expired, "x").await.error(410, Some("upload_id"));
    app.let_time_pass("2 days").await;
    assert!(app.sweep().contains("rows forgotten: 2"));
    app.client.add_part(&cancelled, "x").await.error(404, Some("upload_id"));
    app.client.add_part(&expired, "x").await.error(404, Some("upload_id"));
}

async fn the_lifetime_of_uploads_can_be_set(app: &TestApp) {
    let upload = app.client.get(&format!("/v1/uploads/{}", app.client.upload(1).await)).await.ok();
    assert_eq!(upload["expires_at"].as_i64().unwrap() - upload["created_at"].as_i64().unwrap(), 90);
}
