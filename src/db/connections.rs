//! The ledger's connections: lent for a statement or a transaction, and never lent again unless they
//! are known to be as they were.
//!
//! Invariant: a connection is lent again only when its last statement was answered to the end and no
//! transaction is open on it. One whose borrower was dropped midway, or that failed, is closed instead.

use std::ops::{Deref, DerefMut};
use std::sync::Once;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleResult};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{
    ConnectOptions as _, Connection as _, Describe, Either, Execute, Executor, PgConnection, Postgres, Row as _, SqlStr,
};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::{Db, is_unavailable};

/// How long after its last use a connection is taken to be alive.
const FRESH: Duration = Duration::from_secs(1);

/// How long a connection may take to say that it is alive, or to give up a transaction.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// How old a connection becomes: what it holds in the server's memory only grows.
const LONGEST_LIFE: Duration = Duration::from_mins(30);

/// How long a statement waits for its connection.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long until a server that does not take connections is asked again.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) type Pool = managed::Pool<Connector>;

/// What makes connections.
#[derive(Debug)]
pub(super) struct Connector(PgConnectOptions);

/// A pool of up to so many connections; none is made yet.
pub(super) fn pool(options: PgConnectOptions, connections: u32) -> Pool {
    // The one that was used last is the likeliest to be alive.
    let config = PoolConfig { queue_mode: QueueMode::Lifo, ..PoolConfig::new(connections.max(1) as usize) };
    // It cannot fail without a time limit of the pool's own.
    Pool::builder(Connector(options)).config(config).build().expect("a pool without time limits needs no runtime")
}

/// A connection that is not the pool's.
pub(super) async fn detached(pool: &Pool) -> Result<PgConnection, sqlx::Error> {
    Ok(Object::take(Lease::take(pool).await?.0).raw)
}

/// Closes those that are not in use, and every other one when it comes back.
pub(super) async fn close(pool: &Pool) {
    let idle = pool.retain(|_, _| false).removed;
    pool.close();
    for connection in idle {
        connection.raw.close().await.ok();
    }
}

/// A connection, and what is known of it.
#[derive(Debug)]
pub(super) struct Connection {
    raw: PgConnection,
    /// Whether it was given back in order.
    is_sound: bool,
    last_used: Instant,
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Connection, sqlx::Error> {
        let mut raw = loop {
            match self.0.connect().await {
                // Whoever waits for the connection bounds this.
                Err(error) if is_of_the_moment(&error) => sleep(PAUSE).await,
                outcome => break outcome?,
            }
        };
        keep_what_is_committed(&mut raw).await?;
        Ok(Connection { raw, is_sound: true, last_used: Instant::now() })
    }

    async fn recycle(&self, connection: &mut Connection, about: &Metrics) -> RecycleResult<sqlx::Error> {
        if !connection.is_sound || about.age() > LONGEST_LIFE {
            return Err(managed::RecycleError::message("it is not to be used any more"));
        }
        if connection.last_used.elapsed() > FRESH {
            let alive = timeout(SIGN_OF_LIFE, connection.raw.ping()).await;
            alive.map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())).flatten()?;
        }
        Ok(())
    }
}

/// A server that is starting, or has as many connections as it takes.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
fn is_of_the_moment(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    match error {
        sqlx::Error::Io(error) => matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset),
        sqlx::Error::Database(error) => error.code().is_some_and(|it| ["57P03", "53300"].contains(&&*it)),
        _ => false,
    }
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

/// A connection in use.
#[derive(Debug)]
struct Lease(Object<Connector>);

impl Lease {
    async fn take(pool: &Pool) -> Result<Self, sqlx::Error> {
        match timeout(LONGEST_WAIT, pool.get()).await {
            Ok(Ok(mut connection)) => {
                connection.is_sound = false;
                Ok(Self(connection))
            }
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(sqlx::Error::PoolClosed),
            Ok(Err(_)) | Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// Gives it back with the answer to its last statement, unless that is a failure that may have broken it.
    fn give_back<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.0.is_sound = !answer.as_ref().is_err_and(is_unavailable);
        self.0.last_used = Instant::now();
        answer
    }
}

/// A statement of its own runs on a connection of its own.
impl<'c> Executor<'c> for &'c Db {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        // All of it, even where nobody waits for the end: else the connection would not be there either.
        let rows = async move {
            let mut lease = Lease::take(&self.pool).await?;
            let rows = lease.0.raw.fetch_many(query).try_collect::<Vec<_>>().await;
            lease.give_back(rows)
        };
        rows.map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut lease = Lease::take(&self.pool).await?;
            let row = lease.0.raw.fetch_optional(query).await;
            lease.give_back(row)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut lease = Lease::take(&self.pool).await?;
            let statement = lease.0.raw.prepare_with(sql, parameters).await;
            lease.give_back(statement)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut lease = Lease::take(&self.pool).await?;
            let description = lease.0.raw.describe(sql).await;
            lease.give_back(description)
        })
    }
}

/// A transaction. It is rolled back unless it is committed.
#[derive(Debug)]
pub struct Tx(Option<Lease>);

impl Tx {
    pub(super) async fn begin(pool: &Pool) -> Result<Self, sqlx::Error> {
        let mut lease = Lease::take(pool).await?;
        lease.0.raw.execute(sqlx::raw_sql("begin")).await?;
        Ok(Self(Some(lease)))
    }

    pub(super) async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let Some(mut lease) = self.0.take() else { return Ok(()) };
        let ended = lease.0.raw.execute(sqlx::raw_sql(how)).await;
        lease.give_back(ended).map(drop)
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // At once: others may wait for its locks.
        if let Some(lease) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(timeout(SIGN_OF_LIFE, Self(Some(lease)).end("rollback")));
        }
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0.as_ref().expect(LASTS).0.raw
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.as_mut().expect(LASTS).0.raw
    }
}

const LASTS: &str = "a transaction has its connection until it ends";
