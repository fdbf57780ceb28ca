//! Postgres, and the only place that speaks to it: its connections, its errors, one module a table.

mod connections;
pub mod contents;
pub mod files;
pub mod keys;
pub mod md5_links;
pub mod migrate;
pub mod parts;
mod statements;
pub mod stores;
pub mod uploads;

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use self::connections::Pool;
pub use self::connections::Tx;

/// The ledger's connections: some for single statements, some for transactions. What ends an Upload or a File
/// finds one that has read their rules before, which takes Postgres longer than the end itself.
#[derive(Clone, Debug)]
pub struct Db {
    statements: Pool,
    transactions: Pool,
}

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres cannot be reached, has no connection to give, or went away.
    #[error("the database is not to be reached")]
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
    /// The text of `DATABASE_URL` is not one.
    #[error("DATABASE_URL is not a Postgres URL such as postgres://user:password@host:5432/name")]
    Url(#[source] sqlx::Error),
}

/// Everything in this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) { Self::Unavailable(error) } else { Self::Statement(error) }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        // A connection that is cut in the middle of a message reads as one that breaks the protocol.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed => true,
        // Classes 08 (connection), 53 (resources) and 57 (operator: shutting down, starting up).
        sqlx::Error::Database(e) => e.code().is_some_and(|it| ["08", "53", "57"].iter().any(|c| it.starts_with(c))),
        _ => false,
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
    /// Opens the pools of so many connections together, two at least, waiting up to `patience` for a database that is still starting.
    ///
    /// # Errors
    /// When the URL is none, or no connection could be made in that time.
    pub async fn connect(url: &str, connections: u32, patience: Duration) -> Result<Self> {
        let options: PgConnectOptions = url.parse().map_err(Error::Url)?;
        let options = options.application_name("windlass");
        let for_transactions = connections / 2;
        let db = Self {
            statements: connections::pool(options.clone(), connections - for_transactions),
            transactions: connections::pool(options, for_transactions),
        };
        let began = tokio::time::Instant::now();
        loop {
            match db.ping().await {
                Err(Error::Unavailable(error)) if began.elapsed() < patience => {
                    tracing::info!(error = %error, "waiting for the database");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(db),
            }
        }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx::begin(&self.transactions).await?)
    }

    /// Asks whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query!("select 1 as one").fetch_one(self).await?;
        Ok(())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        connections::close(&self.statements).await;
        connections::close(&self.transactions).await;
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
