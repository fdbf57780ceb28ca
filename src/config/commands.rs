//! The commands of the command line and their options.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use windlass_engine::model::{LimitSetting, ProjectPattern, PurposeLifetimes, Scope};
use windlass_types::{KeyId, ProjectName};

use super::AuditCommand;
use super::values::{self, MOST_BYTES, count, duration, limit, size};

/// The command to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API and sweep periodically (the default).
    Serve,
    /// Bring the database schema up to date, then exit.
    Migrate,
    /// Expire and collect everything that is due now, print a summary, then exit.
    Sweep,
    /// Check the ledger and the store against each other, report inconsistencies, then exit.
    ///
    /// The exit status is 0 if everything is consistent (or was repaired), 3 if not, 4 if everything that can be
    /// checked is consistent but the store does not list incomplete multipart uploads, and 1 if the check failed.
    Fsck(Fsck),
    /// Migrate the private PostgreSQL's data to the newest installed version, then exit.
    ///
    /// Nothing else may use the data directory in the meantime, and its disk needs room for a second copy of the data.
    /// The old version's data is kept next to it as `postgres.` plus the version, until you delete it.
    UpgradePostgres(UpgradePostgres),
    /// Print the OpenAPI document, then exit.
    Openapi,
    /// Check the service that runs with the same settings, then exit.
    ///
    /// The exit status is 0 if the service on the address WINDLASS_LISTEN responds (GET /livez), otherwise 1.
    Health(Health),
    /// Check all settings, print those in force and where each value comes from, then exit. Secrets are hidden.
    ///
    /// Changes nothing, and connects to nothing. The exit status is 2 if a setting is invalid.
    Config {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Export the audit trail, oldest events first: who did what, when and from where.
    Audit(AuditCommand),
    /// Show what projects use, and their limits.
    Usage(UsageCommand),
    /// Create, change, list and revoke API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Create, change and list projects.
    #[command(subcommand)]
    Projects(ProjectsCommand),
    /// Manage signed URLs.
    #[command(subcommand)]
    SignedUrls(SignedUrlsCommand),
    /// Show whether the database and the store belong together, and relink them after a restore.
    #[command(subcommand)]
    Store(StoreCommand),
}

impl Command {
    /// Whether the command uses the store, or reports its settings.
    pub fn uses_store(&self) -> bool {
        match self {
            Self::Serve | Self::Sweep | Self::Fsck(_) | Self::Store(_) | Self::Config { .. } => true,
            Self::Migrate
            | Self::UpgradePostgres(_)
            | Self::Openapi
            | Self::Health(_)
            | Self::Audit(_)
            | Self::Usage(_)
            | Self::Keys(_)
            | Self::Projects(_)
            | Self::SignedUrls(_) => false,
        }
    }
}

/// Options of `fsck`.
#[derive(Debug, Args)]
pub struct Fsck {
    /// Read every part and verify its checksum against the ledger.
    #[arg(long)]
    pub deep: bool,
    /// Delete objects and incomplete multipart uploads that no row refers to. Without this, nothing is changed.
    #[arg(long)]
    pub repair: bool,
    /// Delete only objects and multipart uploads of at least this age.
    #[arg(long, default_value = "1d", value_parser = duration)]
    pub older_than: Duration,
    /// Skip the repair if it would delete more than this share of the store, in percent of its objects or of its bytes:
    /// a wrong or outdated database does not contain most of the objects.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=100))]
    pub max_deleted_share: u8,
}

/// Options of `health`.
#[derive(Debug, Args)]
pub struct Health {
    /// Also check that the service can use its database and its store (GET /readyz).
    #[arg(long)]
    pub ready: bool,
}

/// Commands for the link between the database and the store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Show the identities in the database and in the store, and how many sampled objects of each exist in the other.
    Show,
    /// Link the database and the store under a new identity, so that they can be used together from now on.
    ///
    /// Needed after only one of them was restored, or after the store was moved without the object
    /// `windlass-store.json`. Any other copy of the database then no longer matches the store.
    Link {
        /// Link them. Without this, nothing is changed.
        #[arg(long)]
        yes: bool,
    },
}

/// Options of `upgrade-postgres`.
#[derive(Debug, Args)]
pub struct UpgradePostgres {
    /// Directory of the programs of the version that created the data. If not set, they are searched for.
    #[arg(long)]
    pub from: Option<PathBuf>,
}

/// Commands for signed URLs.
#[derive(Debug, Subcommand)]
pub enum SignedUrlsCommand {
    /// Replace the secret that signs URLs. URLs that exist stay valid until they expire.
    RotateSecret {
        /// Make all URLs that exist void, within seconds.
        #[arg(long)]
        void_existing: bool,
    },
}

/// Commands for API keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key and print it; it is never shown again.
    Create(CreateKey),
    /// Change the rates of a key. A running service may apply the previous ones for a few more seconds.
    Set(SetKey),
    /// List the keys, without their secrets.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key. A running service may accept it for a few more seconds.
    Revoke {
        /// The key's id, as shown by `keys list`.
        id: KeyId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Options of `keys create`.
#[derive(Debug, Args)]
pub struct CreateKey {
    /// What the key acts for: one project, or, as a service, the project that each request names in the header
    /// OpenAI-Project (or in WINDLASS_PROJECT_HEADER). A service key may also create files of the output purposes.
    #[arg(long, value_enum, default_value_t = KeyKind::Project)]
    pub kind: KeyKind,
    /// The project of a project key; created if it does not exist.
    #[arg(long, default_value = "default", conflicts_with_all = ["acts_for", "creates_projects"])]
    pub project: ProjectName,
    /// The names of the projects that a service key may act for, separated by commas; `*` stands for any characters.
    #[arg(long, value_delimiter = ',', required_if_eq("kind", "service"))]
    pub acts_for: Vec<ProjectPattern>,
    /// Let a service key create projects that it may act for.
    #[arg(long, requires = "acts_for")]
    pub creates_projects: bool,
    /// The name of the key in listings.
    #[arg(long, default_value = "unnamed", value_parser = values::key_name)]
    pub name: String,
    /// The time after which the key expires, such as `90d`; never, if not set.
    #[arg(long, value_parser = values::positive_duration)]
    pub expires_in: Option<Duration>,
    /// What the key may do: `read`, `write` or both, separated by commas. `read` is to retrieve, list and download.
    #[arg(long, value_delimiter = ',', default_value = "read,write")]
    pub scope: Vec<Scope>,
    /// The maximum number of requests per second, in each process: a number, `unlimited`, or `default` for that of the
    /// settings.
    #[arg(long, default_value_t = LimitSetting::Default, value_parser = limit(count(1)))]
    pub max_requests_per_second: LimitSetting,
    /// The maximum number of bytes per second that its requests may send and receive, in each process.
    #[arg(long, default_value_t = LimitSetting::Default, value_parser = limit(size(1..=MOST_BYTES)))]
    pub max_bytes_per_second: LimitSetting,
    /// Print JSON, including the key.
    #[arg(long)]
    pub json: bool,
}

/// Options of `keys set`.
#[derive(Debug, Args)]
#[group(id = "key_changes")]
#[command(group = ArgGroup::new("rates").args(["requests", "bytes"]).required(true).multiple(true))]
pub struct SetKey {
    /// The key's id, as shown by `keys list`.
    pub id: KeyId,
    /// The maximum number of requests per second, in each process: a number, `unlimited`, or `default` for that of the
    /// settings.
    #[arg(id = "requests", long = "max-requests-per-second", value_parser = limit(count(1)))]
    pub requests: Option<LimitSetting>,
    /// The maximum number of bytes per second that its requests may send and receive, in each process.
    #[arg(id = "bytes", long = "max-bytes-per-second", value_parser = limit(size(1..=MOST_BYTES)))]
    pub bytes: Option<LimitSetting>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `projects set`.
#[derive(Debug, Args)]
#[group(id = "project_changes")]
#[command(group = ArgGroup::new("limits")
    .args(["bytes", "pending_uploads", "files", "lifetimes", "longest_lifetimes"]).required(true).multiple(true))]
pub struct SetProject {
    /// The project's name.
    pub name: ProjectName,
    /// The maximum size of its files and pending uploads together: a size, `unlimited`, or `default` for that of the
    /// settings.
    #[arg(id = "bytes", long = "max-bytes", value_parser = limit(size(0..=MOST_BYTES)))]
    pub bytes: Option<LimitSetting>,
    /// The maximum number of its pending uploads.
    #[arg(id = "pending_uploads", long = "max-pending-uploads", value_parser = limit(count(0)))]
    pub pending_uploads: Option<LimitSetting>,
    /// The maximum number of its files and pending uploads together.
    #[arg(id = "files", long = "max-files", value_parser = limit(count(0)))]
    pub files: Option<LimitSetting>,
    /// How long its files live that are created without `expires_after`, by purpose: `batch=7d,*=30d`. They take
    /// precedence over the settings; an empty text removes them.
    #[arg(id = "lifetimes", long = "file-lifetimes")]
    pub lifetimes: Option<PurposeLifetimes>,
    /// The longest lifetime of its files, by purpose.
    #[arg(id = "longest_lifetimes", long = "max-file-lifetimes")]
    pub longest_lifetimes: Option<PurposeLifetimes>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `usage`.
#[derive(Debug, Args)]
pub struct UsageCommand {
    /// Show only this project.
    #[arg(long)]
    pub project: Option<ProjectName>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    /// It acts for one project.
    Project,
    /// It acts for several projects.
    Service,
}

/// Commands for projects.
#[derive(Debug, Subcommand)]
pub enum ProjectsCommand {
    /// Create a project, unless it exists.
    Create {
        /// Its name.
        name: ProjectName,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change the limits of a project, and how long its files live.
    Set(SetProject),
    /// List the projects.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
