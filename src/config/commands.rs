//! The commands of the program.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::{self, duration};
use crate::domain::KeyId;

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
    /// Create, list and revoke API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show whether the database and the store belong together, and relink them after a restore.
    #[command(subcommand)]
    Store(StoreCommand),
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
    /// a wrong or outdated database does not list most of the objects.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=100))]
    pub max_deleted_share: u8,
}

/// Commands for the link between the database and the store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Show the identities recorded on both sides, and how many of a sample of each side's objects the other side has.
    Show,
    /// Link the database and the store under a new identity, so that they can be used together from now on.
    ///
    /// Needed after only one of them was restored, or after the store was moved without the object
    /// `windlass-store.json`. A copy of the database that was left behind no longer matches the store.
    Link {
        /// Link them. Without this, only show what would be linked.
        #[arg(long)]
        yes: bool,
    },
}

/// Options of `upgrade-postgres`.
#[derive(Debug, Args)]
pub struct UpgradePostgres {
    /// Directory of the programs of the version that created the data; searched for if not set.
    #[arg(long)]
    pub from: Option<PathBuf>,
}

/// Commands for API keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key and print it; it is never shown again.
    Create {
        /// The project that the key gives access to; created if it does not exist.
        #[arg(long, default_value = "default", value_parser = values::project_name)]
        project: String,
        /// The name of the key in listings.
        #[arg(long, default_value = "unnamed", value_parser = values::key_name)]
        name: String,
    },
    /// List the keys, without their secrets.
    List,
    /// Revoke a key immediately.
    Revoke {
        /// The key's id, as shown by `keys list`.
        id: KeyId,
    },
}
