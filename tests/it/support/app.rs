//! A Windlass for one test: a process with its own database and store, and clients of two projects.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sqlx::PgPool;
use tempfile::TempDir;

use super::client::Client;
use super::cluster::{self, Database};
use super::eventually;
use super::program::{self, Program};
use super::store::{Store, StoreKind};

/// A running Windlass.
pub struct TestApp {
    /// A client with a key of the project `default`.
    pub client: Client,
    /// A client of another project, created on first use.
    stranger: OnceLock<Client>,
    /// Connections to the program's database.
    pub pool: PgPool,
    /// The program's store.
    pub store: Store,
    /// The settings that the program was started with.
    pub settings: Vec<(String, String)>,
    pub data_dir: TempDir,
    program: Mutex<Program>,
}

impl TestApp {
    /// Starts a program with a new database; `None` if the store's server is not installed.
    pub async fn start(kind: StoreKind, more: &[(&str, &str)]) -> Option<Self> {
        let store = Store::new(kind)?;
        let app = Self::on(store, cluster::database().await, more);
        // On a busy machine it could otherwise do the work that a test expects of a later sweep.
        eventually("the first sweep has ended", async || {
            let metrics = app.client.alone().get("/metrics").await.body;
            String::from_utf8_lossy(&metrics).contains("windlass_background_passes_total{task=\"sweeper\"")
        })
        .await;
        Some(app)
    }

    /// Starts a program on this store and database.
    pub fn on(store: Store, database: Database, more: &[(&str, &str)]) -> Self {
        let Database { url, pool } = database;
        let data_dir = tempfile::tempdir().unwrap();
        let mut settings = store.settings();
        settings.extend([
            ("DATABASE_URL".to_owned(), url),
            ("WINDLASS_API_KEY".to_owned(), "test-key-of-the-default-project".to_owned()),
            ("WINDLASS_DATA_DIR".to_owned(), data_dir.path().display().to_string()),
            ("WINDLASS_DATABASE_CONNECTIONS".to_owned(), "6".to_owned()),
            // Builds for tests on a busy machine are slow: what they begin at once may wait.
            ("WINDLASS_MAX_QUEUE_WAIT".to_owned(), "20s".to_owned()),
            // Tests sweep explicitly.
            ("WINDLASS_SWEEP_INTERVAL".to_owned(), "1h".to_owned()),
        ]);
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let program = Program::serve(&settings, &data_dir.path().join("log"), false);
        Self {
            client: Client::new(&program.address, "test-key-of-the-default-project"),
            stranger: OnceLock::new(),
            pool,
            store,
            settings,
            data_dir,
            program: Mutex::new(program),
        }
    }

    /// A client with a key of another project.
    pub fn stranger(&self) -> &Client {
        self.stranger.get_or_init(|| {
            let made = self.run(&["keys", "create", "--project", "stranger"]);
            assert!(made.status.success(), "{made:?}");
            Client::new(&self.client.address, String::from_utf8(made.stdout).unwrap().trim())
        })
    }

    /// The clients that the test has used.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        [Some(&self.client), self.stranger.get()].into_iter().flatten()
    }

    /// Runs a command of the program while the service runs.
    pub fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.run_with(&[], arguments)
    }

    /// Like [`Self::run`], with additional settings.
    pub fn run_with(&self, more: &[(&str, &str)], arguments: &[&str]) -> std::process::Output {
        program::run(&self.with(more), arguments)
    }

    /// Links the ledger to another store, which is created if needed. Returns whether it succeeded, and the log.
    pub fn link(&self, store: &[(&str, &str)]) -> (bool, String) {
        let linked = self.run_with(store, &["store", "link", "--yes"]);
        (linked.status.success(), String::from_utf8(linked.stderr).unwrap())
    }

    /// A setting that the program was started with.
    pub fn setting(&self, name: &str) -> &str {
        &self.settings.iter().find(|it| it.0 == name).unwrap().1
    }

    /// Like [`Self::run`], with the program run by another command, given with its arguments.
    pub fn run_under(&self, under: &[&str], arguments: &[&str]) -> std::process::Output {
        program::command_under(under, &self.settings).args(arguments).output().unwrap()
    }

    /// The settings that the program was started with, and additional ones.
    pub fn with(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.settings.iter().cloned().chain(more).collect()
    }

    /// Calls a function with the process.
    pub fn program<T>(&self, act: impl FnOnce(&mut Program) -> T) -> T {
        act(&mut self.program.lock().unwrap())
    }

    /// Kills the process and starts a new one.
    pub fn kill_and_restart(&self) {
        self.restart_with(&[]);
    }

    /// Like [`Self::kill_and_restart`], with additional settings.
    pub fn restart_with(&self, more: &[(&str, &str)]) {
        self.restart(&[], more);
    }

    /// Like [`Self::kill_and_restart`], with the program run by another command.
    pub fn restart_under(&self, under: &[&str]) {
        self.restart(under, &[]);
    }

    fn restart(&self, under: &[&str], more: &[(&str, &str)]) {
        let mut program = self.program.lock().unwrap();
        program.kill();
        let mut settings = self.with(more);
        settings.push(("WINDLASS_LISTEN".to_owned(), program.address.replace("http://", "")));
        *program = Program::serve_under(under, &settings, &self.data_dir.path().join("log"), false);
    }

    /// The program's log, complete up to now. Lines are written asynchronously but in order, so nothing is missing once
    /// an ignored signal has been logged.
    pub fn log(&self) -> String {
        let read = || std::fs::read_to_string(self.data_dir.path().join("log")).unwrap();
        let marks = || read().matches("SIGUSR2").count();
        let before = marks();
        self.program(|it| {
            if it.is_running() {
                it.signal(Signal::SIGUSR2);
                let began = Instant::now();
                while it.is_running() && marks() == before {
                    assert!(began.elapsed() < Duration::from_mins(1), "the signal is not logged");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        read()
    }
}
