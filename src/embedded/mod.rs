//! Runs a private Postgres inside the data directory, for `windlass serve` without a `DATABASE_URL`.
//!
//! What the data directory holds:
//!
//! | name | what it is |
//! |---|---|
//! | `lock` | locked by the one windlass process that owns the server |
//! | `postgres` | the cluster; renamed from `postgres.new` once it is whole |
//! | `postgres.15` | the cluster of an older major version, put aside by an upgrade |
//! | `postgres.log` | what the server wrote; also a lock, which every process of the server holds |
//! | `postgres.log.1` | the previous log; rotation copies the log there |
//! | `postgres-password` | the password of the cluster's only role, readable by its owner only |
//! | `reserve` | disk space that is released when the disk is full |
//!
//! **Invariant:** no two servers run on one cluster. The server inherits the locked log as its standard output, and
//! the kernel drops that lock when the last process of the server is gone. So whoever gets the lock knows that a
//! `postmaster.pid` is stale, without guessing from process ids, which are soon used again in a container.
//!
//! **Invariant:** the server does not outlive windlass, even after `kill -9`: see [`guard`]. Linux ties its life to the
//! *thread* that started it, so each server has a dedicated thread, which supervises it (`supervisor.rs`).
//!
//! Everything here blocks.

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
use identity::Identity;
use log::Log;
use reserve::Reserve;
use supervisor::Supervisor;
pub use upgrade::{Upgrade, upgrade};

mod access;
mod binaries;
mod cluster;
mod error;
mod failures;
pub mod guard;
mod identity;
mod log;
mod pid_file;
mod reserve;
mod server;
mod supervisor;
mod upgrade;

const POLL_EVERY: Duration = Duration::from_millis(20);

/// What the embedded server needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept; made if it is missing.
    pub data_dir: PathBuf,
    /// The directory of `initdb` and `postgres`, if it is not to be searched for.
    pub bin_dir: Option<PathBuf>,
    /// The `PATH` to search.
    pub path: OsString,
    /// The absolute path of the program whose `postgres-guard` subcommand is [`guard::run`]: windlass itself.
    pub guard: PathBuf,
    /// How many connections the service may hold. The server takes more, for commands beside it.
    pub connections: u32,
    /// The memory in bytes that the server and the service share.
    pub memory: u64,
}

/// A PostgreSQL that accepts connections. It is stopped on drop.
#[must_use = "the server runs until it is stopped"]
pub struct Postgres {
    url: String,
    /// Absent when the server is another process's.
    server: Option<Supervised>,
}

/// The thread that supervises the server, until `orders` is dropped.
struct Supervised {
    orders: mpsc::Sender<Infallible>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Postgres {
    /// Starts the server, creating its cluster first if there is none, and restarts it if it dies. No other process may
    /// be running it. Returns `None` if `is_told_to_stop` becomes true first: a start may take long, after a crash or
    /// while it waits for disk space.
    ///
    /// `over` is called, on another thread, once the server is not restarted any more; [`Self::stop`] has the reason.
    pub fn start(
        settings: &Settings,
        is_told_to_stop: impl Fn() -> bool,
        over: impl FnOnce() + Send + 'static,
    ) -> Result<Option<Self>, Error> {
        let cluster = Cluster::open(&settings.data_dir)?;
        let owned = own(settings, cluster)?;
        let (supervisor, log) = owned.map_err(|cluster| Error::InUse(cluster.data_dir().to_owned()))?;
        Self::run(Supervisor { waits_for_space: true, ..supervisor }, log, is_told_to_stop, over)
    }

    /// Starts the server, or uses the one another windlass process on this data directory is running.
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

    /// Where to connect. Holds the password: not for logs.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends every session and shuts the server down; one that another process started is left alone.
    ///
    /// # Errors
    /// When it did not shut down cleanly, or had exited by itself before.
    pub fn stop(mut self) -> Result<(), Error> {
        self.server.take().map_or(Ok(()), Supervised::stop)
    }

    fn run(
        supervisor: Supervisor,
        log: Log,
        is_told_to_stop: impl Fn() -> bool,
        over: impl FnOnce() + Send + 'static,
    ) -> Result<Option<Self>, Error> {
        let cluster = supervisor.cluster.clone();
        let (orders, received) = mpsc::channel();
        let (tell, ready) = mpsc::channel();
        let thread = thread::Builder::new().name("postgres".to_owned()).spawn(move || {
            // Called even if the supervisor panics.
            let _over = OnDrop(Some(over));
            supervisor.run(log, &tell, &received)
        });
        let server = Supervised { orders, thread: thread.map_err(Error::system("start a thread"))? };
        loop {
            match ready.recv_timeout(POLL_EVERY) {
                Ok(port) => return Ok(Some(Self { url: cluster.url(port)?, server: Some(server) })),
                Err(RecvTimeoutError::Disconnected) => return server.stop().map(|()| None),
                Err(RecvTimeoutError::Timeout) if is_told_to_stop() => return server.stop().map(|()| None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.server.take().map(Supervised::stop) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the embedded PostgreSQL did not stop well");
        }
    }
}

impl Supervised {
    fn stop(self) -> Result<(), Error> {
        drop(self.orders);
        self.thread.join().unwrap_or_else(|_| Err(Error::system("supervise postgres")(io::Error::other("a panic"))))
    }
}

struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

/// The supervisor of a server with a complete cluster, and its locked log; or the cluster, if another process owns it.
fn own(settings: &Settings, cluster: Cluster) -> Result<Result<(Supervisor, Log), Cluster>, Error> {
    let Some(lock) = cluster.try_lock()? else {
        return Ok(Err(cluster));
    };
    access::close(&cluster)?;
    let log = cluster.log_without_server()?;
    let made_by = cluster.major()?;
    let binaries = Binaries::find(settings, made_by)?;
    let identity = choose_identity(settings, &cluster, &[&binaries])?;
    cluster.give_to(identity)?;
    if made_by.is_none() {
        cluster.init(identity, binaries.initdb_command(&settings.guard, identity), &log)?;
    }
    let reserve = Reserve::of(cluster.data_dir());
    let settings = settings.clone();
    let supervisor = Supervisor { settings, cluster, binaries, identity, reserve, waits_for_space: false, _lock: lock };
    Ok(Ok((supervisor, log)))
}

/// Chooses a user that can run all of these programs on this cluster.
fn choose_identity(settings: &Settings, cluster: &Cluster, programs: &[&Binaries]) -> Result<Identity, Error> {
    let mut identity = None;
    for binaries in programs {
        let postgres = binaries.postgres();
        let version_as = |identity| guard::command(&settings.guard, identity, &postgres).arg("--version").output();
        let chosen = identity.map_or_else(|| Identity::choose(cluster.owner()?, version_as), Ok)?;
        identity = Some(chosen.open_way_to(cluster.data_dir(), binaries.dir(), version_as)?);
    }
    identity.ok_or(Error::NoBinaries)
}

/// Asks until there is an answer; nothing if there is none in time.
fn poll<T>(within: Duration, mut ask: impl FnMut() -> Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    let end = Instant::now() + within;
    loop {
        let answer = ask()?;
        if answer.is_some() || Instant::now() >= end {
            return Ok(answer);
        }
        thread::sleep(POLL_EVERY);
    }
}
