//! Settings: [`Options`] as given by flags and environment variables, and [`Config`] as resolved from them. No other
//! module reads the environment.

#![expect(clippy::disallowed_methods, reason = "this is the only module that reads the environment")]
#![expect(clippy::doc_markdown, reason = "the settings' docs are the text of --help")]

mod audit;
mod commands;
mod connections;
mod contradictions;
mod environment;
mod in_force;
mod listen;
mod policies;
mod postgres_variables;
mod problems;
mod quotas;
mod secret_files;
mod traces;
mod typed_secrets;
mod unknown;
mod values;

use std::env;
use std::path::{self, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use secrecy::SecretString;
use windlass_engine::model::{ApiKey, Limits};
use windlass_engine::store::{Location, Variables};
use windlass_types::ByteCount;

pub use self::audit::AuditCommand;
use self::audit::AuditOptions;
pub use self::commands::{
    Command, CreateKey, Fsck, Health, KeyKind, KeysCommand, ProjectsCommand, SetKey, SetProject, SignedUrlsCommand,
    StoreCommand, UpgradePostgres, UsageCommand,
};
use self::connections::ConnectionOptions;
pub use self::in_force::InForce;
pub use self::listen::{Listen, NotAnAddress};
use self::policies::{JsonlCheckOption, MimePolicyOption};
pub use self::problems::{BadSetting, UnknownVariable, Unusable};
use self::quotas::QuotaOptions;
use self::traces::TraceOptions;
pub use self::traces::Traces;
use self::values::{MOST_BYTES, duration, positive_duration, size};
use crate::embedded;
use crate::http::ConnectionLimits;
use crate::http::{CorsOrigins, ProjectHeader, PublicUrl, RateLimits};
use crate::memory;

/// A self-hosted upload service: OpenAI's Uploads and Files API on your own Postgres and S3-compatible storage.
///
/// Without any settings, all data is stored in ./windlass-data: a private PostgreSQL instance, run by the installed
/// PostgreSQL programs, and a directory of objects. The first start creates an API key.
///
/// Each setting is a flag and an environment variable; the flag takes precedence. Keys and passwords are not accepted
/// on the command line, which every user of the machine can read; each can be in a file that is named by its variable
/// with the suffix _FILE. An empty variable counts as not set, and leading and trailing white space is ignored. Sizes are in bytes or have a unit: 64MiB, 64Mi (powers of 1024), 10GB, 512k
/// (powers of 1000). Durations have a unit: 500ms, 90s, 10m, 1h, 1d.
#[derive(Debug, Parser)]
#[command(name = "windlass", version)]
pub struct CommandLine {
    /// The command to run; defaults to `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub options: Options,
}

/// What this process was asked to do.
#[derive(Debug)]
pub struct Invocation {
    /// The command.
    pub command: Command,
    /// The settings.
    pub config: Config,
    /// The settings with the origin of each value, without secrets.
    pub in_force: Vec<InForce>,
    /// Environment variables that look like settings but are not.
    pub unknown: Vec<UnknownVariable>,
}

impl Invocation {
    /// Parses this process's command line and environment.
    ///
    /// # Errors
    /// If anything is invalid, or if help or the version was requested.
    pub fn read() -> Result<Self, Unusable> {
        environment::read(env::args_os(), env::vars_os())
    }
}

/// The lower bound of `--buffer-bytes` and of its default.
const LEAST_BUFFER_BYTES: u64 = 16 * 1024 * 1024;

/// The settings as given by the user. Each is a flag and an environment variable.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct Options {
    /// The database: postgres://user:password@host:5432/name. If not set, a private PostgreSQL is run in the data
    /// directory. The flag takes no password: set DATABASE_URL, or use a password file (PGPASSFILE).
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_parser = values::database_url)]
    database_url: Option<String>,
    /// A file with the URL of the database, such as a container secret, instead of DATABASE_URL.
    #[arg(long, global = true, env = "DATABASE_URL_FILE")]
    database_url_file: Option<PathBuf>,
    /// The maximum number of database connections; half of them are reserved for transactions.
    #[arg(long, global = true, env = "WINDLASS_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    database_connections: u32,
    /// Directory of the programs of the private PostgreSQL (`initdb`, `postgres`). If not set, the newest installed
    /// version is used.
    #[arg(long, global = true, env = "WINDLASS_PG_BIN")]
    pg_bin: Option<PathBuf>,
    /// The address to listen on: an IP address or host name with a port, such as `0.0.0.0:8080`, `[::1]:8080` or
    /// `localhost:8080` (the first of the name's addresses that can be bound is used); `:8080` for every interface;
    /// `8080` for `127.0.0.1:8080`. Port 0 picks a free port.
    #[arg(long, global = true, env = "WINDLASS_LISTEN", default_value = "127.0.0.1:8080")]
    listen: Listen,
    /// Directory for all data that is not stored elsewhere.
    #[arg(long, global = true, env = "WINDLASS_DATA_DIR", default_value = "./windlass-data")]
    data_dir: PathBuf,
    /// Where file contents are stored: file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.
    /// Credentials and endpoint are taken from the provider's usual variables, such as `AWS_ACCESS_KEY_ID` and
    /// `AWS_ENDPOINT_URL`. If no location is set, file contents are stored in the data directory.
    #[arg(long, global = true, env = "WINDLASS_STORE")]
    store: Option<Location>,
    /// An API key of the project `default`, created if it does not exist.
    #[arg(long, global = true, hide = true, env = "WINDLASS_API_KEY", hide_env_values = true, value_parser = values::api_key)]
    api_key: Option<ApiKey>,
    /// A file with an API key of the project `default`, created if it does not exist: 16 to 512 printable ASCII
    /// characters. The key itself can be set in the variable WINDLASS_API_KEY instead, which has no flag. If neither is
    /// set, the first start generates a key, saves it to the file `api-key` in the data directory, and prints it once
    /// if standard output is a terminal.
    #[arg(long, global = true, env = "WINDLASS_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// How long an upload accepts parts and can be completed.
    #[arg(long, global = true, env = "WINDLASS_UPLOAD_LIFETIME", default_value = "1h", value_parser = positive_duration)]
    upload_lifetime: Duration,
    /// The interval between sweeps for expired data.
    #[arg(long, global = true, env = "WINDLASS_SWEEP_INTERVAL", default_value = "30s", value_parser = positive_duration)]
    sweep_interval: Duration,
    /// The maximum size of a part.
    #[arg(long, global = true, env = "WINDLASS_MAX_PART_BYTES", default_value_t = Limits::default().part_bytes, value_parser = size(1..=MOST_BYTES))]
    max_part_bytes: ByteCount,
    /// The maximum size of a part that is stored in the database instead of the store: up to 65536, or 0 to disable
    /// this. It saves a store request and a sync per part. Raise it if the store is a bucket with a high latency for
    /// small objects; the database and its backups grow accordingly.
    #[arg(long, global = true, env = "WINDLASS_LEDGER_PART_BYTES", default_value_t = Limits::default().ledger_part_bytes, value_parser = size(0..=Limits::LEDGER_PART_BYTES))]
    ledger_part_bytes: ByteCount,
    /// The maximum size of an upload.
    #[arg(long, global = true, env = "WINDLASS_MAX_UPLOAD_BYTES", default_value_t = Limits::default().upload_bytes, value_parser = size(0..=MOST_BYTES))]
    max_upload_bytes: ByteCount,
    /// The maximum size of a file sent in a single request.
    #[arg(long, global = true, env = "WINDLASS_MAX_FILE_BYTES", default_value_t = Limits::default().file_bytes, value_parser = size(0..=MOST_BYTES))]
    max_file_bytes: ByteCount,
    /// The maximum size of a batch file sent in a single request.
    #[arg(long, global = true, env = "WINDLASS_MAX_BATCH_FILE_BYTES", default_value_t = Limits::default().batch_file_bytes, value_parser = size(0..=MOST_BYTES))]
    max_batch_file_bytes: ByteCount,
    /// The MIME types that an upload may declare.
    #[arg(long, global = true, env = "WINDLASS_MIME_POLICY", default_value = "contract")]
    mime_policy: MimePolicyOption,
    /// What is checked in files for `batch` and `fine-tune`, which are JSON lines. `lines` checks each line: of a file
    /// sent in a single request while it arrives, of an upload before it is completed.
    #[arg(long, global = true, env = "WINDLASS_JSONL_CHECK", default_value = "name")]
    jsonl_check: JsonlCheckOption,
    /// The origins whose web pages may use the API from a browser (CORS), separated by commas, such as
    /// `https://app.example.com,http://localhost:3000`; `null` for pages without an origin; `*` alone for every page. A
    /// page still needs a key. If not set, browsers allow only pages of the service's own origin to use it.
    #[arg(long, global = true, env = "WINDLASS_CORS_ORIGINS")]
    cors_origins: Option<CorsOrigins>,
    /// A header, besides OpenAI-Project, in which a request with a service key may name the project that it is for, such
    /// as `X-MaaS-Username`. A gateway that sets it must remove it from its clients' requests.
    #[arg(long, global = true, env = "WINDLASS_PROJECT_HEADER")]
    project_header: Option<ProjectHeader>,
    /// The address under which clients reach the service, such as `https://files.example.com`, for signed URLs. If not
    /// set, they have the address that the request for them was sent to.
    #[arg(long, global = true, env = "WINDLASS_PUBLIC_URL")]
    public_url: Option<PublicUrl>,
    /// The timeout of a database operation. After it, the database counts as unavailable and clients get 503.
    #[arg(long, global = true, env = "WINDLASS_LEDGER_PATIENCE", default_value = "30s", value_parser = positive_duration)]
    db_timeout: Duration,
    /// How long a new request may wait for its project's turn. One that would wait longer is refused at once, with 503
    /// and `retry-after`. Requests that continue an upload are served first. 10ms to 1h.
    #[arg(long, global = true, env = "WINDLASS_MAX_QUEUE_WAIT", default_value = "5s", value_parser = values::queue_wait)]
    max_queue_wait: Duration,
    /// How long unreferenced objects are kept for downloads in progress and for backups: a backup must not take longer
    /// than this from the start of the copy of the database to the end of the copy of the store.
    #[arg(long, global = true, env = "WINDLASS_DELETION_GRACE", default_value = "1h", value_parser = duration)]
    deletion_grace: Duration,
    /// How long the transfer of a request body may pause before it counts as stalled.
    #[arg(long, global = true, env = "WINDLASS_BODY_IDLE", default_value = "30s", value_parser = positive_duration)]
    body_idle: Duration,
    /// The maximum duration of the transfer of a request body.
    #[arg(long, global = true, env = "WINDLASS_BODY_DEADLINE", default_value = "1h", value_parser = positive_duration)]
    body_deadline: Duration,
    #[command(flatten)]
    connections: ConnectionOptions,
    #[command(flatten)]
    quotas: QuotaOptions,
    #[command(flatten)]
    audit: AuditOptions,
    /// The memory that the process may use while bodies are in transit; bodies that exceed it wait, then get 503.
    /// Responses that clients have not read yet may use up to a third as much in addition. If not set, 256 MiB or a
    /// quarter of the machine's or container's memory, whichever is less.
    #[arg(long, global = true, env = "WINDLASS_BUFFER_BYTES", value_parser = size(LEAST_BUFFER_BYTES..=MOST_BYTES))]
    buffer_bytes: Option<ByteCount>,
    /// How long the service keeps accepting connections after a shutdown is requested, while `/readyz` already returns
    /// 503. It should exceed the time that a load balancer needs to notice; on Kubernetes, set 5s to 10s.
    #[arg(long, global = true, env = "WINDLASS_SHUTDOWN_DELAY", default_value = "1s", value_parser = duration)]
    shutdown_delay: Duration,
    /// How long open requests may continue after that.
    #[arg(long, global = true, env = "WINDLASS_SHUTDOWN_PATIENCE", default_value = "60s", value_parser = duration)]
    shutdown_patience: Duration,
    /// The crash point to trigger.
    #[cfg(feature = "crash-points")]
    #[arg(long, global = true, hide = true, env = "WINDLASS_CRASH_AT")]
    crash_at: Option<windlass_engine::failpoints::CrashAt>,
    /// What to log to standard error: error, warn, info, debug, trace or off, also per module, such as
    /// info,windlass_engine::db=debug. Lines that cannot be written are dropped and counted.
    #[arg(long, global = true, env = "WINDLASS_LOG", default_value = "info", value_parser = values::log_filter)]
    log: String,
    /// The format of log lines.
    #[arg(long, global = true, env = "WINDLASS_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(flatten)]
    traces: TraceOptions,
    /// Environment variables for the store's client.
    #[arg(skip)]
    store_variables: Variables,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable.
    Text,
    /// Machine-readable: one JSON object per line.
    Json,
}

/// The resolved settings.
#[derive(Debug)]
pub struct Config {
    /// The limits on client connections. [`app::serve`](crate::app::serve) lowers `max` to what file descriptors allow.
    pub connections: ConnectionLimits,
    /// The location of the ledger.
    pub database: Database,
    /// The maximum number of connections to the database.
    pub database_connections: u32,
    /// CA certificates to trust for the database server if its URL contains none; from `SSL_CERT_FILE`.
    pub database_ca_file: Option<PathBuf>,
    /// The location of the objects.
    pub store: Location,
    /// Environment variables for the store's client.
    pub store_variables: Variables,
    /// The address to listen on.
    pub listen: Listen,
    /// The origins whose web pages may use the API from a browser; if not set, CORS is off.
    pub cors_origins: Option<CorsOrigins>,
    /// A header, besides `OpenAI-Project`, in which a service key's request may name the project.
    pub project_header: Option<ProjectHeader>,
    /// See [`http::Settings::public_url`](crate::http::Settings::public_url).
    pub public_url: Option<PublicUrl>,
    /// The rates of keys that have none of their own.
    pub rates: RateLimits,
    /// How many wrong keys an address may send per minute; `None` is unlimited.
    pub wrong_keys_per_minute: Option<u64>,
    /// The data directory, as an absolute path.
    pub data_dir: PathBuf,
    /// An API key to be created if it does not exist.
    pub api_key: Option<ApiKey>,
    /// The memory limit of this process and the embedded database together, in bytes.
    pub memory: u64,
    /// The limits of the engine.
    pub limits: Limits,
    /// The interval between sweeps.
    pub sweep_interval: Duration,
    /// How long the service is not ready, but accepts connections, after a shutdown is requested.
    pub shutdown_delay: Duration,
    /// How long open requests may continue after that.
    pub shutdown_patience: Duration,
    /// The log filter.
    pub log: String,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// Where traces are sent; `None` if there are none.
    pub traces: Option<Traces>,
}

/// The location of the ledger.
#[derive(Debug)]
pub enum Database {
    /// An external database.
    Url(SecretString),
    /// A private PostgreSQL run by this process.
    Embedded(embedded::Settings),
}

impl TryFrom<Options> for Config {
    type Error = std::io::Error;

    /// # Errors
    /// If the path of the data directory or of this executable cannot be determined.
    fn try_from(typed: Options) -> Result<Self, std::io::Error> {
        #[cfg(feature = "crash-points")]
        typed.crash_at.into_iter().for_each(windlass_engine::failpoints::arm);
        let data_dir = path::absolute(typed.data_dir)?;
        let memory = memory::limit();
        let database = if let Some(url) = typed.database_url {
            Database::Url(url.into())
        } else {
            let (path, guard) = (env::var_os("PATH").unwrap_or_default(), own_program()?);
            let (data_dir, bin_dir, connections) = (data_dir.clone(), typed.pg_bin, typed.database_connections);
            Database::Embedded(embedded::Settings { data_dir, bin_dir, path, guard, connections, memory })
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
            body_deadline: typed.body_deadline,
            min_rate: typed.connections.min_rate,
            db_timeout: typed.db_timeout,
            max_queue_wait: typed.max_queue_wait,
            deletion_grace: typed.deletion_grace,
            mime_policy: typed.mime_policy.into(),
            jsonl_check: typed.jsonl_check.into(),
            project: typed.quotas.project_limits(),
            file_expiry: typed.quotas.file_expiry(),
            audit_retention: typed.audit.retention(),
            ..Limits::default()
        };
        let connections = typed.connections.limits(limits.buffer_bytes);
        Ok(Self {
            connections,
            database,
            database_connections: typed.database_connections,
            database_ca_file: env::var_os("SSL_CERT_FILE").filter(|it| !it.is_empty()).map(PathBuf::from),
            store: typed.store.unwrap_or_else(|| Location::Directory(data_dir.join("objects"))),
            store_variables: typed.store_variables,
            listen: typed.listen,
            cors_origins: typed.cors_origins,
            project_header: typed.project_header,
            public_url: typed.public_url,
            rates: typed.quotas.rates(),
            wrong_keys_per_minute: typed.quotas.wrong_keys_per_minute(),
            data_dir,
            api_key: typed.api_key,
            memory,
            limits,
            sweep_interval: typed.sweep_interval,
            shutdown_delay: typed.shutdown_delay,
            shutdown_patience: typed.shutdown_patience,
            log: typed.log,
            log_format: typed.log_format,
            traces: typed.traces.traces(),
        })
    }
}

/// The default of `--buffer-bytes`, given the memory limit.
fn buffer_bytes_within(memory: u64) -> ByteCount {
    let most = Limits::default().buffer_bytes;
    ByteCount::try_from((memory / 4).max(LEAST_BUFFER_BYTES)).map_or(most, |it| it.min(most))
}

/// The path of this executable; on Linux, it remains valid if the file is replaced.
fn own_program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { env::current_exe() }
}

#[cfg(test)]
mod tests;
