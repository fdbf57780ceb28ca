//! The ledger's connections: lent for a statement or a transaction, and never lent again unless they
//! are known to be as they were.
//!
//! Invariant: a connection is lent again only when its last statement was answered to the end and no
//! transaction is open on it. One whose borrower was dropped midway, or that failed, is closed instead.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleResult};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::is_unavailable;

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
pub(super) struct Connector {
    options: PgConnectOptions,
    /// When one was last found broken: the others may be broken too, unless they were used since.
    broken: Mutex<Option<Instant>>,
}

/// A pool of up to so many connections; none is made yet.
pub(super) fn pool(options: PgConnectOptions, connections: u32) -> Pool {
    // The one that was used last is the likeliest to be alive.
    let config = PoolConfig { queue_mode: QueueMode::Lifo, ..PoolConfig::new(connections.max(1) as usize) };
    let connector = Connector { options, broken: Mutex::new(None) };
    // It cannot fail without a time limit of the pool's own.
    Pool::builder(connector).config(config).build().expect("a pool without time limits needs no runtime")
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
            match self.options.connect().await {
                // Whoever waits for the connection bounds this.
                Err(error) if is_of_the_moment(&error) => sleep(PAUSE).await,
                outcome => break outcome?,
            }
        };
        keep_what_is_committed(&mut raw).await?;
        // A plan that was made while a table was small would go on to read the whole of it: there is an index for each.
        raw.execute("set enable_seqscan = off").await?;
        Ok(Connection { raw, is_sound: true, last_used: Instant::now() })
    }

    async fn recycle(&self, connection: &mut Connection, about: &Metrics) -> RecycleResult<sqlx::Error> {
        if !connection.is_sound || about.age() > LONGEST_LIFE {
            return Err(managed::RecycleError::message("it is not to be used any more"));
        }
        if connection.last_used.elapsed() > FRESH || self.broke_since(connection.last_used) {
            let alive = timeout(SIGN_OF_LIFE, connection.raw.ping()).await;
            alive.map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())).flatten()?;
        }
        Ok(())
    }
}

impl Connector {
    fn broke_since(&self, moment: Instant) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|it| it > moment)
    }

    fn one_is_broken(&self) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
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
pub(super) struct Lease(Object<Connector>);

impl Lease {
    pub(super) async fn take(pool: &Pool) -> Result<Self, sqlx::Error> {
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

    /// Ends its transaction. A future without a transaction in it: a runtime that shuts down drops it at once.
    async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let ended = self.execute(sqlx::raw_sql(how)).await;
        self.give_back(ended).map(drop)
    }

    /// Gives it back with the answer to its last statement, unless that is a failure that may have broken it.
    pub(super) fn give_back<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.0.is_sound = !answer.as_ref().is_err_and(is_unavailable);
        self.0.last_used = Instant::now();
        if !self.0.is_sound
            && let Some(pool) = Object::pool(&self.0)
        {
            pool.manager().one_is_broken();
        }
        answer
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0.raw
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.raw
    }
}

/// A transaction. It is rolled back unless it is committed.
#[derive(Debug)]
pub struct Tx(Option<Lease>);

impl Tx {
    pub(super) async fn begin(pool: &Pool) -> Result<Self, sqlx::Error> {
        let mut lease = Lease::take(pool).await?;
        match lease.execute("begin").await {
            Ok(_) => Ok(Self(Some(lease))),
            Err(error) => lease.give_back(Err(error)),
        }
    }

    pub(super) async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let Some(lease) = self.0.take() else { return Ok(()) };
        lease.end(how).await
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // At once: others may wait for its locks.
        if let Some(lease) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(timeout(SIGN_OF_LIFE, lease.end("rollback")));
        }
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_ref().expect(LASTS)
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect(LASTS)
    }
}

const LASTS: &str = "a transaction has its connection until it ends";
