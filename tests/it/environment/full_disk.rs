//! A completely full disk in the default layout, with PostgreSQL and objects on one file system.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::client::id;
use crate::support::embedded::{Embedded, log_of, settings};
use crate::support::small_disk::SmallDisk;
use crate::support::{Client, eventually, in_the_end, program};

const MIB: usize = 1024 * 1024;

/// The size of each disk.
const DISK_MIB: u32 = 400;

/// The sweep interval is too long for a scheduled pass to free space during a test.
const SETTINGS: &[(&str, &str)] = &[("WINDLASS_SWEEP_INTERVAL", "1h")];

/// Each kind of disk that is available on this machine.
fn disks() -> impl Iterator<Item = SmallDisk> {
    let memory = || {
        let place = tempfile::tempdir().unwrap().keep();
        SmallDisk::in_memory(&place, DISK_MIB)
    };
    SmallDisk::ext4(DISK_MIB).into_iter().chain(memory())
}

fn serve(disk: &SmallDisk) -> Embedded {
    Embedded::start(&disk.path().join("data"), SETTINGS)
}

/// Creates a file of one part, or returns `None` if it is rejected for lack of space.
async fn try_file(client: &Client, bytes: Vec<u8>) -> Option<String> {
    let created = client.begin_upload(bytes.len()).await;
    if created.status.as_u16() == 503 {
        return None;
    }
    let upload = id(&created.ok());
    let part = client.add_part(&upload, bytes).await;
    if part.status.as_u16() != 503 {
        return Some(id(&client.complete(&upload, &[&id(&part.ok())]).await.ok()["file"]));
    }
    let error = part.error(503, None);
    assert!(error["message"].as_str().unwrap().contains("disk is full"), "{error}");
    assert!(part.header("retry-after").is_some());
    client.cancel(&upload).await.ok();
    None
}

async fn fill_with_files(client: &Client, bytes: usize) -> Vec<String> {
    let mut files = Vec::new();
    while let Some(file) = try_file(client, vec![7; bytes]).await {
        files.push(file);
    }
    files
}

async fn delete(client: &Client, file: &str) {
    client.delete(&format!("/v1/files/{file}")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_fill_the_disk_and_deletions_free_space_at_once() {
    for disk in disks() {
        let service = serve(&disk);
        let mut files = fill_with_files(&service.client, 24 * MIB).await;
        files.extend(fill_with_files(&service.client, 5 * MIB).await);
        files.extend(fill_with_files(&service.client, 100_000).await);
        assert!(files.len() > 8);
        // The space withheld from clients remains free while the database writes.
        assert!(disk.available() > 10 * MIB as u64, "{} bytes are left", disk.available());
        assert!(service.is_ready().await, "reads and deletions do not work");
        assert_eq!(service.client.download(&files[0]).await.len(), 24 * MIB);
        service.client.create_file("user_data", vec![7; 5 * MIB]).await.error(503, None);
        for file in &files {
            delete(&service.client, file).await;
        }
        eventually("the space is free again", async || disk.available() > 150 * MIB as u64).await;
        eventually("uploads work again", async || try_file(&service.client, vec![8; 5 * MIB]).await.is_some()).await;
        service.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_free_space_on_a_disk_that_others_filled_to_the_last_byte() {
    for disk in disks() {
        let service = serve(&disk);
        let mut files = Vec::new();
        for _ in 0..4 {
            files.push(try_file(&service.client, vec![7; 24 * MIB]).await.unwrap());
        }
        let kept = service.client.file("kept").await;
        disk.fill("foreign");
        delete(&service.client, &files[0]).await;
        eventually("the space is free again", async || disk.available() > 20 * MIB as u64).await;
        assert_eq!(service.client.download(&kept).await, b"kept");

        // Again, but stopped and restarted with no space left.
        disk.fill("foreign");
        service.stop();
        disk.fill("foreign");
        let service = serve(&disk);
        for file in &files[1..] {
            delete(&service.client, file).await;
        }
        eventually("the space is free again", async || disk.available() > 50 * MIB as u64).await;
        assert_eq!(service.client.download(&kept).await, b"kept");
        fs::remove_file(disk.path().join("foreign")).unwrap();
        eventually("uploads work again", async || try_file(&service.client, vec![8; MIB]).await.is_some()).await;
        service.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_on_a_full_disk_starts_again() {
    for disk in disks() {
        let mut service = serve(&disk);
        let file = try_file(&service.client, vec![7; 24 * MIB]).await.unwrap();
        disk.fill("foreign");
        service.program.signal(Signal::SIGKILL);
        service.program.wait();
        disk.fill("foreign");
        let service = serve(&disk);
        delete(&service.client, &file).await;
        eventually("the space is free again", async || disk.available() > 20 * MIB as u64).await;
        service.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_a_full_disk_ended_is_restarted_once_there_is_space() {
    for disk in disks() {
        let service = serve(&disk);
        let kept = service.client.file("kept").await;
        // Disable the reserve.
        let reserve = disk.path().join("data/reserve");
        eventually("there is a reserve", async || fs::read_dir(&reserve).is_ok_and(|it| it.count() == 4)).await;
        eventually("the reserve cannot be created again", async || {
            fs::remove_dir_all(&reserve).ok();
            fs::write(&reserve, "").is_ok()
        })
        .await;
        // The next start would delete the stale pid file and could succeed with the block that this frees: delete it
        // here, and fill the block while the program is stopped.
        service.program.signal(Signal::SIGSTOP);
        service.kill_postmaster();
        fs::remove_file(disk.path().join("data/postgres/postmaster.pid")).unwrap();
        disk.fill("foreign");
        service.program.signal(Signal::SIGCONT);
        eventually("restarts have failed", async || {
            disk.fill("foreign");
            service.restarts().await > 2
        })
        .await;
        assert!(service.log().contains("No space left on device"), "{}", service.log());
        fs::remove_file(disk.path().join("foreign")).unwrap();
        eventually("the service recovers", async || service.is_ready().await).await;
        assert_eq!(service.client.download(&kept).await, b"kept");

        // The same if the disk is already full at startup: the program waits for space and can be stopped meanwhile.
        disk.fill("foreign");
        service.stop();
        disk.fill("foreign");
        let data_dir = disk.path().join("data");
        let log = log_of(&data_dir.with_extension("waiting"));
        let mut waiting = program::command(&settings(&data_dir));
        waiting.arg("serve").env("WINDLASS_LISTEN", "127.0.0.1:0").stderr(fs::File::create(&log).unwrap());
        let mut waiting = waiting.spawn().unwrap();
        let text = || fs::read_to_string(&log).unwrap();
        let waits = async || {
            disk.fill("foreign");
            text().matches("restarting it after a pause").count() > 2
        };
        assert!(in_the_end(waits, Duration::from_mins(1)).await, "the start does not wait: {}", text());
        kill(Pid::from_raw(waiting.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(waiting.wait().unwrap().success(), "{}", text());
        fs::remove_file(disk.path().join("foreign")).unwrap();
        serve(&disk).stop();
    }
}
