//! The real program as a process: started, signalled and ended by its process id.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A `windlass serve` that is listening.
pub struct Program {
    child: Child,
    /// Its base URL, such as `http://127.0.0.1:40123`.
    pub address: String,
    /// The second line of standard output, which shows the API key on a first start.
    pub key_line: Option<String>,
}

/// Copies the program into a directory that any user may enter. Uses `cp`: if this process had the copy open for
/// writing, a child forked by another test would inherit the descriptor, and the copy could not be run (ETXTBSY).
pub fn copy_into(directory: &Path) -> PathBuf {
    let copy = directory.join("windlass");
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_windlass")).arg(&copy).status().unwrap().success());
    copy
}

/// A command that runs the program with these settings and no others.
pub fn command(settings: &[(String, String)]) -> Command {
    command_under(&[], settings)
}

/// Like [`command`], with the program run by another command, given with its arguments.
pub fn command_under(under: &[&str], settings: &[(String, String)]) -> Command {
    // The kernel kills the child when the thread that started it ends, also if the test is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(under).arg(env!("CARGO_BIN_EXE_windlass"));
    with(command, settings)
}

fn with(mut command: Command, settings: &[(String, String)]) -> Command {
    command.env_clear().envs(settings.iter().cloned()).env("PATH", super::tools::path());
    if let Some(bin) = super::tools::pg_bin() {
        command.env("WINDLASS_PG_BIN", bin);
    }
    command
}

/// Runs a command of the program and waits for it.
pub fn run(settings: &[(String, String)], arguments: &[&str]) -> Output {
    command(settings).args(arguments).output().unwrap()
}

impl Program {
    /// Starts `windlass serve` on a free port and waits until it listens.
    pub fn serve(settings: &[(String, String)], log_path: &Path, wait_for_key: bool) -> Self {
        Self::listening(command(settings), settings, log_path, wait_for_key)
    }

    /// Like [`Self::serve`], with the program run by another command, given with its arguments.
    pub fn serve_under(under: &[&str], settings: &[(String, String)], log_path: &Path, wait_for_key: bool) -> Self {
        Self::listening(command_under(under, settings), settings, log_path, wait_for_key)
    }

    /// Like [`Self::serve`], for a thread that ends before the program does.
    pub fn serve_here(settings: &[(String, String)], log_path: &Path) -> Self {
        let command = with(Command::new(env!("CARGO_BIN_EXE_windlass")), settings);
        Self::listening(command, settings, log_path, false)
    }

    fn listening(mut command: Command, settings: &[(String, String)], log_path: &Path, wait_for_key: bool) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path).unwrap();
        let mut child = command
            .env("WINDLASS_LISTEN", "127.0.0.1:0")
            .envs(settings.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        let address = first
            .strip_prefix("listening on ")
            .unwrap_or_else(|| {
                panic!("it printed '{first}': {}", std::fs::read_to_string(log_path).unwrap_or_default())
            })
            .to_owned();
        let key_line = if wait_for_key { lines.next().and_then(Result::ok) } else { None };
        Self { child, address, key_line }
    }

    /// Starts `windlass serve` from a command whose standard streams the caller has set up, and waits until it listens
    /// on a port that this function chooses.
    pub fn answering(mut command: Command) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut child = command.env("WINDLASS_LISTEN", &address).spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "the program has exited");
            assert!(began.elapsed() < Duration::from_mins(1), "the program does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address: format!("http://{address}"), key_line: None }
    }

    /// The read end of the program's standard error, which has to be piped.
    pub fn take_stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills the process if it is still running.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until the process has exited.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < Duration::from_mins(1), "the program does not exit");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A free port outside the ephemeral range.
pub fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() % 10_000 + 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
