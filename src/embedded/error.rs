//! Why the embedded server does not run, and what to change.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::geteuid;

use super::binaries::{self, Version};

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
    /// The version that made the cluster is not installed.
    #[error(
        "PostgreSQL {0}, which made the cluster, was not found: install it beside the new one, or name the directory \
         of its programs by --from"
    )]
    NoOldBinaries(u32),
    /// What was found cannot do what is needed.
    #[error("PostgreSQL {} or newer is needed, but {dir} holds {found}", binaries::OLDEST_MAJOR)]
    TooOld {
        /// Where it is.
        dir: PathBuf,
        /// What it is.
        found: Version,
    },
    /// A cluster can be run by its own major version only.
    #[error(
        "the cluster in {cluster} was made by PostgreSQL {needed}, and only that can run it, but {dir} holds \
         {found}. Any one of these helps:\n\
         - install PostgreSQL {needed} again, or set WINDLASS_PG_BIN to its directory;\n\
         - move the data to PostgreSQL {found}: with both installed, run `windlass upgrade-postgres`, with \
         `--from DIRECTORY` where the programs of PostgreSQL {needed} are not found by themselves."
    )]
    OtherMajor {
        /// The data directory.
        cluster: PathBuf,
        /// The major version that made it.
        needed: u32,
        /// Where the other one is.
        dir: PathBuf,
        /// What that is.
        found: Version,
    },
    /// There is no cluster, but one that an upgrade put aside.
    #[error(
        "{data_dir} holds no cluster but {aside}, which an upgrade of PostgreSQL put aside: run \
         `windlass upgrade-postgres` again, or rename {aside} to `postgres`"
    )]
    PutAside {
        /// The data directory.
        data_dir: PathBuf,
        /// The name of the cluster in it.
        aside: String,
    },
    /// There is no cluster to upgrade.
    #[error("{0} holds no PostgreSQL cluster: there is nothing to upgrade")]
    NothingToUpgrade(PathBuf),
    /// A cluster is not moved back to an older version.
    #[error(
        "the cluster in {cluster} was made by PostgreSQL {made_by}, which is newer than {found} in {dir}: set WINDLASS_PG_BIN to the directory of the newer one"
    )]
    Downgrade {
        /// The data directory.
        cluster: PathBuf,
        /// The major version that made it.
        made_by: u32,
        /// Where the older one is.
        dir: PathBuf,
        /// What that is.
        found: Version,
    },
    /// The copy in the new cluster is not equal.
    #[error("the new cluster does not hold the same rows as the old one, which is left as it was: {0}")]
    UnequalCopy(String),
    /// A program that moves the data failed.
    #[error("{program} ended ({status}): {said}")]
    Tool {
        /// Which.
        program: PathBuf,
        /// How.
        status: ExitStatus,
        /// What it wrote to its standard error.
        said: String,
    },
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
    Closed {
        /// Who.
        user: String,
        /// The directory that is closed to it.
        closed: PathBuf,
        /// Where it has to get.
        path: PathBuf,
    },
    /// `initdb` or `postgres` ended by itself.
    #[error("{program} ended ({status}); {log} says:\n{tail}")]
    Ended {
        /// Which.
        program: &'static str,
        /// How.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of that.
        tail: String,
    },
    /// The server did not end in time.
    #[error("postgres is not stopped after {} s; {log} says:\n{tail}", within.as_secs())]
    TooSlow {
        /// How long was waited.
        within: Duration,
        /// Its log.
        log: PathBuf,
        /// The end of that.
        tail: String,
    },
    /// The cluster was there and is not any more.
    #[error("the PostgreSQL cluster in {0} is gone: is its volume still mounted?")]
    ClusterGone(PathBuf),
    /// Something is another user's.
    #[error(
        "{path} belongs to the user {owner}, but windlass runs as the user {user}: `chown -R {user}` the data \
         directory, or run windlass as its owner"
    )]
    ForeignOwner {
        /// What.
        path: PathBuf,
        /// Whose it is, by number.
        owner: u32,
        /// Who we are, by number.
        user: u32,
    },
    /// The file system has no permissions to set.
    #[error(
        "the file system of {path} does not keep the permissions of its files (its mode stays {mode:04o}), without \
         which PostgreSQL does not start: put the data directory on another one, such as a volume instead of a \
         directory of the host, or set DATABASE_URL"
    )]
    NoPermissions {
        /// What could not be closed to others.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file may not be used.
    #[error(
        "the user {user} may not use {path}: give it the data directory (`chown -R {user}`), or run windlass as its owner"
    )]
    Denied {
        /// Which.
        path: PathBuf,
        /// Who we are, by number.
        user: u32,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{path} is on a file system that is read-only: mount it writable, or choose another data directory")]
    ReadOnly {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file finds no space.
    #[error("there is no space left for {path}: free some, or move the data directory to a larger disk")]
    DiskFull {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system refused something else.
    #[error("cannot {what}")]
    System {
        /// What.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        use io::ErrorKind as Kind;
        #[expect(clippy::wildcard_enum_match_arm, reason = "std's enum is not exhaustive")]
        move |source| {
            let (path, user) = (path.to_owned(), geteuid().as_raw());
            match source.kind() {
                Kind::PermissionDenied => Self::Denied { path, user, source },
                Kind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
                Kind::StorageFull | Kind::QuotaExceeded => Self::DiskFull { path, source },
                _ => Self::File { path, source },
            }
        }
    }

    pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}
