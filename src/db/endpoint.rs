//! What is known of the server by all that is connected to it: how to connect, how sessions are set, and from when
//! on its connections are not to be trusted any more.

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

/// How long a server may take to let us in.
const ONE_SERVER: Duration = Duration::from_secs(5);

/// The same of one address, where the name has others.
const ONE_OF_SEVERAL: Duration = Duration::from_secs(3);

/// The latest of several moments.
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

/// A server, to those who are connected to it.
#[derive(Debug)]
pub(super) struct Endpoint {
    options: PgConnectOptions,
    pub(super) session: Session,
    /// Whether a pooler lends us a session for each transaction.
    is_pooled: AtomicBool,
    /// When a connection was last found broken: the others may be, too, unless they were used since.
    pub(super) broken: Latest,
    /// When a connection was last found silent: those that were not used since are not asked, which takes as long.
    pub(super) silent: Latest,
    /// When the server was last found to be the wrong one: connections that were made before lead to it.
    pub(super) outdated: Latest,
    /// Which of several addresses of the name was right last.
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

    /// Whether every transaction has to set its session, and may name no statement.
    pub(super) fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::Relaxed)
    }

    /// How a transaction begins.
    pub(super) fn begin(&self) -> SqlStr {
        if self.is_pooled() { self.session.begin_and_set.clone() } else { self.session.begin.clone() }
    }

    /// Looks at the server for the first time.
    ///
    /// # Errors
    /// When it cannot be reached, takes no writes, or is behind a pooler that cannot work.
    pub(super) async fn explore(&self) -> Result<(), sqlx::Error> {
        // Nothing outlives this transaction: the session may be a pooler's.
        let (mut connection, options) = self.reach(&self.session.begin_and_set).await.map_err(pooler::explained)?;
        connection.execute("rollback").await?;
        connection.close().await.ok();
        if !pooler::keeps_sessions(&options).await? {
            tracing::info!("the database is behind a pooler that lends a session for each transaction");
            self.is_pooled.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A new connection, with its session set, to a server that takes writes. Behind a pooler, which server it leads
    /// to is decided for each transaction.
    pub(super) async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        if self.is_pooled() {
            let connected = timeout(ONE_SERVER, self.options.connect()).await;
            return connected.map_err(|_| timed_out()).flatten();
        }
        Ok(self.reach(&self.session.start).await?.0)
    }

    /// A connection to the first of the server's addresses that answers and takes writes, and how it was made.
    async fn reach(&self, start: &SqlStr) -> Result<(PgConnection, PgConnectOptions), sqlx::Error> {
        let mut failure = None;
        let candidates = self.candidates().await;
        let patience = if candidates.len() > 1 { ONE_OF_SEVERAL } else { ONE_SERVER };
        for (address, options) in candidates {
            let opened = timeout(patience, open(&options, start)).await.map_err(|_| timed_out()).flatten();
            match opened {
                Ok(connection) => {
                    *self.preferred.lock().unwrap_or_else(PoisonError::into_inner) = address;
                    return Ok((connection, options));
                }
                Err(error) if is_of_one_address(&error) => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(timed_out))
    }

    /// How the server may be reached: by its name, which TLS needs, and where the name has several addresses, by each
    /// of them; the one that was right last comes first. Not where the name is what the certificate is held against.
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

    /// Draws the conclusions from an error, whoever met it.
    pub(super) fn learn(&self, error: &sqlx::Error) {
        let Some(code) = errors::code(error) else { return };
        if code == "25006" {
            self.is_read_only();
        } else if errors::tells_of_a_pooler(&code) && !self.is_pooled.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the database is behind a pooler that does not keep sessions: every transaction sets its own"
            );
            self.outdated.mark(Instant::now());
        }
    }

    /// The server takes no writes any more: another one may under the same name.
    pub(super) fn is_read_only(&self) {
        self.outdated.mark(Instant::now());
    }
}

/// A new connection with its session, or a transaction, set to what this statement sets it to.
async fn open(options: &PgConnectOptions, start: &SqlStr) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    let answers = connection.fetch_all(sqlx::raw_sql(start.clone())).await?;
    let server = answers.last().ok_or(sqlx::Error::RowNotFound)?;
    if server.try_get("loses_commits")? {
        static WARNING: Once = Once::new();
        WARNING.call_once(|| {
            tracing::warn!("Postgres runs with fsync = off: a loss of power may cost acknowledged files");
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

/// Whether another address of the same name may be better: this one is silent, away, or takes no writes.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
fn is_of_one_address(error: &sqlx::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    match error {
        sqlx::Error::Io(error) => {
            let kinds = [ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut];
            kinds.contains(&error.kind()) || errors::is_read_only(error)
        }
        // It is starting, ending, or has no connection to spare.
        sqlx::Error::Database(error) => error.code().is_some_and(|it| ["57P01", "57P03", "53300"].contains(&&*it)),
        _ => false,
    }
}
