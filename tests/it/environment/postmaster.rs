//! The embedded PostgreSQL crashes, cannot be started, or logs too much.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::support::embedded::Embedded;
use crate::support::eventually;

fn place() -> (TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let data_dir = outer.path().join("data");
    (outer, data_dir)
}

/// Kills the server and binds its port before it is restarted.
fn kill_and_take_port(service: &Embedded) -> TcpListener {
    let port = service.postgres_port();
    service.kill_postmaster();
    loop {
        if let Ok(taken) = TcpListener::bind(("127.0.0.1", port)) {
            return taken;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgres_is_restarted_and_the_service_recovers() {
    let (_outer, data_dir) = place();
    let service = Embedded::start(&data_dir, &[]);
    let mut files = Vec::new();
    for _ in 0..3 {
        files.push(service.client.file("kept").await);
        let (before, restarts) = (service.postmaster(), service.restarts().await);
        service.kill_postmaster();
        eventually("Postgres is restarted", async || service.restarts().await > restarts).await;
        eventually("the service recovers", async || service.is_ready().await).await;
        assert_ne!(service.postmaster(), before);
        for file in &files {
            assert_eq!(service.client.download(file).await, b"kept");
        }
    }
    let log = service.log();
    assert!(
        log.contains("signal: 9 (SIGKILL)") && log.contains("restarting it after a pause"),
        "the reason is not logged: {log}"
    );
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_get_503_until_a_taken_port_is_free_again() {
    let (_outer, data_dir) = place();
    let service = Embedded::start(&data_dir, &[("WINDLASS_LEDGER_PATIENCE", "1s")]);
    let file = service.client.file("kept").await;
    let taken = kill_and_take_port(&service);
    eventually("restarts have failed", async || service.restarts().await > 2).await;
    eventually("it is not ready", async || service.client.get("/readyz").await.status == 503).await;
    let answer = service.client.create_file("user_data", "new").await;
    answer.error(503, None);
    assert!(answer.header("retry-after").is_some());
    assert!(service.log().contains("could not bind"), "{}", service.log());
    drop(taken);
    eventually("the service recovers", async || service.is_ready().await).await;
    assert_eq!(service.client.download(&file).await, b"kept");
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_postgres_is_down_stops_on_a_signal() {
    let (_outer, data_dir) = place();
    let service = Embedded::start(&data_dir, &[("WINDLASS_SHUTDOWN_PATIENCE", "1s")]);
    let _taken = kill_and_take_port(&service);
    eventually("restarts have failed", async || service.restarts().await > 2).await;
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_cluster_ends_the_process_with_a_clear_error() {
    let (_outer, data_dir) = place();
    let mut service = Embedded::start(&data_dir, &[]);
    fs::rename(data_dir.join("postgres"), data_dir.join("elsewhere")).unwrap();
    let about = fs::read_to_string(data_dir.join("elsewhere/postmaster.pid")).unwrap();
    let postmaster = nix::unistd::Pid::from_raw(about.lines().next().unwrap().parse().unwrap());
    kill(postmaster, Signal::SIGKILL).unwrap();
    assert_eq!(service.program.wait().code(), Some(1));
    assert!(service.log().contains("is gone: is its volume still mounted?"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_started_ends_the_process_after_a_few_tries() {
    let (_outer, data_dir) = place();
    let mut service = Embedded::start(&data_dir, &[]);
    fs::remove_file(data_dir.join("postgres/global/pg_control")).unwrap();
    service.kill_postmaster();
    assert_eq!(service.program.wait().code(), Some(1));
    let log = service.log();
    assert!(log.lines().last().unwrap().contains("pg_control"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_postgres_does_not_keep_the_service_from_stopping() {
    let (_outer, data_dir) = place();
    let service = Embedded::start(&data_dir, &[]);
    kill(service.postmaster(), Signal::SIGSTOP).unwrap();
    service.stop();
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |it| it.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_postgres_is_rotated_and_still_serves_as_a_lock() {
    let (_outer, data_dir) = place();
    let service = Embedded::start(&data_dir, &[]);
    let (log, older) = (data_dir.join("postgres.log"), data_dir.join("postgres.log.1"));
    let mut writer = OpenOptions::new().append(true).open(&log).unwrap();
    for round in 0..2 {
        writer.write_all(&vec![round; 17 * 1024 * 1024]).unwrap();
        eventually("the log is rotated", async || length(&log) < 1024 * 1024).await;
        assert!(fs::read(&older).unwrap().ends_with(&[round]));
    }
    // The server keeps writing to it, and a restart finds its lock free.
    service.kill_postmaster();
    eventually("the service recovers", async || service.restarts().await > 0 && service.is_ready().await).await;
    assert!(fs::read_to_string(&log).unwrap().contains("ready to accept connections"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    service.stop();
}
