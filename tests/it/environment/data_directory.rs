//! The data directory as orchestrators, volumes and interrupted starts leave it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::embedded::{Embedded, settings};
use crate::support::program;
use crate::support::small_disk::SmallDisk;

fn place() -> (TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data_dir = outer.path().join("data");
    (outer, data_dir)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_that_an_orchestrator_widened_are_corrected() {
    let (_outer, data_dir) = place();
    let service = Embedded::start(&data_dir, &[]);
    let file = service.client.file("kept").await;
    service.stop();
    for widened in ["g+rwX", "a+rwX"] {
        assert!(Command::new("chmod").args(["-R", widened]).arg(&data_dir).status().unwrap().success());
        let service = Embedded::start(&data_dir, &[]);
        assert_eq!(service.client.download(&file).await, b"kept");
        assert!(service.log().contains("permissions were restricted"), "{}", service.log());
        service.stop();
        assert_eq!(mode(&data_dir.join("postgres")), 0o700);
        for name in ["lock", "postgres.log", "postgres-password", "api-key"] {
            assert_eq!(mode(&data_dir.join(name)), 0o600, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_permission_for_a_group_is_kept() {
    let (_outer, data_dir) = place();
    Embedded::start(&data_dir, &[]).stop();
    let key = data_dir.join("api-key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    Embedded::start(&data_dir, &[]).stop();
    assert_eq!(mode(&key), 0o640);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_an_interrupted_start_are_replaced() {
    let (_outer, data_dir) = place();
    fs::create_dir_all(data_dir.join("postgres.new/base")).unwrap();
    fs::write(data_dir.join("postgres.new/PG_VERSION"), "1").unwrap();
    fs::write(data_dir.join("postgres-password"), "").unwrap();
    let service = Embedded::start(&data_dir, &[]);
    service.client.file("works").await;
    service.stop();
    assert!(!data_dir.join("postgres.new").exists());
}

/// Runs `keys list` on a data directory as an unprivileged user.
fn run_as_nobody(outer: &Path, data_dir: &Path) -> Output {
    let program = program::copy_into(outer);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(["keys", "list"]);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("WINDLASS_DATA_DIR", data_dir).output().unwrap()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn an_unwritable_directory_is_reported_with_the_fix() {
    let (outer, data_dir) = place();
    if !is_root() {
        return;
    }
    fs::create_dir(&data_dir).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).unwrap();
    let text = String::from_utf8(run_as_nobody(outer.path(), &data_dir).stderr).unwrap();
    assert!(text.contains("the user 65534 cannot access") && text.contains("`chown -R 65534`"), "{text}");
}

#[test]
fn a_cluster_of_another_user_is_reported_with_the_fix() {
    let (outer, data_dir) = place();
    if !is_root() {
        return;
    }
    fs::create_dir_all(data_dir.join("postgres")).unwrap();
    chown(&data_dir, Some(65534), None).unwrap();
    let text = String::from_utf8(run_as_nobody(outer.path(), &data_dir).stderr).unwrap();
    let cause = "belongs to the user 0, but windlass runs as the user 65534";
    assert!(text.contains(cause) && text.contains("`chown -R 65534`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_on_a_read_only_file_system_is_reported_as_such() {
    let (_outer, data_dir) = place();
    fs::create_dir(&data_dir).unwrap();
    let Some(disk) = SmallDisk::in_memory(&data_dir, 8) else { return };
    disk.remount("ro");
    let output = program::run(&settings(&data_dir), &["keys", "list"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("file system that is read-only: mount it writable"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_too_small_for_a_first_start_is_reported_and_a_start_on_a_larger_one_works() {
    let (_outer, data_dir) = place();
    fs::create_dir(&data_dir).unwrap();
    let Some(disk) = SmallDisk::in_memory(&data_dir, 16) else { return };
    let output = program::run(&settings(&data_dir), &["keys", "list"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("No space left on device"), "{text}");
    assert!(!data_dir.join("postgres.new").exists(), "the partial cluster is left");
    disk.remount("size=400m");
    Embedded::start(&data_dir, &[]).stop();
}
