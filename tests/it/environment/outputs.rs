//! No output failure stops the service: an unread log, a reader that has exited, a full disk, closed descriptors. No
//! command loses its output without reporting it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::program::{self, Program};
use crate::support::{Client, cluster, eventually};

const KEY: &str = "a-key-for-these-tests";

async fn settings() -> (TempDir, Vec<(String, String)>) {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL", cluster::database().await.url),
        ("WINDLASS_DATA_DIR", data_dir.path().display().to_string()),
        ("WINDLASS_DATABASE_CONNECTIONS", "4".to_owned()),
        ("WINDLASS_API_KEY", KEY.to_owned()),
    ];
    (data_dir, settings.map(|(name, value)| (name.to_owned(), value)).into())
}

/// A file on which every write fails as on a full disk.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A pipe that child processes do not inherit.
fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap()
}

/// A full pipe that is never read.
fn stuck_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while nix::unistd::write(writer.as_fd(), &[b'.'; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

/// Uploads a file and downloads it again.
async fn serves(program: &Program) {
    let client = Client::new(&program.address, KEY);
    let file = client.file("the file").await;
    assert_eq!(client.download(&file).await, b"the file");
}

async fn dropped_lines(program: &Program) -> f64 {
    let metrics = reqwest::get(format!("{}/metrics", program.address)).await.unwrap().text().await.unwrap();
    let line = metrics.lines().find(|it| it.starts_with("windlass_log_lines_dropped_total ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Asserts that the program exits with status 0 after a SIGTERM.
fn stops_cleanly(mut program: Program) {
    program.signal(Signal::SIGTERM);
    assert!(program.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_keeps_running_when_the_reader_of_its_log_exits() {
    let (_data_dir, settings) = settings().await;
    let mut command = program::command(&settings);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut program = Program::answering(command);
    drop(program.take_stderr());
    serves(&program).await;
    eventually("the dropped lines are counted", async || dropped_lines(&program).await > 2.0).await;
    stops_cleanly(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_keeps_running_with_an_unread_log_and_later_reports_the_loss() {
    let (_data_dir, mut settings) = settings().await;
    settings.push(("WINDLASS_LOG".to_owned(), "trace".to_owned()));
    let mut command = program::command(&settings);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut program = Program::answering(command);
    let log = program.take_stderr();
    eventually("the pipe and the queue are full", async || {
        serves(&program).await;
        dropped_lines(&program).await > 100.0
    })
    .await;
    serves(&program).await;

    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(log).lines().map_while(Result::ok);
        lines.filter(|it| it.contains("log lines could not be written and were dropped")).count()
    });
    // Dropped lines are reported once no more have been dropped for a moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    serves(&program).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stops_cleanly(program);
    assert!(reading.join().unwrap() > 0, "the loss is not reported");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_stops_in_time_with_an_unread_log() {
    let (_data_dir, settings) = settings().await;
    let (reader, writer) = stuck_pipe();
    let mut command = program::command(&settings);
    // Standard output is the same pipe, as under most supervisors.
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let program = Program::answering(command);
    serves(&program).await;
    stops_cleanly(program);
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_exits_even_if_its_output_is_not_read() {
    for arguments in [&["serve"][..], &["no-such-command"], &["--help"]] {
        let (reader, writer) = stuck_pipe();
        let settings = [("WINDLASS_STORE".to_owned(), "nonsense".to_owned())];
        let mut command = program::command(&settings);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_mins(1), "{arguments:?} does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(child.wait().unwrap().code(), Some(if arguments == ["--help"] { 0 } else { 2 }), "{arguments:?}");
        drop(reader);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_and_runs_if_no_output_can_be_written() {
    let (_data_dir, settings) = settings().await;
    let mut command = program::command(&settings);
    command.stdout(full()).stderr(full());
    let program = Program::answering(command);
    serves(&program).await;
    eventually("the dropped lines are counted", async || dropped_lines(&program).await > 2.0).await;
    stops_cleanly(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_runs_with_closed_standard_descriptors_and_reserves_them() {
    let (data_dir, settings) = settings().await;
    let mut command = program::command_under(&["sh", "-c", "exec \"$0\" \"$@\" 0<&- 1>&- 2>&-"], &settings);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let program = Program::answering(command);
    serves(&program).await;
    for descriptor in 0..3 {
        let opened = fs::read_link(format!("/proc/{}/fd/{descriptor}", program.pid())).unwrap();
        assert_eq!(opened, Path::new("/dev/null"), "{descriptor}");
    }
    stops_cleanly(program);
    drop(data_dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_above_the_file_size_limit_is_refused_as_on_a_full_disk() {
    let (_data_dir, settings) = settings().await;
    // `ulimit -f` counts blocks of 512 or 1024 bytes.
    let mut command = program::command_under(&["sh", "-c", "ulimit -f 1000; exec \"$0\" \"$@\""], &settings);
    let log = tempfile::NamedTempFile::new().unwrap();
    command.stdout(Stdio::null()).stderr(log.reopen().unwrap());
    let program = Program::answering(command);
    let client = Client::new(&program.address, KEY);
    let upload = client.upload(3_000_000).await;
    client.add_part(&upload, vec![b'x'; 3_000_000]).await.error(503, None);
    serves(&program).await;
    stops_cleanly(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_shown_is_revoked_and_the_command_fails() {
    let (_data_dir, settings) = settings().await;
    let closed_pipe = || pipe().1;
    for (name, stdout) in [("full", Stdio::from(full())), ("closed", Stdio::from(closed_pipe()))] {
        let mut command = program::command(&settings);
        let output = command.args(["keys", "create", "--name", name]).stdout(stdout).stderr(Stdio::piped());
        let output = output.spawn().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("could not be shown, and was revoked"), "{text}");
        let listed = String::from_utf8(program::run(&settings, &["keys", "list"]).stdout).unwrap();
        let line = listed.lines().find(|it| it.ends_with(name)).unwrap();
        assert!(line.contains("revoked"), "{listed}");
    }
    // The key is still shown if standard error cannot be written.
    let shown =
        program::command(&settings).args(["keys", "create"]).stderr(full()).stdout(Stdio::piped()).output().unwrap();
    assert!(shown.status.success() && shown.stdout.starts_with(b"wl-"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_output_is_lost_fails_unless_its_reader_has_exited() {
    let (_data_dir, settings) = settings().await;
    for arguments in [&["keys", "list"][..], &["sweep"], &["fsck"], &["openapi"], &["--help"], &["--version"]] {
        // A key, so that there is something to list.
        assert!(program::run(&settings, &["keys", "create"]).status.success());
        let run = |stdout: Stdio| {
            let mut command = program::command(&settings);
            command.args(arguments).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
        };
        let lost = run(full().into());
        let text = String::from_utf8(lost.stderr).unwrap();
        assert_eq!(lost.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains("standard output cannot be written"), "{arguments:?}: {text}");
        let (reader, writer) = pipe();
        drop(reader);
        let unread = run(writer.into());
        let text = String::from_utf8(unread.stderr).unwrap();
        assert!(unread.status.success() && !text.contains("panicked"), "{arguments:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_keeps_running_when_its_terminal_closes() {
    let (_data_dir, settings) = settings().await;
    let terminal = nix::pty::openpty(None, None).unwrap();
    fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "setsid", "--ctty", env!("CARGO_BIN_EXE_windlass")]);
    command.env_clear().envs(settings).env("PATH", crate::support::tools::path());
    command
        .stdin(terminal.slave.try_clone().unwrap())
        .stdout(terminal.slave.try_clone().unwrap())
        .stderr(terminal.slave);
    let program = Program::answering(command);
    drop(terminal.master);
    serves(&program).await;
    eventually("the dropped lines are counted", async || dropped_lines(&program).await > 0.0).await;
    stops_cleanly(program);
}
