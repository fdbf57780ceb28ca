//! Puts the pieces together, for `main` and for the tests alike.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::blobs::{self, Blobs, IfMissing, Location};
use crate::config::{Config, Database};
use crate::crash::CrashPoint;
use crate::db::{self, Db, stores};
use crate::domain::{ApiKey, Origins};
use crate::http::{self, ConnectionLimits};
use crate::service::{self, Service, Volume};
use crate::telemetry::stdout;
use crate::{descriptors, sweeper};

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`. The standard library's 128
/// are exceeded by a burst of clients, who then wait a second or more for their handshake to be retried.
const BACKLOG: i32 = 4096;

/// How long a database that is still starting is waited for.
const DATABASE_PATIENCE: Duration = Duration::from_mins(1);

/// The timeout for opening a store.
const STORE_TIMEOUT: Duration = Duration::from_mins(1);

/// How often to log that the store has not responded yet.
const STORE_NOTICE: Duration = Duration::from_secs(5);

/// How long what is to be finished or given up is waited for, once nobody is served any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger.
    #[error("the database cannot be used")]
    Db(#[from] db::Error),
    /// The store.
    #[error("the store cannot be used")]
    Blobs(#[from] blobs::Error),
    /// The store did not respond in time.
    #[error("the store {store} did not respond within {} s; check its address and the network", STORE_TIMEOUT.as_secs())]
    StoreSilent {
        /// The location of the store.
        store: String,
    },
    /// Something the service was asked to do.
    #[error(transparent)]
    Service(#[from] service::Error),
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The file with the first key.
    #[error("the first API key cannot be written to {path}")]
    KeyFile {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The server or the sweeper.
    #[error("the service ended by itself")]
    Ended(#[source] io::Error),
}

/// Opens the ledger, with its schema up to date.
///
/// # Errors
/// When it cannot be reached or migrated.
pub async fn open_db(config: &Config, url: &str, connections: u32) -> Result<Db, Error> {
    let server = db::Server {
        url: url.to_owned(),
        patience: config.limits.ledger_patience,
        ca_file: config.database_ca_file.clone(),
    };
    let db = Db::connect(server, connections, DATABASE_PATIENCE).await?;
    db::migrate::run(&db).await?;
    Ok(db)
}

/// Opens the ledger and the store, and links them or verifies their link.
///
/// # Errors
/// When one of them cannot be used, or they do not belong together.
pub async fn open(config: &Config, database_url: &str) -> Result<Service, Error> {
    let db = open_db(config, database_url, config.database_connections).await?;
    let is_linked = stores::find(&db).await?.is_some_and(|it| it.linked_at.is_some());
    let if_missing = if is_linked { IfMissing::Fail } else { IfMissing::Make };
    let service = with_store(config, db, if_missing).await?;
    in_time(config, service.link_store()).await?;
    Ok(service)
}

/// Opens the ledger and the store, without checking that they belong together.
///
/// # Errors
/// When one of them cannot be used.
pub async fn open_unlinked(config: &Config, database_url: &str, if_missing: IfMissing) -> Result<Service, Error> {
    with_store(config, open_db(config, database_url, config.database_connections).await?, if_missing).await
}

async fn with_store(config: &Config, db: Db, if_missing: IfMissing) -> Result<Service, Error> {
    let opened = Blobs::open(&config.store, &config.store_variables, if_missing);
    let blobs = match &config.store {
        Location::Directory(_) => in_time(config, opened).await?,
        // It has its own timeout, and logs what it is waiting for.
        Location::Bucket(_) => opened.await?,
    };
    Ok(Service::new(db, blobs, config.limits.clone(), Handle::current()).with_disk_guard(volumes(config)))
}

/// The directories whose disks this process writes to.
fn volumes(config: &Config) -> Vec<Volume> {
    let store = match &config.store {
        Location::Directory(path) => Some(Volume { name: "store", path: path.clone(), takes_bodies: true }),
        Location::Bucket(_) => None,
    };
    let ledger = match &config.database {
        Database::Embedded(of) => Some(Volume { name: "data", path: of.data_dir.clone(), takes_bodies: false }),
        Database::Url(_) => None,
    };
    store.into_iter().chain(ledger).collect()
}

/// Waits up to `STORE_TIMEOUT` for the store to respond, and logs periodically that it is waiting.
async fn in_time<T, E>(config: &Config, answer: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    let mut answer = Box::pin(answer);
    let began = Instant::now();
    while began.elapsed() < STORE_TIMEOUT {
        if let Ok(answer) = timeout(STORE_NOTICE, &mut answer).await {
            return Ok(answer?);
        }
        tracing::info!(store = %config.store, "waiting for the store, {} s so far", began.elapsed().as_secs());
    }
    Err(Error::StoreSilent { store: config.store.to_string() })
}

/// Serves until told to stop. The first line on standard output says where.
///
/// # Errors
/// When the service cannot begin, or ends by itself.
pub async fn serve(config: Config, database_url: &str, stop: CancellationToken) -> Result<(), Error> {
    tracing::info!(
        memory_mib = config.memory >> 20,
        buffers_mib = config.limits.buffer_bytes.get() >> 20,
        "memory limit, and the budget for buffers"
    );
    let service = open(&config, database_url).await?;
    let first_key = match config.api_key {
        Some(key) => {
            if !service.clone().ensure_key(key.0).await? {
                tracing::warn!(
                    "the configured API key (WINDLASS_API_KEY, WINDLASS_API_KEY_FILE) has been revoked and is not \
                     accepted"
                );
            }
            None
        }
        None => match service.clone().begin_first_key().await? {
            Some(first) => {
                keep_first_key(&config.data_dir, first.key())?;
                CrashPoint::FirstKeyKept.passed();
                let key = first.commit().await?;
                CrashPoint::FirstKeyCommitted.passed();
                Some(key)
            }
            None => None,
        },
    };
    let listen = |source| Error::Listen { address: config.listen.to_string(), source };
    let listener = config.listen.addresses().and_then(|it| bind(&it)).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    stdout::announce(format!("listening on http://{address}"));
    if let Some(key) = first_key {
        let path = config.data_dir.join("api-key");
        stdout::announce(format!("API key: {} (shown once; kept in {})", key.reveal(), path.display()));
    }
    let intervals = Intervals { sweep: config.sweep_interval, patience: config.shutdown_patience };
    let connections = descriptors::bound(&config.connections);
    run(service, listener, config.cors_origins, intervals, connections, stop).await
}

/// Listens on the first of these addresses that can be used.
fn bind(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addresses)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// How often [`run`] sweeps, and how long it lets open requests continue after it was told to stop.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// Between two sweeps.
    pub sweep: Duration,
    /// For open requests.
    pub patience: Duration,
}

/// Serves on a socket, sweeps, and probes the dependencies. When one of these ends by itself, the others are stopped.
///
/// # Errors
/// When that happened.
pub async fn run(
    service: Service,
    listener: TcpListener,
    cors_origins: Option<Origins>,
    intervals: Intervals,
    connections: ConnectionLimits,
    stop: CancellationToken,
) -> Result<(), Error> {
    let whoever_ends = stop.clone().drop_guard();
    let sweeper = tokio::spawn({
        let (service, stop) = (service.clone(), stop.clone());
        async move {
            let _ends = stop.clone().drop_guard();
            sweeper::run(service, intervals.sweep, stop).await;
        }
    });
    let prober = tokio::spawn({
        let (service, stop) = (service.clone(), stop.clone());
        async move {
            let _ends = stop.clone().drop_guard();
            service.keep_probing(stop).await;
        }
    });
    let served = http::serve(service.clone(), listener, cors_origins, stop, intervals.patience, connections).await;
    drop(whoever_ends);
    let ended = tokio::try_join!(sweeper, prober);
    if !service.settle(SETTLED_WITHIN).await {
        tracing::warn!("some work was broken off; the sweeper will find what is left of it");
    }
    served.map_err(Error::Ended)?;
    ended.map(drop).map_err(|error| Error::Ended(io::Error::other(error)))
}

/// Keeps the first key where only those can read it who started the service.
fn keep_first_key(data_dir: &Path, key: &ApiKey) -> Result<(), Error> {
    let path = data_dir.join("api-key");
    let write = || {
        fs::create_dir_all(data_dir)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", key.reveal())?;
        file.sync_all()
    };
    write().map_err(|source| Error::KeyFile { path: path.display().to_string(), source })
}
