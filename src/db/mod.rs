//! Postgres, and the only place that speaks to it: the pool, its errors, one module a table.

pub mod files;
pub mod keys;
pub mod migrate;
pub mod parts;
pub mod uploads;

use std::fmt::Display;
use std::sync::Once;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor as _, PgConnection, PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

/// A transaction. It is rolled back unless it is committed.
pub type Tx = Transaction<'static, Postgres>;

/// The ledger's connections.
#[derive(Clone, Debug)]
pub struct Db {
    pool: PgPool,
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
    #[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // A connection that is cut in the middle of a message reads as one that breaks the protocol.
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed => Self::Unavailable(error),
            // Classes 08 (connection), 53 (resources) and 57 (operator: shutting down, starting up).
            sqlx::Error::Database(e)
                if e.code().is_some_and(|it| ["08", "53", "57"].iter().any(|c| it.starts_with(c))) =>
            {
                Self::Unavailable(error)
            }
            _ => Self::Statement(error),
        }
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
    /// Opens the pool, waiting up to `patience` for a database that is still starting.
    ///
    /// # Errors
    /// When the URL is none, or no connection could be made in that time.
    pub async fn connect(url: &str, connections: u32, patience: Duration) -> Result<Self> {
        let options: PgConnectOptions = url.parse().map_err(Error::Url)?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(10))
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(keep_what_is_committed(connection)))
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    // One that was just in use was asked when it came back.
                    if about.idle_for > FRESH { is_sound(connection).await } else { Ok(true) }
                })
            })
            // sqlx asks without a bound whether a connection that comes back still answers: those to a
            // database that fell silent would fill the pool for ever.
            .after_release(|connection, _| Box::pin(is_sound(connection)))
            .connect_lazy_with(options.application_name("windlass"));
        let db = Self { pool };
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

    /// Uses a pool that somebody else made.
    pub fn from_pool(pool: PgPool) -> Self {
        Self { pool }
    }

    /// What runs a statement outside a transaction.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(self.pool.begin().await?)
    }

    /// Asks whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query!("select 1 as one").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Commits what a transaction did.
///
/// # Errors
/// When the commit failed, or its answer was lost.
pub async fn commit(tx: Tx) -> Result<()> {
    Ok(tx.commit().await?)
}

/// A commit that is answered before it is on disk is no commit, whatever the server or role is set to.
/// The stricter settings, which wait for replicas, stay as they are.
async fn keep_what_is_committed(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let setting = "select set_config('synchronous_commit', 'on', false)
                   where current_setting('synchronous_commit') = 'off'";
    if connection.fetch_one("select current_setting('fsync')").await?.try_get::<&str, _>(0)? == "off" {
        static WARNING: Once = Once::new();
        WARNING.call_once(|| {
            tracing::warn!("Postgres runs with fsync = off: a loss of power may cost acknowledged files");
        });
    }
    connection.execute(setting).await.map(drop)
}

/// How long after its last use a connection is taken to be alive.
const FRESH: Duration = Duration::from_secs(1);

/// How long a connection may take to say that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// Whether a connection answers, and not from within a transaction: sqlx forgets the one whose `begin`
/// was given up halfway, and whatever came later would never be committed.
async fn is_sound(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let silent = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let question = connection.fetch_one(sqlx::raw_sql("select now() = statement_timestamp()"));
    tokio::time::timeout(SIGN_OF_LIFE, question).await.map_err(silent).flatten()?.try_get(0)
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
