//! Opens the database and the store and runs the service, for `main` and for the tests.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use windlass_engine::db::{self, Db, stores};
use windlass_engine::failpoints::CrashPoint;
use windlass_engine::model::ApiKey;
use windlass_engine::store::{self, BlobStore, IfMissing, Location};
use windlass_engine::{self as engine, Service, Volume};

use crate::config::{Config, Database};
use crate::descriptors;
use crate::http::{self, ConnectionLimits};
use crate::listener;
use crate::telemetry::stdout;

/// How long to wait for a database that is still starting.
const DATABASE_START_TIMEOUT: Duration = Duration::from_mins(1);

/// Timeout for opening a store and for linking it.
const STORE_TIMEOUT: Duration = Duration::from_mins(1);

/// Interval of the log lines while the store does not respond.
const STORE_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// How long to wait for running operations after the HTTP server has stopped.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the service could not start, or why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not be opened or migrated.
    #[error("the database cannot be used")]
    Db(#[from] db::Error),
    /// The store could not be opened.
    #[error("the store cannot be used")]
    BlobStore(#[from] store::Error),
    /// The store did not respond within the timeout.
    #[error("the store {store} did not respond within {} s; check its address and network", STORE_TIMEOUT.as_secs())]
    StoreSilent {
        /// Location of the store.
        store: String,
    },
    /// An operation of the engine failed.
    #[error(transparent)]
    Service(#[from] engine::Error),
    /// The listener could not be created.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address to listen on.
        address: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file with the first API key could not be written.
    #[error("the first API key cannot be written to {path}")]
    KeyFile {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The HTTP server failed, or a background task panicked.
    #[error("the service stopped unexpectedly")]
    Ended(#[source] io::Error),
}

/// Opens the ledger and migrates its schema.
///
/// # Errors
/// When the database is unreachable or cannot be migrated.
pub async fn open_db(config: &Config, url: &SecretString, connections: u32) -> Result<Db, Error> {
    let server =
        db::Server { url: url.clone(), patience: config.limits.db_timeout, ca_file: config.database_ca_file.clone() };
    let db = Db::connect(server, connections, DATABASE_START_TIMEOUT).await?;
    db::migrate::run(&db).await?;
    Ok(db)
}

/// Opens the ledger and the store, and links them, or verifies that they are linked to each other.
///
/// # Errors
/// When one of them cannot be used, or they do not belong together.
pub async fn open(config: &Config, database_url: &SecretString) -> Result<Service, Error> {
    let db = open_db(config, database_url, config.database_connections).await?;
    let is_linked = stores::find(&db).await?.is_some_and(|it| it.linked_at.is_some());
    let if_missing = if is_linked { IfMissing::Fail } else { IfMissing::Make };
    let service = with_store(config, db, if_missing).await?;
    wait_for_store(config, service.verify_or_link_store()).await?;
    Ok(service)
}

/// Opens the ledger and the store, without checking that they belong together.
///
/// # Errors
/// When one of them cannot be used.
pub async fn open_unlinked(
    config: &Config,
    database_url: &SecretString,
    if_missing: IfMissing,
) -> Result<Service, Error> {
    with_store(config, open_db(config, database_url, config.database_connections).await?, if_missing).await
}

async fn with_store(config: &Config, db: Db, if_missing: IfMissing) -> Result<Service, Error> {
    let opened = BlobStore::open(&config.store, &config.store_variables, if_missing);
    let blobs = match &config.store {
        Location::Directory(_) => wait_for_store(config, opened).await?,
        // Opening a bucket has its own timeout and log lines.
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

/// Applies `STORE_TIMEOUT` to an operation on the store, and logs regularly while waiting for it.
async fn wait_for_store<T, E>(config: &Config, operation: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    let mut operation = Box::pin(operation);
    let began = Instant::now();
    while began.elapsed() < STORE_TIMEOUT {
        if let Ok(result) = timeout(STORE_LOG_INTERVAL, &mut operation).await {
            return Ok(result?);
        }
        tracing::info!(store = %config.store, waited_s = began.elapsed().as_secs(), "waiting for the store");
    }
    Err(Error::StoreSilent { store: config.store.to_string() })
}

/// Serves until `stop` is cancelled. The first line on standard output is the address.
///
/// # Errors
/// When the service cannot start, or stops unexpectedly.
pub async fn serve(config: Config, database_url: &SecretString, stop: CancellationToken) -> Result<(), Error> {
    tracing::info!(
        memory_mib = config.memory >> 20,
        buffers_mib = config.limits.buffer_bytes.get() >> 20,
        "memory limit and buffer budget"
    );
    let service = open(&config, database_url).await?;
    wait_for_store(&config, service.try_out_store()).await?;
    let first_key = match config.api_key {
        Some(key) => {
            if !service.clone().ensure_key(key).await? {
                tracing::warn!(
                    "the configured API key (WINDLASS_API_KEY, WINDLASS_API_KEY_FILE) has been revoked and is not \
                     accepted"
                );
            }
            None
        }
        None => match service.clone().begin_first_key().await? {
            Some(first) => {
                write_first_key(&config.data_dir, first.key())?;
                CrashPoint::FirstKeyKept.passed();
                let key = first.commit().await?;
                CrashPoint::FirstKeyCommitted.passed();
                Some(key)
            }
            None => None,
        },
    };
    let listen = |source| Error::Listen { address: config.listen.to_string(), source };
    let listener = config.listen.addresses().and_then(|it| listener::bind(&it)).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    stdout::announce(format!("listening on http://{address}"));
    if let Some(key) = first_key {
        let path = config.data_dir.join("api-key");
        let path = path.display();
        // If standard output is not a terminal, it may be a log that others can read.
        stdout::announce(if io::stdout().is_terminal() {
            format!("API key: {} (shown once; stored in {path})", key.reveal())
        } else {
            format!("API key: stored in {path}")
        });
    }
    let intervals =
        Intervals { sweep: config.sweep_interval, delay: config.shutdown_delay, patience: config.shutdown_patience };
    let connections = descriptors::bound(&config.connections);
    let Config { cors_origins, project_header, public_url, rates, wrong_keys_per_minute, .. } = config;
    let settings = http::Settings { cors_origins, project_header, public_url, rates, wrong_keys_per_minute };
    run(service, listener, settings, intervals, connections, stop).await
}

/// Sweep interval and shutdown timeouts of [`run`].
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// Time between two sweeps.
    pub sweep: Duration,
    /// How long the service is not ready, but accepts connections, after `stop` is cancelled.
    pub delay: Duration,
    /// How long open requests may continue after that.
    pub patience: Duration,
}

/// Runs the HTTP server and the background tasks. If one of them ends, the others are stopped.
///
/// # Errors
/// [`Error::Ended`] when the HTTP server failed, or one of the others panicked.
pub async fn run(
    service: Service,
    listener: TcpListener,
    settings: http::Settings,
    intervals: Intervals,
    connections: ConnectionLimits,
    stop: CancellationToken,
) -> Result<(), Error> {
    let closing = CancellationToken::new();
    let closing_guard = closing.clone().drop_guard();
    let same_listener = listener.try_clone().map_err(Error::Ended)?;
    let drained = drain(service.clone(), stop, intervals.delay, same_listener, closing.clone());
    tokio::spawn(closing.clone().run_until_cancelled_owned(drained));
    let background = tokio::spawn(service.clone().run_background_tasks(intervals.sweep, closing.clone()));
    let served = http::serve(service.clone(), listener, settings, closing, intervals.patience, connections).await;
    drop(closing_guard);
    let background = background.await.flatten();
    if !service.wait_for_tasks(SETTLE_TIMEOUT).await {
        tracing::warn!("some operations did not finish before the exit; the sweeper cleans up after them");
    }
    served.map_err(Error::Ended)?;
    background.map_err(|error| Error::Ended(io::Error::other(error)))
}

/// When `stop` is cancelled, makes the service not ready, and stops the server after `delay`: load balancers need some
/// time to notice, and a connection that they open meanwhile must not be refused.
async fn drain(
    service: Service,
    stop: CancellationToken,
    delay: Duration,
    listener: TcpListener,
    closing: CancellationToken,
) {
    stop.cancelled().await;
    service.begin_shutdown();
    sleep(delay).await;
    listener::close_without_resets(listener).await;
    closing.cancel();
}

/// Writes the first key to a file that only the user of this process can read.
fn write_first_key(data_dir: &Path, key: &ApiKey) -> Result<(), Error> {
    let path = data_dir.join("api-key");
    let write = || {
        fs::create_dir_all(data_dir)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", key.reveal())?;
        file.sync_all()
    };
    write().map_err(|source| Error::KeyFile { path: path.display().to_string(), source })
}
