//! The default setup: a private PostgreSQL below the data directory, which starts and ends with the program.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::program::{self, Program};
use crate::support::{Client, eventually};

fn settings(data_dir: &Path) -> Vec<(String, String)> {
    vec![("WINDLASS_DATA_DIR".to_owned(), data_dir.display().to_string())]
}

fn start(data_dir: &Path, first: bool) -> (Program, Client) {
    let log = data_dir.parent().unwrap().join("log");
    let program = Program::serve(&settings(data_dir), &log, first);
    let key = fs::read_to_string(data_dir.join("api-key")).unwrap();
    let client = Client::new(&program.address, key.trim());
    (program, client)
}

/// A place for a data directory that does not exist yet.
fn place() -> (TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let data_dir = outer.path().join("a place with spaces");
    (outer, data_dir)
}

fn postmaster(data_dir: &Path) -> PathBuf {
    let pid = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).unwrap();
    PathBuf::from(format!("/proc/{}", pid.lines().next().unwrap()))
}

fn stop(mut program: Program) {
    program.signal(Signal::SIGINT);
    assert!(program.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_creates_everything_and_shows_a_key_that_the_next_start_keeps() {
    let (_outer, data_dir) = place();
    let (program, client) = start(&data_dir, true);
    let line = program.key_line.as_ref().unwrap();
    assert!(line.contains("api-key") && !line.contains(&client.key), "a pipe may be a log: {line}");
    let key_file = data_dir.join("api-key");
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let file = client.file("kept").await;
    let postgres = postmaster(&data_dir);
    assert!(postgres.exists());
    stop(program);
    assert!(!postgres.exists(), "the database outlived the program");

    let (program, client) = start(&data_dir, false);
    assert_eq!(client.download(&file).await, b"kept");
    stop(program);
}

#[test]
fn the_first_key_is_shown_on_a_terminal() {
    let (_outer, data_dir) = place();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = program::command(&settings(&data_dir));
    command.stdin(Stdio::null()).stdout(terminal.slave).stderr(Stdio::null());
    let program = Program::answering(command);
    let key = fs::read_to_string(data_dir.join("api-key")).unwrap();
    let mut lines = BufReader::new(fs::File::from(terminal.master)).lines().map_while(Result::ok);
    let line = lines.find(|it| it.starts_with("API key: ")).expect("the line of the key");
    assert!(line.contains(key.trim()) && line.contains(data_dir.to_str().unwrap()), "{line}");
    stop(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_allows_more_connections_than_the_service_may_open() {
    let (_outer, data_dir) = place();
    let mut settings = settings(&data_dir);
    settings.push(("WINDLASS_DATABASE_CONNECTIONS".to_owned(), "150".to_owned()));
    let program = Program::serve(&settings, &data_dir.parent().unwrap().join("log"), false);
    let options = fs::read_to_string(data_dir.join("postgres/postmaster.opts")).unwrap();
    let most = options.split("max_connections=").nth(1).unwrap().split('"').next().unwrap();
    assert!(most.parse::<u32>().unwrap() > 150, "{options}");
    stop(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_ends_with_the_program_even_after_kill_9() {
    let (_outer, data_dir) = place();
    let (mut program, client) = start(&data_dir, true);
    let file = client.file("kept").await;
    let postgres = postmaster(&data_dir);
    program.signal(Signal::SIGKILL);
    program.wait();
    eventually("the database has ended", async || !postgres.exists()).await;
    let (program, client) = start(&data_dir, false);
    assert_eq!(client.download(&file).await, b"kept");
    stop(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_right_after_kill_9_waits_for_the_old_database_to_end() {
    let (_outer, data_dir) = place();
    let (mut program, client) = start(&data_dir, true);
    let mut files = vec![client.file("kept").await];
    for _ in 0..3 {
        program.signal(Signal::SIGKILL);
        program.wait();
        let (next, client) = start(&data_dir, false);
        program = next;
        files.push(client.file("kept").await);
        for file in &files {
            assert_eq!(client.download(file).await, b"kept");
        }
    }
    stop(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_lock_file_with_the_pid_of_a_running_process_is_no_obstacle() {
    let (_outer, data_dir) = place();
    stop(start(&data_dir, true).0);
    let stale = format!("{}\n{}\n1\n1\n\n\n\n", std::process::id(), data_dir.join("postgres").display());
    let path = data_dir.join("postgres/postmaster.pid");
    fs::write(&path, stale).unwrap();
    let owner = fs::metadata(data_dir.join("postgres")).unwrap();
    chown(&path, Some(std::os::unix::fs::MetadataExt::uid(&owner)), None).unwrap();
    stop(start(&data_dir, false).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_the_same_directory_is_refused_but_commands_work() {
    let (_outer, data_dir) = place();
    let (program, client) = start(&data_dir, true);
    let second = program::run(&settings(&data_dir), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8(second.stderr).unwrap().contains("another windlass process is using the data directory"));
    let key = program::run(&settings(&data_dir), &["keys", "create", "--project", "other", "--name", "ci"]);
    let other = Client::new(&program.address, String::from_utf8(key.stdout).unwrap().trim());
    other.get("/v1/files").await.ok();
    assert!(program::run(&settings(&data_dir), &["sweep"]).status.success());
    client.get("/v1/files").await.ok();
    stop(program);
    assert!(program::run(&settings(&data_dir), &["keys", "list"]).status.success(), "also without the service");
}

#[test]
fn a_private_parent_directory_is_no_obstacle() {
    let (outer, data_dir) = place();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o700)).unwrap();
    stop(start(&data_dir, true).0);
}

#[test]
fn an_unprivileged_user_can_run_it() {
    if !nix::unistd::geteuid().is_root() {
        return; // The other tests already run as an unprivileged user.
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = program::copy_into(place.path());
    let data_dir = place.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    chown(&data_dir, Some(65534), Some(65534)).unwrap();
    let made = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["keys", "create"])
        .env_clear()
        // The tests' PostgreSQL may be in a directory that this user cannot enter.
        .env("PATH", "/usr/bin:/bin")
        .env("WINDLASS_DATA_DIR", &data_dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success() || text.contains("no PostgreSQL was found"), "{text}");
}

#[test]
fn without_postgres_there_is_one_clear_message() {
    let (outer, data_dir) = place();
    let mut settings = settings(&data_dir);
    settings.push(("WINDLASS_PG_BIN".to_owned(), outer.path().display().to_string()));
    let output = program::command(&settings).env("WINDLASS_PG_BIN", outer.path()).arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("WINDLASS_PG_BIN is") && text.contains("no `initdb` and `postgres`"), "{text}");
}
