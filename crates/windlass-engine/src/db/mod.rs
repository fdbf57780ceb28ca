//! Access to Postgres: connections, errors, and one module per table. No other module uses sqlx.

pub mod audit;
pub mod backlog;
pub mod compatibility;
pub mod creations;
mod endpoint;
mod errors;
mod executor;
pub mod files;
pub mod forms;
pub mod garbage;
pub mod idempotency;
pub mod keys;
pub mod locks;
pub mod md5_states;
pub mod migrate;
mod migrator;
pub mod parts;
mod pool;
mod pooler;
pub mod quotas;
mod server;
mod session;
pub mod signed_urls;
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

use self::endpoint::Endpoint;
use self::pool::Pool;
pub use self::server::Server;
pub use self::transaction::Tx;

/// The interval between connection attempts while waiting for the database.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// The interval between log messages while waiting for the database.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The ledger's connections, in two pools: one for single statements and one for transactions. Completions and
/// deletions thereby run on connections that have already planned these statements and their triggers, which takes
/// Postgres longer than the transaction itself.
#[derive(Clone, Debug)]
pub struct Db {
    endpoint: Arc<Endpoint>,
    statements: Pool,
    transactions: Pool,
}

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres is unreachable, out of connections or read-only, closed the connection, or cancelled the statement.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Postgres did not respond within the database timeout.
    #[error("the database did not respond in time")]
    Silent,
    /// A statement failed.
    #[error("a statement failed")]
    Statement(#[source] sqlx::Error),
    /// A row has a value that this program never writes.
    #[error("row {id} of {table} is invalid: {reason}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The id of the row.
        id: Uuid,
        /// The invalid column, or what is wrong.
        reason: String,
    },
    /// The schema could not be brought up to date.
    #[error("the schema could not be migrated")]
    Migration(#[from] Box<refinery::Error>),
    /// The schema does not match this program, or cannot be read or migrated by this role.
    #[error(transparent)]
    Schema(#[from] migrate::SchemaError),
    /// Another session did not release a lock in time.
    #[error(
        "timed out after {} s waiting for the {what} lock, held by {holder}; if that session is hung, end it with: \
         select pg_terminate_backend(pid)",
        waited.as_secs()
    )]
    Locked {
        /// The name of the lock.
        what: &'static str,
        /// The session that holds the lock, as far as it is visible to this role.
        holder: String,
        /// How long this process waited for it.
        waited: Duration,
    },
    /// `DATABASE_URL` is not a Postgres URL.
    #[error("DATABASE_URL is not a Postgres URL such as postgres://user:password@host:5432/name")]
    Url(#[source] sqlx::Error),
}

/// The result of a database operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if errors::is_unavailable(&error) { Self::Unavailable(error) } else { Self::Statement(error) }
    }
}

impl Error {
    /// Whether the outcome is unknown: the operation may have taken effect.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Silent)
    }

    fn inconsistent(table: &'static str, id: Uuid, reason: impl Display) -> Self {
        Self::Inconsistent { table, id, reason: reason.to_string() }
    }
}

impl Db {
    /// Sets the gauges of the connection pools.
    pub(crate) fn report(&self) {
        for (name, pool) in [("statements", &self.statements), ("transactions", &self.transactions)] {
            let status = pool.status();
            let set = |state, count: usize| {
                let labels = [("pool", name), ("state", state)];
                metrics::gauge!("windlass_database_connections", &labels).set(u32::try_from(count).unwrap_or(u32::MAX));
            };
            set("open", status.size);
            set("idle", status.available);
            set("awaited", status.waiting);
        }
    }

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
            statements: pool::pool(Arc::clone(&endpoint), connections - for_transactions),
            transactions: pool::pool(Arc::clone(&endpoint), for_transactions),
            endpoint,
        })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// If no connection is available in time, or the database is unavailable.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx::begin(&self.transactions).await?)
    }

    /// The maximum number of concurrent statements outside of transactions.
    pub fn statements_at_once(&self) -> usize {
        self.statements.status().max_size
    }

    /// The maximum number of concurrent transactions.
    pub fn transactions_at_once(&self) -> usize {
        self.transactions.status().max_size
    }

    /// Checks that the database responds and is writable.
    ///
    /// # Errors
    /// If it does not respond, or is read-only.
    pub async fn ping(&self) -> Result<()> {
        let server = sqlx::query!(
            r#"select pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' as "read_only!""#
        )
        .fetch_one(self)
        .await?;
        if server.read_only {
            self.endpoint.mark_read_only();
            return Err(sqlx::Error::from(errors::ReadOnly).into());
        }
        Ok(())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        pool::close(&self.statements).await;
        pool::close(&self.transactions).await;
    }
}

/// Retries until the server is available and writable, at most for `patience`, and logs the wait.
async fn wait_for(endpoint: &Endpoint, patience: Duration) -> Result<()> {
    let until = Instant::now() + patience;
    let mut log_at = Instant::now();
    loop {
        let probed = timeout(pool::CHECKOUT_TIMEOUT, endpoint.probe()).await;
        let error = match probed.map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into())).flatten() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let now = Instant::now();
        if now >= until || !errors::is_not_ready(&error) {
            return Err(error.into());
        }
        if now >= log_at {
            let seconds_left = (until - now).as_secs();
            tracing::info!(%error, seconds_left, "waiting for the database");
            log_at = now + LOG_INTERVAL;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Commits a transaction.
///
/// # Errors
/// If the commit fails, or its response is lost and the outcome is unknown.
pub async fn commit(tx: Tx) -> Result<()> {
    Ok(tx.end("commit").await?)
}

/// Rolls back a transaction, and waits for the response.
///
/// # Errors
/// If the connection is lost; the server then rolls back as well.
pub async fn rollback(tx: Tx) -> Result<()> {
    Ok(tx.end("rollback").await?)
}

/// A position in a list ordered by `(created_at, id)`; the id breaks ties.
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

    /// The position before every row.
    pub const FIRST: Self = Self { created_at: DateTime::UNIX_EPOCH, id: Uuid::nil() };

    /// The position after every row.
    pub fn last() -> Self {
        let created_at =
            NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or_default().and_time(chrono::NaiveTime::MIN).and_utc();
        Self { created_at, id: Uuid::max() }
    }
}

/// A duration in seconds, as the argument of `make_interval(secs => …)`.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
