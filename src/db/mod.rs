//! Postgres, and the only place that speaks to it: its connections, its errors, one module a table.

mod connections;
pub mod contents;
pub mod discards;
mod endpoint;
mod errors;
pub mod files;
pub mod keys;
pub mod locks;
pub mod md5_links;
pub mod migrate;
pub mod parts;
mod pooler;
mod server;
mod session;
mod statements;
pub mod stores;
mod transaction;
pub mod uploads;

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use self::connections::Pool;
use self::endpoint::Endpoint;
pub use self::server::Server;
pub use self::transaction::Tx;

/// The interval between connection attempts while waiting for the database.
const ASKED_EVERY: Duration = Duration::from_millis(250);

/// The interval between log messages while waiting for the database.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// The ledger's connections: some for single statements, some for transactions. What ends an Upload or a File
/// finds one that has read their rules before, which takes Postgres longer than the end itself.
#[derive(Clone, Debug)]
pub struct Db {
    endpoint: Arc<Endpoint>,
    statements: Pool,
    transactions: Pool,
}

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres cannot be reached, is out of connections, is read-only, went away, or cancelled a statement.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Postgres does not answer.
    #[error("the database does not answer")]
    Silent,
    /// A statement failed.
    #[error("a statement failed")]
    Statement(#[source] sqlx::Error),
    /// A row holds what this program never writes.
    #[error("{table} {id} holds what it cannot: {reason}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The row.
        id: Uuid,
        /// What is wrong with it.
        reason: String,
    },
    /// The schema could not be brought up to date.
    #[error("the schema could not be migrated")]
    Migration(#[from] Box<refinery::Error>),
    /// The schema does not match this program, or cannot be read or migrated by this role.
    #[error(transparent)]
    Schema(#[from] migrate::Unfit),
    /// Another session has held a lock for too long.
    #[error(
        "{what} is locked by another session for {} s now: {holder}; if it is none that is at work, end it: select pg_terminate_backend(pid)",
        waited.as_secs()
    )]
    Locked {
        /// What is locked.
        what: &'static str,
        /// The session that holds the lock, as far as it is visible.
        holder: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The text of `DATABASE_URL` is not one.
    #[error("DATABASE_URL is not a Postgres URL such as postgres://user:password@host:5432/name")]
    Url(#[source] sqlx::Error),
}

/// Everything in this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if errors::is_unavailable(&error) { Self::Unavailable(error) } else { Self::Statement(error) }
    }
}

impl Error {
    /// Whether what was asked for may have been done all the same.
    pub fn leaves_it_open(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Silent)
    }

    fn inconsistent(table: &'static str, id: Uuid, reason: impl Display) -> Self {
        Self::Inconsistent { table, id, reason: reason.to_string() }
    }
}

impl Db {
    /// Opens pools of `connections` connections in total, at least two. Waits up to `patience` for a database that is
    /// still starting or read-only. Errors that waiting cannot fix are returned immediately.
    ///
    /// # Errors
    /// If the URL is invalid, the server rejects the connection, or none could be made in time.
    pub async fn connect(server: impl Into<Server>, connections: u32, patience: Duration) -> Result<Self> {
        let endpoint = Arc::new(Endpoint::new(&server.into())?);
        wait_for(&endpoint, patience).await?;
        let for_transactions = connections / 2;
        Ok(Self {
            statements: connections::pool(Arc::clone(&endpoint), connections - for_transactions),
            transactions: connections::pool(Arc::clone(&endpoint), for_transactions),
            endpoint,
        })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx::begin(&self.transactions).await?)
    }

    /// The maximum number of concurrent transactions.
    pub fn transactions_at_once(&self) -> usize {
        self.transactions.status().max_size
    }

    /// Checks that the database responds and is writable.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        let server = sqlx::query!(
            r#"select pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' as "read_only!""#
        )
        .fetch_one(self)
        .await?;
        if server.read_only {
            self.endpoint.is_read_only();
            return Err(sqlx::Error::from(errors::ReadOnly).into());
        }
        Ok(())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        connections::close(&self.statements).await;
        connections::close(&self.transactions).await;
    }
}

/// Waits for a server that is not available yet, and logs this.
async fn wait_for(endpoint: &Endpoint, patience: Duration) -> Result<()> {
    let until = Instant::now() + patience;
    let mut say_at = Instant::now();
    loop {
        let explored = timeout(connections::LONGEST_WAIT, endpoint.explore()).await;
        let error = match explored.map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into())).flatten() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let now = Instant::now();
        if now >= until || !errors::is_not_there_yet(&error) {
            return Err(error.into());
        }
        if now >= say_at {
            let seconds_left = (until - now).as_secs();
            tracing::info!(%error, seconds_left, "waiting for the database");
            say_at = now + SAID_EVERY;
        }
        sleep(ASKED_EVERY).await;
    }
}

/// Commits what a transaction did.
///
/// # Errors
/// When the commit failed, or its answer was lost.
pub async fn commit(tx: Tx) -> Result<()> {
    Ok(tx.end("commit").await?)
}

/// Gives up what a transaction did, and waits until that is so.
///
/// # Errors
/// When the database went away: then it is given up as well.
pub async fn rollback(tx: Tx) -> Result<()> {
    Ok(tx.end("rollback").await?)
}

/// A place in a list that is ordered by `(created_at, id)`: between two rows, even of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    created_at: DateTime<Utc>,
    id: Uuid,
}

impl Position {
    /// The position of a row.
    pub fn of(created_at: DateTime<Utc>, id: Uuid) -> Self {
        Self { created_at, id }
    }

    /// Before every row.
    pub const FIRST: Self = Self { created_at: DateTime::UNIX_EPOCH, id: Uuid::nil() };

    /// After every row.
    pub fn last() -> Self {
        let created_at =
            NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or_default().and_time(chrono::NaiveTime::MIN).and_utc();
        Self { created_at, id: Uuid::max() }
    }
}

/// An interval, as `make_interval(secs => …)` takes it.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
