//! The ledger's connections: lent for a statement or a transaction, and never lent again unless they
//! are known to be as they were.
//!
//! Invariant: a connection is lent again only when its last statement was answered to the end and no
//! transaction is open on it. If its borrower was dropped midway, or a statement failed, it is closed immediately, and
//! the server aborts what it was doing.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleResult};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{sleep, timeout};

use super::endpoint::Endpoint;
use super::errors;

/// How long after its last use a connection is taken to be alive.
const FRESH: Duration = Duration::from_secs(1);

/// How long a connection may take to say that it is alive, or to give up a transaction.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// How old a connection becomes: what it holds in the server's memory only grows.
const LONGEST_LIFE: Duration = Duration::from_mins(30);

/// How long a statement waits for its connection.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long until a server that does not take connections is asked again.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) type Pool = managed::Pool<Connector>;

/// What makes connections.
#[derive(Debug)]
pub(super) struct Connector(Arc<Endpoint>);

/// A pool of up to so many connections; none is made yet.
pub(super) fn pool(endpoint: Arc<Endpoint>, connections: u32) -> Pool {
    // The one that was used last is the likeliest to be alive.
    let config = PoolConfig { queue_mode: QueueMode::Lifo, ..PoolConfig::new(connections.max(1) as usize) };
    // It cannot fail without a time limit of the pool's own.
    Pool::builder(Connector(endpoint)).config(config).build().expect("a pool without time limits needs no runtime")
}

/// A connection that is not the pool's.
pub(super) async fn detached(pool: &Pool) -> Result<PgConnection, sqlx::Error> {
    Ok(Lease::take(pool).await?.detach())
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
    endpoint: Arc<Endpoint>,
    /// Whether it was given back in order.
    is_sound: bool,
    made_at: Instant,
    last_used: Instant,
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Connection, sqlx::Error> {
        let made_at = Instant::now();
        let raw = loop {
            // Boxed: the future is large, rarely needed, and part of many others.
            match Box::pin(self.0.open()).await {
                // Whoever waits for the connection bounds this.
                Err(error) if errors::is_of_the_moment(&error) => sleep(PAUSE).await,
                outcome => break outcome?,
            }
        };
        Ok(Connection { raw, endpoint: Arc::clone(&self.0), is_sound: true, made_at, last_used: Instant::now() })
    }

    async fn recycle(&self, connection: &mut Connection, about: &Metrics) -> RecycleResult<sqlx::Error> {
        let Connection { raw, is_sound, made_at, last_used, .. } = connection;
        if !*is_sound || about.age() > LONGEST_LIFE {
            return Err(managed::RecycleError::message("it is not to be used any more"));
        }
        if self.0.outdated.is_after(*made_at) || self.0.silent.is_after(*last_used) {
            return Err(managed::RecycleError::message("it may lead to a server that is not there any more"));
        }
        if last_used.elapsed() > FRESH || self.0.broken.is_after(*last_used) {
            let asked_at = Instant::now();
            let alive = timeout(SIGN_OF_LIFE, raw.ping()).await;
            let alive = alive.map_err(|_| {
                self.0.silent.mark(asked_at);
                sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
            });
            alive.flatten()?;
        }
        Ok(())
    }
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease(Option<Object<Connector>>);

const LASTS: &str = "a lease has its connection until it ends";

impl Lease {
    pub(super) async fn take(pool: &Pool) -> Result<Self, sqlx::Error> {
        match timeout(LONGEST_WAIT, pool.get()).await {
            Ok(Ok(mut connection)) => {
                connection.is_sound = false;
                Ok(Self(Some(connection)))
            }
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(sqlx::Error::PoolClosed),
            Ok(Err(_)) | Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    fn connection(&self) -> &Connection {
        self.0.as_deref().expect(LASTS)
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.connection().endpoint
    }

    fn detach(mut self) -> PgConnection {
        Object::take(self.0.take().expect(LASTS)).raw
    }

    /// Ends the transaction. The future must not own a `Tx`: a runtime that is shutting down drops spawned futures at
    /// once, and dropping a `Tx` spawns another one.
    pub(super) async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let ended = self.execute(sqlx::raw_sql(how)).await;
        self.give_back(ended).map(drop)
    }

    /// Returns the connection to the pool, unless the result is an error that may have broken it.
    pub(super) fn give_back<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let mut connection = self.0.take().expect(LASTS);
        connection.is_sound = true;
        connection.last_used = Instant::now();
        if let Err(error) = &answer {
            connection.endpoint.learn(error);
            if errors::breaks_connection(error) {
                connection.endpoint.broken.mark(Instant::now());
                connection.is_sound = false;
                drop(Object::take(connection));
            }
        }
        answer
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Close the connection instead of returning it to the pool.
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection().raw
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.as_deref_mut().expect(LASTS).raw
    }
}
