//! The ledger's connection pools. A connection is lent for a statement or a transaction, and is reused only after a
//! clean finish.
//!
//! Invariant: a connection is lent again only if the response to its last statement was read to the end and no
//! transaction is open on it. If its borrower was dropped midway, or an error may have broken it, it is closed
//! immediately, and the server aborts what it was running.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleResult};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{sleep, timeout};

use super::endpoint::Endpoint;
use super::errors;

/// For how long after its last use a connection is assumed to be alive.
const FRESH: Duration = Duration::from_secs(1);

/// The timeout for checking that a connection is alive, and for rolling back a dropped transaction.
pub(super) const LIVENESS_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum age of a connection: the memory of its server process only grows.
const MAX_AGE: Duration = Duration::from_mins(30);

/// The timeout for getting a connection, including the time to make one.
pub(super) const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(10);

/// The delay before another attempt to connect to a server that does not accept connections.
const RETRY_DELAY: Duration = Duration::from_millis(20);

pub(super) type Pool = managed::Pool<Connector>;

/// Makes the connections of a pool.
#[derive(Debug)]
pub(super) struct Connector(Arc<Endpoint>);

/// Creates a pool of up to `connections` connections. None is made yet.
pub(super) fn pool(endpoint: Arc<Endpoint>, connections: u32) -> Pool {
    // The most recently used connection is the most likely to be alive.
    let config = PoolConfig { queue_mode: QueueMode::Lifo, ..PoolConfig::new(connections.max(1) as usize) };
    Pool::builder(Connector(endpoint)).config(config).build().expect("only a pool with timeouts needs a runtime")
}

/// Gets a connection that does not return to the pool.
pub(super) async fn detached(pool: &Pool) -> Result<PgConnection, sqlx::Error> {
    Ok(Lease::take(pool).await?.detach())
}

/// Closes idle connections now, and the others when they are returned.
pub(super) async fn close(pool: &Pool) {
    let idle = pool.retain(|_, _| false).removed;
    pool.close();
    for connection in idle {
        connection.raw.close().await.ok();
    }
}

/// A pooled connection and its state.
#[derive(Debug)]
pub(super) struct Connection {
    raw: PgConnection,
    endpoint: Arc<Endpoint>,
    /// Whether it was returned after a clean finish.
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
                // `Lease::take` limits the time for this.
                Err(error) if errors::is_momentary(&error) => sleep(RETRY_DELAY).await,
                outcome => break outcome?,
            }
        };
        Ok(Connection { raw, endpoint: Arc::clone(&self.0), is_sound: true, made_at, last_used: Instant::now() })
    }

    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        let Connection { raw, is_sound, made_at, last_used, .. } = connection;
        if !*is_sound || metrics.age() > MAX_AGE {
            return Err(managed::RecycleError::message("the connection may be broken, or is too old"));
        }
        if self.0.outdated.is_after(*made_at) || self.0.silent.is_after(*last_used) {
            return Err(managed::RecycleError::message("the connection may lead to a former primary or a dead server"));
        }
        if last_used.elapsed() > FRESH || self.0.broken.is_after(*last_used) {
            let pinged_at = Instant::now();
            let alive = timeout(LIVENESS_TIMEOUT, raw.ping()).await;
            let alive = alive.map_err(|_| {
                self.0.silent.mark(pinged_at);
                sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
            });
            alive.flatten()?;
        }
        Ok(())
    }
}

/// A connection in use. It is closed on drop unless it was returned to the pool.
#[derive(Debug)]
pub(super) struct Lease(Option<Object<Connector>>);

const HOLDS_CONNECTION: &str = "a lease holds its connection until it ends";

impl Lease {
    pub(super) async fn take(pool: &Pool) -> Result<Self, sqlx::Error> {
        let began = Instant::now();
        let checkout = timeout(CHECKOUT_TIMEOUT, pool.get()).await;
        metrics::histogram!("windlass_database_checkout_duration_seconds").record(began.elapsed());
        match checkout {
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
        self.0.as_deref().expect(HOLDS_CONNECTION)
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.connection().endpoint
    }

    fn detach(mut self) -> PgConnection {
        Object::take(self.0.take().expect(HOLDS_CONNECTION)).raw
    }

    /// Ends the transaction. The future must not own a `Tx`: a runtime that is shutting down drops spawned futures at
    /// once, and dropping a `Tx` spawns another one.
    pub(super) async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let ended = self.execute(sqlx::raw_sql(how)).await;
        self.give_back(ended).map(drop)
    }

    /// Returns the connection to the pool, unless the result is an error that may have broken it.
    pub(super) fn give_back<T>(mut self, outcome: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let mut connection = self.0.take().expect(HOLDS_CONNECTION);
        connection.is_sound = true;
        connection.last_used = Instant::now();
        if let Err(error) = &outcome {
            connection.endpoint.record_error(error);
            if errors::breaks_connection(error) {
                connection.endpoint.broken.mark(Instant::now());
                connection.is_sound = false;
                drop(Object::take(connection));
            }
        }
        outcome
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
        &mut self.0.as_deref_mut().expect(HOLDS_CONNECTION).raw
    }
}
