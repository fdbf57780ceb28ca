//! A test's own Windlass: its process, its database, its store, and clients of two projects.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sqlx::PgPool;
use tempfile::TempDir;

use super::client::Client;
use super::cluster::{self, Database};
use super::program::{self, Program};
use super::store::{Store, StoreKind};

/// A running Windlass.
pub struct TestApp {
    /// A client with a key of the project `default`.
    pub client: Client,
    /// Made when it is first used.
    stranger: OnceLock<Client>,
    /// The same database that the program uses.
    pub pool: PgPool,
    /// The same store.
    pub store: Store,
    /// The settings that the program was started with.
    pub settings: Vec<(String, String)>,
    pub data_dir: TempDir,
    program: Mutex<Program>,
}

impl TestApp {
    /// Starts one; nothing where what the store needs is not installed.
    pub async fn start(kind: StoreKind, more: &[(&str, &str)]) -> Option<Self> {
        let store = Store::new(kind)?;
        Some(Self::on(store, cluster::database().await, more))
    }

    /// Starts one on these.
    pub fn on(store: Store, database: Database, more: &[(&str, &str)]) -> Self {
        let Database { url, pool } = database;
        let data_dir = tempfile::tempdir().unwrap();
        let mut settings = store.settings();
        settings.extend([
            ("DATABASE_URL".to_owned(), url),
            ("WINDLASS_API_KEY".to_owned(), "test-key-of-the-default-project".to_owned()),
            ("WINDLASS_DATA_DIR".to_owned(), data_dir.path().display().to_string()),
            ("WINDLASS_DATABASE_CONNECTIONS".to_owned(), "6".to_owned()),
            // The tests sweep themselves.
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

    /// Runs a command of the program beside the one that serves.
    pub fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.run_with(&[], arguments)
    }

    /// The same, with more settings.
    pub fn run_with(&self, more: &[(&str, &str)], arguments: &[&str]) -> std::process::Output {
        program::run(&self.with(more), arguments)
    }

    /// Links the ledger to another store and creates that store: whether it succeeded, and its log.
    pub fn link(&self, store: &[(&str, &str)]) -> (bool, String) {
        let linked = self.run_with(store, &["store", "link", "--yes"]);
        (linked.status.success(), String::from_utf8(linked.stderr).unwrap())
    }

    /// A setting that the program was started with.
    pub fn setting(&self, name: &str) -> &str {
        &self.settings.iter().find(|it| it.0 == name).unwrap().1
    }

    /// The same as `run`, under another program.
    pub fn run_under(&self, under: &[&str], arguments: &[&str]) -> std::process::Output {
        program::command_under(under, &self.settings).args(arguments).output().unwrap()
    }

    /// The settings that the program was started with, and more.
    pub fn with(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.settings.iter().cloned().chain(more).collect()
    }

    /// Does something with the process.
    pub fn program<T>(&self, act: impl FnOnce(&mut Program) -> T) -> T {
        act(&mut self.program.lock().unwrap())
    }

    /// Ends the process at once and starts another.
    pub fn kill_and_restart(&self) {
        self.restart_with(&[]);
    }

    /// The same, with more settings.
    pub fn restart_with(&self, more: &[(&str, &str)]) {
        self.restart(&[], more);
    }

    /// The same, run by another program.
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
                    assert!(began.elapsed() < Duration::from_mins(1), "it does not log a signal");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        read()
    }
}
