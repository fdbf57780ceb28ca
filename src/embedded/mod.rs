//! Runs a private Postgres inside the data directory, for `windlass serve` without a `DATABASE_URL`.
//!
//! What the data directory holds:
//!
//! | name | what it is |
//! |---|---|
//! | `lock` | locked by the one windlass process that owns the server |
//! | `postgres` | the cluster; renamed from `postgres.new` once it is whole |
//! | `postgres.log` | what the server wrote; also a lock, which every process of the server holds |
//! | `postgres-password` | the password of the cluster's only role, readable by its owner only |
//!
//! **Invariant:** no two servers run on one cluster. The server inherits the locked log as its standard output, and
//! the kernel drops that lock when the last process of the server is gone. So whoever gets the lock knows that a
//! `postmaster.pid` is stale, without guessing from process ids, which are soon used again in a container.
//!
//! **Invariant:** the server does not outlive windlass, even after `kill -9`: see [`guard`].
//!
//! Everything here blocks. Call it on the main thread, before there is an async runtime: Linux ties the server's life
//! to the *thread* that started it, and the main thread is the one that lives as long as the process.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use binaries::{Binaries, Version};
use cluster::Cluster;
use identity::Identity;
use server::Server;

mod binaries;
mod cluster;
pub mod guard;
mod identity;
mod log;
mod pid_file;
mod server;

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
}

/// A Postgres that accepts connections.
#[must_use = "the server runs until it is stopped"]
pub struct Postgres {
    url: String,
    /// Absent when the server is another process's.
    server: Option<Server>,
}

impl Postgres {
    /// Starts the server, after making its cluster if there is none. Nobody else may be running it.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let cluster = Cluster::open(&settings.data_dir)?;
        Self::own(settings, &cluster)?.ok_or_else(|| Error::InUse(cluster.data_dir().to_owned()))
    }

    /// Starts the server, or uses the one another windlass process on this data directory is running.
    pub fn start_or_attach(settings: &Settings) -> Result<Self, Error> {
        let cluster = Cluster::open(&settings.data_dir)?;
        match Self::own(settings, &cluster)? {
            Some(own) => Ok(own),
            None => Ok(Self { url: cluster.url(cluster.port_of_other()?)?, server: None }),
        }
    }

    /// Where to connect. Holds the password: not for logs.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends every session and shuts the server down; one that another process started is left alone.
    pub fn stop(self) -> Result<(), Error> {
        self.server.map_or(Ok(()), Server::stop)
    }

    /// The server as ours, or nothing if it is another process's.
    fn own(settings: &Settings, cluster: &Cluster) -> Result<Option<Self>, Error> {
        let Some(lock) = cluster.try_lock()? else {
            return Ok(None);
        };
        let log = cluster.log_without_server()?;
        let made_by = cluster.major()?;
        let binaries = Binaries::find(settings, made_by)?;
        let (initdb, postgres) = (binaries.initdb(), binaries.postgres());
        let version_as = |identity| guard::command(&settings.guard, identity, &postgres).arg("--version").output();
        let identity = Identity::choose(cluster.owner()?, version_as)?.open_way_to(
            cluster.data_dir(),
            binaries.dir(),
            version_as,
        )?;
        cluster.give_to(identity)?;
        if made_by.is_none() {
            cluster.init(identity, guard::command(&settings.guard, identity, &initdb), &log)?;
        }
        let command = || guard::command(&settings.guard, identity, &postgres);
        let server = Server::start(cluster, lock, log, settings.connections, command)?;
        let (version, port) = (binaries.version(), server.port());
        tracing::info!(postgres.version = %version, postgres.port = port, "the embedded PostgreSQL is ready");
        Ok(Some(Self { url: cluster.url(port)?, server: Some(server) }))
    }
}

/// Why there is no embedded server. The causes are in [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process owns the server.
    #[error("another windlass process is using the data directory {0}: stop it, or choose another one")]
    InUse(PathBuf),
    /// Another process owns the server, but it does not accept connections.
    #[error("another windlass process is using {0}, but its PostgreSQL is not ready: see postgres.log there")]
    NotReady(PathBuf),
    /// The server of a windlass process that is gone has not ended.
    #[error("a PostgreSQL that an earlier windlass process left on {0} is still shutting down: try again later")]
    StillRunning(PathBuf),
    /// There is no Postgres on this machine.
    #[error(
        "no PostgreSQL was found. Any one of these helps:\n\
         - install it: `apt-get install postgresql`, or your distribution's package of the server;\n\
         - set WINDLASS_PG_BIN to the directory that holds `initdb` and `postgres`;\n\
         - set DATABASE_URL to a server that is running already, such as `docker compose up -d postgres`."
    )]
    NoBinaries,
    /// The directory that was asked for is not one of Postgres's.
    #[error("WINDLASS_PG_BIN is {0}, where no `initdb` and `postgres` that run on this machine were found")]
    NotBinaries(PathBuf),
    /// What was found cannot do what is needed.
    #[error("PostgreSQL {} or newer is needed, but {dir} holds {found}", binaries::OLDEST_MAJOR)]
    TooOld { dir: PathBuf, found: Version },
    /// A cluster can be run by its own major version only.
    #[error(
        "the cluster in {cluster} was made by PostgreSQL {needed}, and only that can run it, but {dir} holds \
         {found}: install PostgreSQL {needed} or set WINDLASS_PG_BIN to its directory"
    )]
    OtherMajor { cluster: PathBuf, needed: u32, dir: PathBuf, found: Version },
    /// Root has nobody to run Postgres as.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor a user `nobody` to run it as"
    )]
    NoAccount,
    /// The user Postgres runs as cannot get to its files.
    #[error(
        "PostgreSQL refuses to run as root and runs as `{user}` instead, who may not enter {closed} on the way to \
         {path}: allow it (`chmod o+x {closed}`) or use another place, such as /var/lib/windlass"
    )]
    Closed { user: String, closed: PathBuf, path: PathBuf },
    /// `initdb` or `postgres` ended by itself.
    #[error("{program} ended ({status}); {log} says:\n{tail}")]
    Ended { program: &'static str, status: ExitStatus, log: PathBuf, tail: String },
    /// The server did not get ready, or did not end, in time.
    #[error("postgres is not {what} after {} s; {log} says:\n{tail}", within.as_secs())]
    TooSlow { what: &'static str, within: Duration, log: PathBuf, tail: String },
    /// A file could not be used.
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
    /// The operating system refused something else.
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },
}

impl Error {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }

    fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
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
