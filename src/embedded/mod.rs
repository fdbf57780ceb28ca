//! The embedded database: runs a private PostgreSQL in the data directory if no `DATABASE_URL` is set.
//!
//! Contents of the data directory:
//!
//! | name | content |
//! |---|---|
//! | `lock` | locked by the one windlass process that owns the server |
//! | `postgres` | the cluster; renamed from `postgres.new` once it is complete |
//! | `postgres.15` | the cluster of an older major version, put aside by an upgrade |
//! | `postgres.log` | the output of the server; also a lock that every process of the server holds |
//! | `postgres.log.1` | the previous log; rotation copies the log there |
//! | `postgres-password` | the password of the cluster's only role, readable by its owner only |
//! | `reserve` | disk space that is released when the disk is full |
//!
//! **Invariant:** no two servers run on one cluster. The server inherits the locked log as its standard output, and
//! the kernel releases that lock when the last process of the server has exited. So a process that acquires the lock
//! can treat `postmaster.pid` as stale, without relying on process ids, which containers reuse quickly.
//!
//! **Invariant:** on Linux, the server does not outlive windlass, even after `kill -9`: see [`exec_wrapper`]. The
//! kernel ties the server to the *thread* that started it, so each server has a dedicated thread, which supervises it
//! (`supervisor.rs`).
//!
//! All functions of this module block.

use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use binaries::Binaries;
use cluster::Cluster;
pub use error::Error;
use log::Log;
use reserve::Reserve;
use run_as::RunAs;
use supervisor::Supervisor;
pub use upgrade::{Upgrade, upgrade};
use windlass_types::ErrorChain;

mod access;
mod binaries;
mod cluster;
mod error;
pub mod exec_wrapper;
mod failures;
mod log;
mod pid_file;
mod reserve;
mod run_as;
mod server;
mod supervisor;
mod upgrade;

/// The interval between two polls.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Settings of the embedded server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory; created if it does not exist.
    pub data_dir: PathBuf,
    /// The directory of `initdb` and `postgres`; searched for if not set.
    pub bin_dir: Option<PathBuf>,
    /// The `PATH` to search for the programs.
    pub path: OsString,
    /// The absolute path of the program whose `postgres-guard` subcommand is [`exec_wrapper::run`]: windlass itself.
    pub guard: PathBuf,
    /// The size of the service's connection pool. The server accepts more connections, for other commands.
    pub connections: u32,
    /// The memory that the server and the service share, in bytes.
    pub memory: u64,
}

/// A PostgreSQL that accepts connections. It is stopped on drop.
#[must_use = "the server runs until it is stopped"]
pub struct Postgres {
    url: String,
    /// `None` if another process owns the server.
    server: Option<Supervised>,
}

/// The thread that supervises the server, until `stop_sender` is dropped.
struct Supervised {
    stop_sender: mpsc::Sender<Infallible>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Postgres {
    /// Starts the server, creating its cluster first if there is none, and restarts it if it exits. Returns `None` if
    /// `stop_requested` becomes true first: a start may take long, during recovery after a crash or while it waits for
    /// disk space.
    ///
    /// `on_exit` is called on another thread once the server has exited and will not be restarted; [`Self::stop`] then
    /// returns the reason.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process owns the server, or the reason why it could not be started.
    pub fn start(
        settings: &Settings,
        stop_requested: impl Fn() -> bool,
        on_exit: impl FnOnce() + Send + 'static,
    ) -> Result<Option<Self>, Error> {
        let cluster = Cluster::open(&settings.data_dir)?;
        let owned = own(settings, cluster)?;
        let (supervisor, log) = owned.map_err(|cluster| Error::InUse(cluster.data_dir().to_owned()))?;
        Self::run(Supervisor { waits_for_space: true, ..supervisor }, log, stop_requested, on_exit)
    }

    /// Starts the server, or attaches to the one that another windlass process runs on this data directory.
    ///
    /// # Errors
    /// When the server cannot be started, or that of the other process is not ready in time.
    pub fn start_or_attach(settings: &Settings) -> Result<Self, Error> {
        let cluster = Cluster::open(&settings.data_dir)?;
        match own(settings, cluster)? {
            Ok((supervisor, log)) => {
                let started = Self::run(supervisor, log, || false, || ())?;
                started.ok_or_else(|| Error::NotReady(settings.data_dir.clone()))
            }
            Err(cluster) => Ok(Self { url: cluster.url(cluster.port_of_other()?)?, server: None }),
        }
    }

    /// The URL to connect to. Contains the password, so it must not be logged.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Terminates all sessions and shuts the server down. Does nothing if another process owns the server.
    ///
    /// # Errors
    /// When the server did not shut down cleanly, or had exited before.
    pub fn stop(mut self) -> Result<(), Error> {
        self.server.take().map_or(Ok(()), Supervised::stop)
    }

    fn run(
        supervisor: Supervisor,
        log: Log,
        stop_requested: impl Fn() -> bool,
        on_exit: impl FnOnce() + Send + 'static,
    ) -> Result<Option<Self>, Error> {
        let cluster = supervisor.cluster.clone();
        let (stop_sender, stop) = mpsc::channel();
        let (ready_sender, ready) = mpsc::channel();
        let thread = thread::Builder::new().name("postgres".to_owned()).spawn(move || {
            // Runs `on_exit` even if the supervisor panics.
            let _on_exit = OnDrop(Some(on_exit));
            supervisor.run(log, &ready_sender, &stop)
        });
        let server = Supervised { stop_sender, thread: thread.map_err(Error::system("start a thread"))? };
        loop {
            match ready.recv_timeout(POLL_EVERY) {
                Ok(port) => return Ok(Some(Self { url: cluster.url(port)?, server: Some(server) })),
                Err(RecvTimeoutError::Disconnected) => return server.stop().map(|()| None),
                Err(RecvTimeoutError::Timeout) if stop_requested() => return server.stop().map(|()| None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.server.take().map(Supervised::stop) {
            tracing::warn!(error = %ErrorChain(&error), "the embedded PostgreSQL did not stop cleanly");
        }
    }
}

impl Supervised {
    fn stop(self) -> Result<(), Error> {
        drop(self.stop_sender);
        self.thread.join().unwrap_or_else(|_| Err(Error::system("supervise postgres")(io::Error::other("a panic"))))
    }
}

/// Calls a function on drop.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

/// Takes ownership of the server, creating its cluster if there is none. Returns the supervisor and the locked log, or
/// `Err` with the cluster if another process owns the server.
fn own(settings: &Settings, cluster: Cluster) -> Result<Result<(Supervisor, Log), Cluster>, Error> {
    let Some(lock) = cluster.try_lock()? else {
        return Ok(Err(cluster));
    };
    access::close(&cluster)?;
    let log = cluster.log_without_server()?;
    let made_by = cluster.major()?;
    let binaries = Binaries::find(settings, made_by)?;
    let run_as = choose_identity(settings, &cluster, &[&binaries])?;
    cluster.give_to(run_as)?;
    if made_by.is_none() {
        cluster.init(run_as, binaries.initdb_command(&settings.guard, run_as), &log)?;
    }
    let reserve = Reserve::of(cluster.data_dir());
    let settings = settings.clone();
    let supervisor = Supervisor { settings, cluster, binaries, run_as, reserve, waits_for_space: false, _lock: lock };
    Ok(Ok((supervisor, log)))
}

/// Chooses a user that can run all of `programs` on this cluster.
fn choose_identity(settings: &Settings, cluster: &Cluster, programs: &[&Binaries]) -> Result<RunAs, Error> {
    let mut run_as = None;
    for binaries in programs {
        let postgres = binaries.postgres();
        let version_as = |run_as| exec_wrapper::command(&settings.guard, run_as, &postgres).arg("--version").output();
        let chosen = run_as.map_or_else(|| RunAs::choose(cluster.owner()?, version_as), Ok)?;
        run_as = Some(chosen.ensure_access(cluster.data_dir(), binaries.dir(), version_as)?);
    }
    run_as.ok_or(Error::NoBinaries)
}

/// Calls `check` until it returns a value. `None` on timeout.
fn poll<T>(within: Duration, mut check: impl FnMut() -> Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    let end = Instant::now() + within;
    loop {
        let value = check()?;
        if value.is_some() || Instant::now() >= end {
            return Ok(value);
        }
        thread::sleep(POLL_EVERY);
    }
}
