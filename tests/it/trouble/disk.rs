//! A disk that is full, cannot be written, or is not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::client::id;
use crate::support::store::Store;
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp, cluster, eventually};

/// A file system of a few megabytes where the store is; it goes with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it; nothing for those who may not mount.
    fn at(place: &Path) -> Option<Self> {
        let made = mount(&["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"], place);
        if !made {
            eprintln!("passed over: only root may mount a small disk");
        }
        made.then(|| Self(place.to_owned()))
    }

    fn remount(&self, how: &str) {
        assert!(mount(&["-o", &format!("remount,{how}")], &self.0));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

fn mount(options: &[&str], place: &Path) -> bool {
    let done = Command::new("mount").args(options).arg(place).output();
    done.is_ok_and(|it| it.status.success())
}

async fn app_on_a_small_disk() -> Option<(TestApp, SmallDisk)> {
    let store = Store::new(StoreKind::Directory)?;
    let disk = SmallDisk::at(store.directory()?)?;
    Some((TestApp::on(store, cluster::database().await, &[OBJECTS_ONLY]), disk))
}

async fn has_no_part(app: &TestApp, upload: &str) -> bool {
    app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok()["data"].as_array().unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_finds_no_space_is_refused_and_its_beginning_gives_the_space_back() {
    let Some((app, _disk)) = app_on_a_small_disk().await else { return };
    let large = vec![7; 12 * 1024 * 1024];
    let upload = app.client.upload(large.len()).await;
    let kept = app.client.file("kept").await;
    app.client.add_part(&upload, large.clone()).await.error(503, None);
    app.client.create_file("user_data", large).await.error(503, None);
    assert!(has_no_part(&app, &upload).await);
    app.no_writer_is_busy().await;
    assert_eq!(app.store.list().await.len(), 1, "the space is free again");
    let fits = vec![8; 4 * 1024 * 1024];
    let file = app.client.file(fits.clone()).await;
    assert!(app.client.download(&file).await == fits);
    assert_eq!(app.client.download(&kept).await, b"kept");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_is_still_read_and_takes_parts_again_when_it_can() {
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
async fn a_store_that_is_not_there_is_an_error_until_it_is_there_again() {
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
