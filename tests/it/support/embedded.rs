//! The program with default settings: the embedded PostgreSQL and the objects in one data directory.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::Client;
use super::program::Program;
use super::tools;

/// A running `windlass serve` on a data directory.
pub struct Embedded {
    pub program: Program,
    pub client: Client,
    pub data_dir: PathBuf,
}

/// Settings that name the data directory and nothing else.
pub fn settings(data_dir: &Path) -> Vec<(String, String)> {
    vec![("WINDLASS_DATA_DIR".to_owned(), data_dir.display().to_string())]
}

impl Embedded {
    pub fn start(data_dir: &Path, more: &[(&str, &str)]) -> Self {
        let mut settings = settings(data_dir);
        // Per-request lines would drown out the others: some requests are repeated very often.
        settings.push(("WINDLASS_LOG".to_owned(), "info,windlass::http::access_log=warn".to_owned()));
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let key_is_shown = !data_dir.join("api-key").exists();
        let program = Program::serve(&settings, &log_of(data_dir), key_is_shown);
        let key = fs::read_to_string(data_dir.join("api-key")).unwrap();
        let client = Client::new(&program.address, key.trim());
        Self { program, client, data_dir: data_dir.to_owned() }
    }

    /// Stops it gracefully.
    pub fn stop(mut self) {
        self.program.signal(Signal::SIGINT);
        assert!(self.program.wait().success(), "{}", self.log());
    }

    /// The process id of the PostgreSQL server.
    pub fn postmaster(&self) -> Pid {
        let about = fs::read_to_string(self.data_dir.join("postgres/postmaster.pid")).unwrap();
        Pid::from_raw(about.lines().next().unwrap().parse().unwrap())
    }

    /// The port of the PostgreSQL server.
    pub fn postgres_port(&self) -> u16 {
        let about = fs::read_to_string(self.data_dir.join("postgres/postmaster.pid")).unwrap();
        about.lines().nth(3).unwrap().parse().unwrap()
    }

    /// Kills the PostgreSQL server as the OOM killer does.
    pub fn kill_postmaster(&self) {
        kill(self.postmaster(), Signal::SIGKILL).unwrap();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(log_of(&self.data_dir)).unwrap()
    }

    /// Whether files can be listed.
    pub async fn is_ready(&self) -> bool {
        self.client.get("/v1/files?limit=1").await.status.is_success()
    }

    /// How often the PostgreSQL server was restarted.
    pub async fn restarts(&self) -> u32 {
        let metrics = self.client.get("/metrics").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line = metrics.lines().find_map(|it| it.strip_prefix("windlass_postgres_restarts_total "));
        line.map_or(0, |it| it.parse().unwrap())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the log of the failed test:\n{}", self.log());
        }
    }
}

/// The path of the log. It is outside the data directory, whose disk may be full.
pub fn log_of(data_dir: &Path) -> PathBuf {
    let logs = tools::scratch().join("logs");
    fs::create_dir_all(&logs).unwrap();
    logs.join(data_dir.display().to_string().replace('/', "-"))
}
