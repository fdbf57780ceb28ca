//! The settings: as they are typed (flags, environment), and as they are meant. Nothing else reads
//! the environment.

#![expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
#![expect(clippy::doc_markdown, reason = "the settings' docs are the text of --help")]

mod environment;
mod listen;
mod values;

use std::env;
use std::path::{self, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::environment::{BadSetting, UnknownVariable, Unusable};
pub use self::listen::{Listen, NotAnAddress};
use self::values::{MOST_BYTES, duration, positive_duration, size};
use crate::blobs::{Location, Variables};
use crate::domain::{ApiKey, ByteCount, KeyId, Limits, MimePolicy};
use crate::embedded;
use crate::memory;

/// The upload service that you run yourself: OpenAI's Uploads and Files API on your own Postgres and
/// S3-compatible storage.
///
/// With no setting at all it keeps everything below ./windlass-data: a private PostgreSQL, started
/// from the one that is installed, and a directory of objects. The first start prints an API key.
///
/// Each setting is a flag and an environment variable; the flag goes first. An empty variable is not set, and white
/// space around a value is left out. Sizes are numbers of bytes, or have a unit: 64MiB, 64Mi (powers of 1024), 10GB,
/// 512k (powers of 1000). Durations have a unit: 500ms, 90s, 10m, 1h, 1d.
#[derive(Debug, Parser)]
#[command(name = "windlass", version)]
pub struct CommandLine {
    /// What to do; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub options: Options,
    /// What the environment has that looks like a setting, and is none.
    #[arg(skip)]
    pub unknown: Vec<UnknownVariable>,
}

impl CommandLine {
    /// Reads this process's command line and environment.
    ///
    /// # Errors
    /// When they cannot be used, or ask for the manual or the version.
    pub fn read() -> Result<Self, Unusable> {
        environment::read(env::args_os(), env::vars_os())
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API, and sweep every so often (this is the default).
    Serve,
    /// Bring the database's schema up to date, and end.
    Migrate,
    /// Expire and collect all that is due now, print what was done, and end.
    Sweep,
    /// Hold the ledger and the store against each other, say what does not fit, and end.
    ///
    /// The exit status is 0 if everything fits (or was repaired), 3 if not, 4 if everything fits that the
    /// store lets us look at (it does not list half-done multipart uploads), and 1 if it could not be found
    /// out.
    Fsck(Fsck),
    /// Move the private PostgreSQL's data to the newest version that is installed, and end.
    ///
    /// Nothing else may use the data directory meanwhile, and its disk needs space for the data once more. What the
    /// old version held is kept beside, as `postgres.` and its version, until you delete it.
    UpgradePostgres(UpgradePostgres),
    /// Print the OpenAPI document, and end.
    Openapi,
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show whether the database and the store belong together, and link them after a restore.
    #[command(subcommand)]
    Store(StoreCommand),
}

/// How to look.
#[derive(Debug, Args)]
pub struct Fsck {
    /// Read every part and hold its checksum against the ledger's.
    #[arg(long)]
    pub deep: bool,
    /// Delete objects and half-done multipart uploads that no row names. Without this nothing is changed.
    #[arg(long)]
    pub repair: bool,
    /// Delete only what is at least so old.
    #[arg(long, default_value = "1d", value_parser = duration)]
    pub older_than: Duration,
    /// Repair nothing if more than this share of the store would be deleted, in percent of its objects or of their
    /// bytes: a wrong or an old database knows little of what is there.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=100))]
    pub max_deleted_share: u8,
}

/// What to do with the link between the database and the store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Show what the database and the store hold of each other.
    Show,
    /// Link the database and the store under a new identity, so that they are used with each other from now on.
    ///
    /// Needed after a restore of one of them without the other, or after the store was moved without the object
    /// `windlass-store.json`. A copy of the database that was left behind does not fit the store any more.
    Link {
        /// Link them. Without this, only what would be linked is shown.
        #[arg(long)]
        yes: bool,
    },
}

/// How to upgrade.
#[derive(Debug, Args)]
pub struct UpgradePostgres {
    /// Where the programs of the version are that made the data; they are searched for if this is not set.
    #[arg(long)]
    pub from: Option<PathBuf>,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it; it is never shown again.
    Create {
        /// The project it opens; made if it is new.
        #[arg(long, default_value = "default", value_parser = values::project_name)]
        project: String,
        /// What to call the key in lists.
        #[arg(long, default_value = "unnamed")]
        name: String,
    },
    /// List the keys, without their secrets.
    List,
    /// Take a key out of use at once.
    Revoke {
        /// Its id, as `keys list` shows it.
        id: KeyId,
    },
}

/// What the buffers of bodies take at least.
const LEAST_BUFFER_BYTES: u64 = 16 * 1024 * 1024;

/// The settings as they are typed. Each is a flag and an environment variable.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct Options {
    /// The database: postgres://user:password@host:5432/name. Without it, a private PostgreSQL is run
    /// in the data directory.
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_parser = values::database_url)]
    database_url: Option<String>,
    /// The most connections to the database: half of them are for transactions.
    #[arg(long, global = true, env = "WINDLASS_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    database_connections: u32,
    /// Where the private PostgreSQL's programs are (`initdb`, `postgres`); they are searched for if
    /// this is not set.
    #[arg(long, global = true, env = "WINDLASS_PG_BIN")]
    pg_bin: Option<PathBuf>,
    /// Where to listen: an address or a name with a port, such as `0.0.0.0:8080`, `[::1]:8080` or `localhost:8080`, where
    /// the first of the name's addresses that can be had is used; `:8080` for every interface; `8080` for `127.0.0.1:8080`.
    /// Port 0 picks a free one.
    #[arg(long, global = true, env = "WINDLASS_LISTEN", default_value = "127.0.0.1:8080")]
    listen: Listen,
    /// Where everything is kept that is not kept elsewhere.
    #[arg(long, global = true, env = "WINDLASS_DATA_DIR", default_value = "./windlass-data")]
    data_dir: PathBuf,
    /// Where the bytes are kept: file:///path, s3://bucket/prefix, gs://bucket/prefix or
    /// az://container/prefix. Credentials and endpoint come from the store's usual variables, such as
    /// `AWS_ACCESS_KEY_ID` and `AWS_ENDPOINT_URL`. Without it, they are kept in the data directory.
    #[arg(long, global = true, env = "WINDLASS_STORE")]
    store: Option<Location>,
    /// An API key of the project `default` that shall exist. Without it, the first start makes one,
    /// prints it once, and keeps it in the file `api-key` of the data directory.
    #[arg(long, global = true, env = "WINDLASS_API_KEY", hide_env_values = true, value_parser = values::api_key)]
    api_key: Option<HiddenKey>,
    /// How long an upload can be added to and completed.
    #[arg(long, global = true, env = "WINDLASS_UPLOAD_LIFETIME", default_value = "1h", value_parser = positive_duration)]
    upload_lifetime: Duration,
    /// How often to look for what has expired.
    #[arg(long, global = true, env = "WINDLASS_SWEEP_INTERVAL", default_value = "30s", value_parser = positive_duration)]
    sweep_interval: Duration,
    /// The most bytes of one part.
    #[arg(long, global = true, env = "WINDLASS_MAX_PART_BYTES", default_value_t = Limits::default().part_bytes, value_parser = size(1..=MOST_BYTES))]
    max_part_bytes: ByteCount,
    /// The most bytes of a part that is kept in the database instead of the store: up to 65536, or 0 for none. It
    /// saves a request to the store, and a sync. Raise it where the store is a bucket that takes long over small
    /// objects; the database, and its backups, grow by what it holds.
    #[arg(long, global = true, env = "WINDLASS_LEDGER_PART_BYTES", default_value_t = Limits::default().ledger_part_bytes, value_parser = size(0..=Limits::LEDGER_PART_BYTES))]
    ledger_part_bytes: ByteCount,
    /// The most bytes of one upload.
    #[arg(long, global = true, env = "WINDLASS_MAX_UPLOAD_BYTES", default_value_t = Limits::default().upload_bytes, value_parser = size(0..=MOST_BYTES))]
    max_upload_bytes: ByteCount,
    /// The most bytes of a file sent in one request.
    #[arg(long, global = true, env = "WINDLASS_MAX_FILE_BYTES", default_value_t = Limits::default().file_bytes, value_parser = size(0..=MOST_BYTES))]
    max_file_bytes: ByteCount,
    /// The most bytes of a batch file sent in one request.
    #[arg(long, global = true, env = "WINDLASS_MAX_BATCH_FILE_BYTES", default_value_t = Limits::default().batch_file_bytes, value_parser = size(0..=MOST_BYTES))]
    max_batch_file_bytes: ByteCount,
    /// Which MIME types an upload may declare.
    #[arg(long, global = true, env = "WINDLASS_MIME_POLICY", default_value = "contract")]
    mime_policy: MimePolicyOption,
    /// How long the database may take over anything before it counts as away, and clients get 503.
    #[arg(long, global = true, env = "WINDLASS_LEDGER_PATIENCE", default_value = "30s", value_parser = positive_duration)]
    ledger_patience: Duration,
    /// How long stored bytes that nobody wants any more are kept: for those who are reading them, and for
    /// backups, which must not take longer between the copy of the database and the end of the store's.
    #[arg(long, global = true, env = "WINDLASS_DELETION_GRACE", default_value = "1h", value_parser = duration)]
    deletion_grace: Duration,
    /// How long a body may pause before it counts as stalled.
    #[arg(long, global = true, env = "WINDLASS_BODY_IDLE", default_value = "30s", value_parser = positive_duration)]
    body_idle: Duration,
    /// The memory that the program may take while bodies are on their way; those that find none wait, then get 503. Answers
    /// that clients have not taken yet get up to a third as much besides. Without it, 256 MiB, or a quarter of the memory that the machine or the container has, if that is less.
    #[arg(long, global = true, env = "WINDLASS_BUFFER_BYTES", value_parser = size(LEAST_BUFFER_BYTES..=MOST_BYTES))]
    buffer_bytes: Option<ByteCount>,
    /// How long open requests may go on after the service was told to stop.
    #[arg(long, global = true, env = "WINDLASS_SHUTDOWN_PATIENCE", default_value = "60s", value_parser = duration)]
    shutdown_patience: Duration,
    /// The step at which to die.
    #[cfg(feature = "crash-points")]
    #[arg(long, global = true, hide = true, env = "WINDLASS_CRASH_AT")]
    crash_at: Option<crate::crash::CrashAt>,
    /// What to log to standard error: error, warn, info, debug, trace or off, also by module, such as
    /// info,windlass::db=debug. Lines that cannot be written are dropped and counted.
    #[arg(long, global = true, env = "WINDLASS_LOG", default_value = "info", value_parser = values::log_filter)]
    log: String,
    /// How to log it.
    #[arg(long, global = true, env = "WINDLASS_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MimePolicyOption {
    /// The types that the contract binds to the purposes `assistants` and `vision`.
    Contract,
    /// Every type for every purpose.
    Any,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: an object a line.
    Json,
}

/// The settings as they are meant.
#[derive(Debug)]
pub struct Config {
    /// Where the ledger is.
    pub database: Database,
    /// The most connections to it.
    pub database_connections: u32,
    /// CA certificates that its certificate may come from, besides the usual ones (`SSL_CERT_FILE`).
    pub database_ca_file: Option<PathBuf>,
    /// Where the objects are.
    pub store: Location,
    /// What the environment tells the client of a bucket.
    pub store_variables: Variables,
    /// Where to listen.
    pub listen: Listen,
    /// An absolute path.
    pub data_dir: PathBuf,
    /// A key that shall exist.
    pub api_key: Option<HiddenKey>,
    /// Bytes of memory that the program and the embedded database may use together.
    pub memory: u64,
    /// Every bound.
    pub limits: Limits,
    /// How often to sweep.
    pub sweep_interval: Duration,
    /// How long a stop may take.
    pub shutdown_patience: Duration,
    /// What to log.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
}

/// Where the ledger is.
#[derive(Debug)]
pub enum Database {
    /// In a database that is running.
    Url(String),
    /// In one that we run.
    Embedded(embedded::Settings),
}

/// A key that does not show itself in a debug print of the settings.
#[derive(Clone)]
pub struct HiddenKey(pub ApiKey);

/// Why the settings cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The working directory is gone.
    #[error("the data directory cannot be found")]
    DataDir(#[from] std::io::Error),
    /// The data directory's path cannot be a URL.
    #[error("the data directory's path cannot be used")]
    Path,
}

impl TryFrom<Options> for Config {
    type Error = Error;

    fn try_from(typed: Options) -> Result<Self, Error> {
        #[cfg(feature = "crash-points")]
        typed.crash_at.into_iter().for_each(crate::crash::arm);
        let data_dir = path::absolute(typed.data_dir)?;
        let memory = memory::limit();
        let database = match typed.database_url {
            Some(url) => Database::Url(url),
            None => Database::Embedded(embedded::Settings {
                data_dir: data_dir.clone(),
                bin_dir: typed.pg_bin,
                path: env::var_os("PATH").unwrap_or_default(),
                guard: own_program()?,
                connections: typed.database_connections,
                memory,
            }),
        };
        let limits = Limits {
            part_bytes: typed.max_part_bytes,
            ledger_part_bytes: typed.ledger_part_bytes,
            upload_bytes: typed.max_upload_bytes,
            file_bytes: typed.max_file_bytes,
            batch_file_bytes: typed.max_batch_file_bytes,
            buffer_bytes: typed.buffer_bytes.unwrap_or_else(|| buffer_bytes_within(memory)),
            upload_lifetime: typed.upload_lifetime,
            body_idle: typed.body_idle,
            ledger_patience: typed.ledger_patience,
            deletion_grace: typed.deletion_grace,
            mime_policy: match typed.mime_policy {
                MimePolicyOption::Contract => MimePolicy::Contract,
                MimePolicyOption::Any => MimePolicy::Any,
            },
            ..Limits::default()
        };
        Ok(Self {
            database,
            database_connections: typed.database_connections,
            database_ca_file: env::var_os("SSL_CERT_FILE").filter(|it| !it.is_empty()).map(PathBuf::from),
            store: typed.store.unwrap_or_else(|| Location::Directory(data_dir.join("objects"))),
            store_variables: Variables::new(env::vars_os()),
            listen: typed.listen,
            data_dir,
            api_key: typed.api_key,
            memory,
            limits,
            sweep_interval: typed.sweep_interval,
            shutdown_patience: typed.shutdown_patience,
            log: typed.log,
            log_format: typed.log_format,
        })
    }
}

impl std::fmt::Debug for HiddenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HiddenKey(…)")
    }
}

/// What the buffers of bodies take where nothing is set, of so much memory.
fn buffer_bytes_within(memory: u64) -> ByteCount {
    let most = Limits::default().buffer_bytes;
    ByteCount::try_from((memory / 4).max(LEAST_BUFFER_BYTES)).map_or(most, |it| it.min(most))
}

/// This program, even when its file was replaced by a newer one meanwhile.
fn own_program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { env::current_exe() }
}

#[cfg(test)]
mod tests;
