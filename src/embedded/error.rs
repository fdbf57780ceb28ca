//! Errors of the embedded server. Most messages include a remedy.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::geteuid;

use super::binaries::{self, Version};

/// Why the embedded server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process owns the data directory.
    #[error("another windlass process is using the data directory {0}: stop it, or choose another one")]
    InUse(PathBuf),
    /// The server, of this or another windlass process, did not accept connections in time.
    #[error("the PostgreSQL on {0} did not become ready in time: see postgres.log in the data directory")]
    NotReady(PathBuf),
    /// The server of an earlier windlass process has not exited yet.
    #[error("the PostgreSQL of an earlier windlass process is still running on {0}: try again later")]
    StillRunning(PathBuf),
    /// No PostgreSQL was found on this machine.
    #[error(
        "no PostgreSQL was found. Do one of the following:\n\
         - install it: `apt-get install postgresql`, or your distribution's package of the server;\n\
         - set WINDLASS_PG_BIN to the directory that holds `initdb` and `postgres`;\n\
         - set DATABASE_URL to a server that is running already, such as `docker compose up -d postgres`."
    )]
    NoBinaries,
    /// The directory in `WINDLASS_PG_BIN` contains no usable PostgreSQL programs.
    #[error("WINDLASS_PG_BIN is {0}, which contains no `initdb` and `postgres` that run on this machine")]
    NotBinaries(PathBuf),
    /// The version that created the cluster is not installed.
    #[error(
        "PostgreSQL {0}, which created the cluster, was not found: install it alongside the new one, or pass the \
         directory of its programs with --from"
    )]
    NoOldBinaries(u32),
    /// The PostgreSQL that was found is too old.
    #[error("PostgreSQL {} or newer is required, but {dir} contains {found}", binaries::OLDEST_MAJOR)]
    TooOld {
        /// The directory of the PostgreSQL that was found.
        dir: PathBuf,
        /// The version that was found.
        found: Version,
    },
    /// Another major version created the cluster, and only that version can run it.
    #[error(
        "the cluster in {cluster} was created by PostgreSQL {needed}, and only that version can run it, but {dir} \
         contains {found}. Do one of the following:\n\
         - install PostgreSQL {needed} again, or set WINDLASS_PG_BIN to its directory;\n\
         - move the data to PostgreSQL {found}: with both installed, run `windlass upgrade-postgres`, with \
         `--from DIRECTORY` if the programs of PostgreSQL {needed} are not found automatically."
    )]
    OtherMajor {
        /// The data directory.
        cluster: PathBuf,
        /// The major version that created the cluster.
        needed: u32,
        /// The directory of the PostgreSQL that was found.
        dir: PathBuf,
        /// The version that was found.
        found: Version,
    },
    /// There is no cluster, except one that an upgrade has put aside.
    #[error(
        "{data_dir} contains no cluster except {aside}, which an upgrade of PostgreSQL put aside: run \
         `windlass upgrade-postgres` again, or rename {aside} to `postgres`"
    )]
    PutAside {
        /// The data directory.
        data_dir: PathBuf,
        /// The directory name of the cluster that was put aside.
        aside: String,
    },
    /// There is no cluster to upgrade.
    #[error("{0} contains no PostgreSQL cluster: there is nothing to upgrade")]
    NothingToUpgrade(PathBuf),
    /// A newer version created the cluster, and downgrades are not supported.
    #[error(
        "the cluster in {cluster} was created by PostgreSQL {made_by}, which is newer than {found} in {dir}: set \
         WINDLASS_PG_BIN to the directory of the newer version"
    )]
    Downgrade {
        /// The data directory.
        cluster: PathBuf,
        /// The major version that created the cluster.
        made_by: u32,
        /// The directory of the older version.
        dir: PathBuf,
        /// The older version.
        found: Version,
    },
    /// After the copy, the row counts of the two clusters differ.
    #[error("the row counts of the new cluster differ from those of the old one, which was not changed: {0}")]
    UnequalCopy(String),
    /// A client program (`pg_dump` or `psql`) failed.
    #[error("{program} failed ({status}): {said}")]
    Tool {
        /// The path of the program.
        program: PathBuf,
        /// The exit status of the program.
        status: ExitStatus,
        /// What the program wrote to standard error.
        said: String,
    },
    /// Running as root, and there is no unprivileged user to run PostgreSQL as.
    #[error("PostgreSQL refuses to run as root, and neither of the users `postgres` and `nobody` exists to run it as")]
    NoAccount,
    /// The user that PostgreSQL runs as lacks the permission to traverse a directory.
    #[error(
        "PostgreSQL refuses to run as root and runs as `{user}` instead, which has no search permission on {closed} \
         and cannot access {path}: grant it (`chmod o+x {closed}`) or use another location, such as /var/lib/windlass"
    )]
    Closed {
        /// The name of the user.
        user: String,
        /// The directory that the user cannot traverse.
        closed: PathBuf,
        /// The path that the user has to access.
        path: PathBuf,
    },
    /// `initdb` or `postgres` exited unexpectedly.
    #[error("{program} exited unexpectedly ({status}); the end of {log}:\n{tail}")]
    Ended {
        /// The name of the program.
        program: &'static str,
        /// The exit status of the program.
        status: ExitStatus,
        /// The path of the log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// The server did not shut down in time.
    #[error("postgres did not stop within {} s; the end of {log}:\n{tail}", within.as_secs())]
    TooSlow {
        /// The timeout.
        within: Duration,
        /// The path of the log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// The cluster disappeared while the server was running.
    #[error("the PostgreSQL cluster in {0} is gone: is its volume still mounted?")]
    ClusterGone(PathBuf),
    /// A file or directory is owned by another user.
    #[error(
        "{path} belongs to the user {owner}, but windlass runs as the user {user}: `chown -R {user}` the data \
         directory, or run windlass as its owner"
    )]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// The uid of the owner.
        owner: u32,
        /// The uid that windlass runs as.
        user: u32,
    },
    /// The file system does not support permissions.
    #[error(
        "the file system of {path} does not support file permissions (the mode remains {mode:04o}), which PostgreSQL \
         requires: use another file system for the data directory, such as a volume instead of a directory of the \
         host, or set DATABASE_URL"
    )]
    NoPermissions {
        /// The path whose permissions could not be restricted.
        path: PathBuf,
        /// The mode of the path after the attempt.
        mode: u32,
    },
    /// Access to a file was denied.
    #[error(
        "the user {user} cannot access {path}: change the owner of the data directory (`chown -R {user}`), or run \
         windlass as its owner"
    )]
    Denied {
        /// The path of the file.
        path: PathBuf,
        /// The uid that windlass runs as.
        user: u32,
        /// The underlying I/O error.
        source: io::Error,
    },
    /// A file is on a read-only file system.
    #[error("{path} is on a file system that is read-only: mount it writable, or choose another data directory")]
    ReadOnly {
        /// The path of the file.
        path: PathBuf,
        /// The underlying I/O error.
        source: io::Error,
    },
    /// The disk or the quota is full.
    #[error("there is no space left for {path}: free some space, or move the data directory to a larger disk")]
    DiskFull {
        /// The path of the file.
        path: PathBuf,
        /// The underlying I/O error.
        source: io::Error,
    },
    /// Any other I/O error of a file.
    #[error("cannot access {path}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The underlying I/O error.
        source: io::Error,
    },
    /// Any other system operation failed.
    #[error("cannot {what}")]
    System {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// The underlying I/O error.
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
