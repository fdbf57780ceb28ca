//! State shared by all connections to a server: how to connect, the session settings, and the times before which
//! connections are suspect.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _, SqlStr};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::errors::{self, ReadOnly};
use super::pooler;
use super::server::Server;
use super::session::Session;

/// The timeout for connecting to a server with a single address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout for connecting to each address of a server that has several.
const TIMEOUT_PER_ADDRESS: Duration = Duration::from_secs(3);

/// The latest of several instants.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Option<Instant>>);

impl Latest {
    pub(super) fn mark(&self, moment: Instant) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = (*latest).max(Some(moment));
    }

    pub(super) fn is_after(&self, moment: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|it| it > moment)
    }
}

/// The state of a server that its connections share.
#[derive(Debug)]
pub(super) struct Endpoint {
    options: PgConnectOptions,
    pub(super) session: Session,
    /// Whether a pooler assigns a server session per transaction.
    is_pooled: AtomicBool,
    /// When a connection was last found broken. Connections not used since may be broken too and need to be checked.
    pub(super) broken: Latest,
    /// When a connection last failed to respond. Those not used since are discarded: checking each would take as long.
    pub(super) silent: Latest,
    /// When the server was last found to be read-only, or to be behind a transaction pooler. Connections made before
    /// that are discarded.
    pub(super) outdated: Latest,
    /// The address of the last successful connection, if the host name has several.
    preferred: Mutex<Option<IpAddr>>,
}

impl Endpoint {
    pub(super) fn new(server: &Server) -> super::Result<Self> {
        Ok(Self {
            options: server.options()?,
            session: Session::new(server.patience),
            is_pooled: AtomicBool::new(false),
            broken: Latest::default(),
            silent: Latest::default(),
            outdated: Latest::default(),
            preferred: Mutex::default(),
        })
    }

    /// Whether every transaction has to set up its session, and prepared statements must not be named.
    pub(super) fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::Relaxed)
    }

    /// The statements that begin a transaction.
    pub(super) fn begin(&self) -> SqlStr {
        if self.is_pooled() { self.session.begin_and_set.clone() } else { self.session.begin.clone() }
    }

    /// Makes the first connection, and detects a pooler.
    ///
    /// # Errors
    /// If the server is unreachable, is read-only, or is behind an unsupported pooler.
    pub(super) async fn probe(&self) -> Result<(), sqlx::Error> {
        // The session may be shared through a pooler, so all settings are local to this transaction.
        let (mut connection, options) = self.reach(&self.session.begin_and_set).await.map_err(pooler::explained)?;
        connection.execute("rollback").await?;
        connection.close().await.ok();
        if !pooler::keeps_sessions(&options).await? {
            tracing::info!("the database is behind a pooler in transaction mode");
            self.is_pooled.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Opens a connection to a writable server and sets up its session. Behind a pooler, the server is chosen per
    /// transaction, so nothing is checked here.
    pub(super) async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        if self.is_pooled() {
            let connected = timeout(CONNECT_TIMEOUT, self.options.connect()).await;
            return connected.map_err(|_| timed_out()).flatten();
        }
        Ok(self.reach(&self.session.start).await?.0)
    }

    /// Connects to the first of the server's addresses that responds and is writable. Also returns the options used.
    async fn reach(&self, start: &SqlStr) -> Result<(PgConnection, PgConnectOptions), sqlx::Error> {
        let mut failure = None;
        let candidates = self.candidates().await;
        let patience = if candidates.len() > 1 { TIMEOUT_PER_ADDRESS } else { CONNECT_TIMEOUT };
        for (address, options) in candidates {
            let opened = timeout(patience, open(&options, start)).await.map_err(|_| timed_out()).flatten();
            match opened {
                Ok(connection) => {
                    *self.preferred.lock().unwrap_or_else(PoisonError::into_inner) = address;
                    return Ok((connection, options));
                }
                Err(error) if should_try_next_address(&error) => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(timed_out))
    }

    /// The connection options to try. If the host name has several addresses: the last successful one, the name itself,
    /// then the other addresses. Otherwise, or with `verify-full` (the certificate must match the name): the name only.
    async fn candidates(&self) -> Vec<(Option<IpAddr>, PgConnectOptions)> {
        let by_name = (None, self.options.clone());
        let (host, mode) = (self.options.get_host(), self.options.get_ssl_mode());
        let is_bound = self.options.get_socket().is_some() || matches!(mode, PgSslMode::VerifyFull);
        if is_bound || host.parse::<IpAddr>().is_ok() {
            return vec![by_name];
        }
        let found = lookup_host((host, self.options.get_port())).await;
        let mut addresses: Vec<_> = found.map(|all| all.map(|it| it.ip()).collect()).unwrap_or_default();
        addresses.dedup();
        if addresses.len() < 2 {
            return vec![by_name];
        }
        let preferred = *self.preferred.lock().unwrap_or_else(PoisonError::into_inner);
        let by_address = |it: IpAddr| (Some(it), self.options.clone().host(&it.to_string()));
        let first = preferred.filter(|it| addresses.contains(it));
        let others = addresses.into_iter().filter(|it| Some(*it) != first).map(by_address);
        first.map(by_address).into_iter().chain([by_name]).chain(others).collect()
    }

    /// Updates the shared state according to an error on any connection.
    pub(super) fn record_error(&self, error: &sqlx::Error) {
        let Some(code) = errors::code(error) else { return };
        if code == "25006" {
            self.mark_read_only();
        } else if errors::indicates_pooler(&code) && !self.is_pooled.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the database is behind a pooler in transaction mode: every transaction now sets up its session"
            );
            self.outdated.mark(Instant::now());
        }
    }

    /// Records that the server is read-only: after a failover, the same name may lead to a new primary.
    pub(super) fn mark_read_only(&self) {
        self.outdated.mark(Instant::now());
    }
}

/// Opens a connection and runs the statements that set up its session or transaction.
async fn open(options: &PgConnectOptions, start: &SqlStr) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    let rows = connection.fetch_all(sqlx::raw_sql(start.clone())).await?;
    let server = rows.last().ok_or(sqlx::Error::RowNotFound)?;
    if server.try_get("loses_commits")? {
        static WARNING: Once = Once::new();
        WARNING.call_once(|| {
            tracing::warn!("Postgres runs with fsync = off: acknowledged files may be lost on a power failure");
        });
    }
    if server.try_get("read_only")? {
        return Err(ReadOnly.into());
    }
    Ok(connection)
}

fn timed_out() -> sqlx::Error {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Whether to try another address of the same name: this one does not respond, is unavailable, or is read-only.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
fn should_try_next_address(error: &sqlx::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    match error {
        sqlx::Error::Io(error) => {
            let kinds = [ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut];
            kinds.contains(&error.kind()) || errors::is_read_only(error)
        }
        // It is starting up, shutting down, or out of connections.
        sqlx::Error::Database(error) => error.code().is_some_and(|it| ["57P01", "57P03", "53300"].contains(&&*it)),
        _ => false,
    }
}
