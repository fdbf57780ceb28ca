//! A disk that is full, read-only or missing.

use crate::support::client::id;
use crate::support::small_disk::SmallDisk;
use crate::support::store::Store;
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp, cluster, eventually, program};

/// A Windlass with a directory store on a small file system; `None` if mounting is not permitted.
async fn app_on_a_small_disk() -> Option<(TestApp, SmallDisk)> {
    let store = Store::new(StoreKind::Directory)?;
    let disk = SmallDisk::in_memory(store.directory()?, 8)?;
    Some((TestApp::on(store, cluster::database().await, &[OBJECTS_ONLY]), disk))
}

async fn has_no_part(app: &TestApp, upload: &str) -> bool {
    app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok()["data"].as_array().unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_does_not_fit_is_refused_and_its_partial_object_is_deleted() {
    let Some((app, _disk)) = app_on_a_small_disk().await else { return };
    let large = vec![7; 12 * 1024 * 1024];
    let upload = app.client.upload(large.len()).await;
    let kept = app.client.file("kept").await;
    app.client.add_part(&upload, large.clone()).await.error(503, None);
    app.client.create_file("user_data", large).await.error(503, None);
    assert!(has_no_part(&app, &upload).await);
    app.no_writer_is_busy().await;
    assert_eq!(app.store.list().await.len(), 1, "the partial objects are left");
    let fits = vec![8; 4 * 1024 * 1024];
    let file = app.client.file(fits.clone()).await;
    assert!(app.client.download(&file).await == fits);
    assert_eq!(app.client.download(&kept).await, b"kept");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_store_is_readable_and_accepts_parts_again_once_writable() {
    let Some((app, disk)) = app_on_a_small_disk().await else { return };
    let (kept, deleted) = (app.client.file("kept").await, app.client.file("deleted").await);
    let upload = app.client.upload(5).await;
    app.client.delete(&format!("/v1/files/{deleted}")).await.ok();
    app.let_time_pass("30 minutes").await;
    disk.remount("ro");
    app.client.add_part(&upload, "bytes").await.error(503, None);
    assert!(has_no_part(&app, &upload).await);
    assert_eq!(app.client.download(&kept).await, b"kept");
    disk.remount("rw");
    let part = app.client.part(&upload, "bytes").await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    assert_eq!(app.client.download(&file).await, b"bytes");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_read_only_store_fails_with_the_reason() {
    let Some((app, disk)) = app_on_a_small_disk().await else { return };
    let file = app.client.file("kept").await;
    disk.remount("ro");
    let mut settings = app.settings.clone();
    settings.push(("WINDLASS_LISTEN".to_owned(), "127.0.0.1:0".to_owned()));
    let started = program::command_under(&["timeout", "60"], &settings).arg("serve").output().unwrap();
    let log = String::from_utf8(started.stderr).unwrap();
    assert_eq!(started.status.code(), Some(1), "{log}");
    assert!(log.contains("its file system is read-only: mount it read-write"), "{log}");
    disk.remount("rw");
    app.kill_and_restart();
    assert_eq!(app.client.download(&file).await, b"kept");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_store_is_an_error_until_it_is_back() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let file = app.client.file("kept").await;
    let upload = app.client.upload(5).await;
    let parts = app.store.directory().unwrap().join("parts");
    std::fs::rename(&parts, parts.with_extension("away")).unwrap();
    app.client.add_part(&upload, "bytes").await.error(503, None);
    assert!(has_no_part(&app, &upload).await);
    eventually("it is not ready", async || app.client.get("/readyz").await.status == 503).await;
    assert_ne!(app.client.get(&format!("/v1/files/{file}/content")).await.status.as_u16(), 200);
    std::fs::rename(parts.with_extension("away"), &parts).unwrap();
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
    assert_eq!(app.client.download(&file).await, b"kept");
    app.client.part(&upload, "bytes").await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_is_refused_before_it_fills_the_disk() {
    let Some((app, disk)) = app_on_a_small_disk().await else { return };
    let upload = app.client.upload(12 * 1024 * 1024).await;
    let pieces = (0..48).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 256 * 1024]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let part = reqwest::multipart::Part::stream(body).file_name("data.bin");
    let form = reqwest::multipart::Form::new().part("data", part);
    let request = app.client.request(reqwest::Method::POST, &format!("/v1/uploads/{upload}/parts")).multipart(form);
    let error = app.client.send(request).await.error(503, None);
    assert!(error["message"].as_str().unwrap().contains("disk is full"), "{error}");
    app.no_writer_is_busy().await;
    assert!(disk.available() > 7 * 1024 * 1024, "the partial object was not deleted");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_free_space_at_once_on_a_disk_that_others_filled() {
    let Some((app, disk)) = app_on_a_small_disk().await else { return };
    let (kept, deleted) = (app.client.file("kept").await, app.client.file(vec![7; 4 * 1024 * 1024]).await);
    disk.fill("foreign");
    eventually("new bytes are refused", async || app.client.begin_upload(5).await.status.as_u16() == 503).await;
    assert_eq!(app.client.get("/readyz").await.status.as_u16(), 200, "reads and deletions still work");
    app.client.delete(&format!("/v1/files/{deleted}")).await.ok();
    // No scheduled sweep was due, and the grace period had not passed.
    eventually("the space is free again", async || disk.available() > 3 * 1024 * 1024).await;
    assert_eq!(app.client.download(&kept).await, b"kept");
    eventually("files are stored again", async || app.client.create_file("user_data", "new").await.status.is_success())
        .await;
    std::fs::remove_file(disk.path().join("foreign")).unwrap();
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_free_inodes_allows_only_deletions() {
    let Some((app, disk)) = app_on_a_small_disk().await else { return };
    let deleted = app.client.file("deleted").await;
    disk.leave_files(2);
    eventually("new bytes are refused", async || app.client.begin_upload(5).await.status.as_u16() == 503).await;
    app.client.delete(&format!("/v1/files/{deleted}")).await.ok();
    eventually("the object is deleted", async || app.store.list().await.is_empty()).await;
    disk.leave_files(1000);
    eventually("files are stored again", async || app.client.create_file("user_data", "new").await.status.is_success())
        .await;
    app.nothing_is_lost_and_nothing_is_left().await;
}
