//! Migrates the schema in one process at a time, while other processes use it, and checks that this program can use it.

use std::time::Duration;

use refinery_core::Migration;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::{Instant, sleep};

use super::compatibility::Effect;
use super::locks::{self, Lock};
use super::migrator::{self, Migrator};
use super::session::Session;
use super::{Db, Error, Result, Tx, errors, pool};
use crate::failpoints::CrashPoint;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// How long to wait for another process that is migrating, and then for the locks on tables.
const LOCK_TIMEOUT: Duration = Duration::from_mins(10);

/// The pause before a migration that could not lock a table is tried again: statements that have queued up behind it
/// run in the meantime.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Why the schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer version of the program has migrated the schema, and has removed something that this one uses.
    #[error(
        "the schema is at V{found}, which supports versions of windlass that know V{needed} or later, and this one knows \
         V{known}: run a newer version"
    )]
    Newer {
        /// The version of the schema.
        found: i32,
        /// The version that a program must know to use the schema.
        needed: i32,
        /// The latest version that this program knows.
        known: i32,
    },
    /// The schema's history belongs to another program, or was modified.
    #[error(
        "V{version} of the schema ('{name}') is not a migration of this version of windlass: is it the right database?"
    )]
    Different {
        /// The first migration that differs.
        version: i32,
        /// Its name in the schema.
        name: String,
    },
    /// The schema has to be migrated, but the role lacks the privileges.
    #[error(
        "the schema must be migrated to V{known}, but the database role lacks the privileges ({reason}): \
         run `windlass migrate` as the owner of the schema"
    )]
    MayNotMigrate {
        /// The version that this program needs.
        known: i32,
        /// The error message from Postgres.
        reason: String,
    },
    /// The database's encoding cannot represent every file name.
    #[error(
        "the database's encoding is {encoding}, which cannot store every file name: create a database with \
         `create database … encoding 'UTF8' template template0`"
    )]
    Encoding {
        /// The encoding, as named by Postgres.
        encoding: String,
    },
    /// The role lacks the privilege to read the schema's history.
    #[error("the database role of this process cannot read refinery_schema_history: grant it select on all tables")]
    Hidden(#[source] sqlx::Error),
}

/// Brings the schema up to date, in one process at a time. If it is already up to date, no lock is taken and nothing is
/// changed, so a role with privileges on rows is enough.
///
/// # Errors
/// If a migration fails (its transaction is rolled back), the schema does not match this program, another process
/// takes too long to migrate, or the database becomes unavailable.
pub async fn run(db: &Db) -> Result<()> {
    run_within(db, LOCK_TIMEOUT).await
}

/// Like [`run`], but waits at most `patience` for another process that is migrating.
pub async fn run_within(db: &Db, patience: Duration) -> Result<()> {
    if is_up_to_date(db).await? {
        return Ok(());
    }
    // A transaction-level lock on a separate connection: it is held across the migrations, which commit one by one.
    let mut lock = db.begin().await?;
    sqlx::query("set local idle_in_transaction_session_timeout = 0").execute(&mut lock).await?;
    locks::take(&mut lock, Lock::Migration, patience).await?;
    CrashPoint::MigrationLocked.passed();
    // Another process may have migrated in the meantime.
    if !is_up_to_date(db).await? {
        check_encoding(db).await?;
        migrate_with_retries(db, &mut lock, patience).await?;
    }
    super::rollback(lock).await
}

/// Migrates. Migrations wait for a table only briefly, since all statements on the table wait behind them: one that could
/// not lock it, such as during a `pg_dump`, is rolled back and tried again.
async fn migrate_with_retries(db: &Db, lock: &mut Tx, patience: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        let mut connection = pool::detached(&db.statements).await?;
        let migrated = migrate(&mut connection, &db.endpoint.session).await;
        connection.close().await.ok();
        let Err(error) = migrated else { return Ok(()) };
        if !is_locked(&error) {
            return Err(error);
        }
        let (holder, waited) = (locks::long_transactions(lock).await?, began.elapsed());
        if waited >= patience {
            return Err(Error::Locked { what: "table", holder, waited });
        }
        let seconds_left = patience.saturating_sub(waited).as_secs();
        tracing::info!(holder, seconds_left, "a migration waits for a table");
        sleep(RETRY_PAUSE).await;
    }
}

/// Whether a migration was rolled back because it could not lock a table (`lock_not_available`, `deadlock_detected`).
fn is_locked(error: &Error) -> bool {
    let Error::Migration(error) = error else { return false };
    matches!(migrator::code(error).as_deref(), Some("55P03" | "40P01"))
}

async fn check_encoding(db: &Db) -> Result<()> {
    let encoding: String = sqlx::query_scalar("select current_setting('server_encoding')").fetch_one(db).await?;
    if encoding == "UTF8" { Ok(()) } else { Err(SchemaError::Encoding { encoding }.into()) }
}

async fn migrate(connection: &mut PgConnection, session: &Session) -> Result<()> {
    let outcome = embedded::migrations::runner().run_async(&mut Migrator::new(connection, session)).await;
    // Those before one that failed have been committed.
    let report = outcome.as_ref().map_or_else(refinery::Error::report, Some);
    for migration in report.map(refinery::Report::applied_migrations).into_iter().flatten() {
        tracing::info!(%migration, "migrated");
    }
    outcome.map_err(refused)?;
    CrashPoint::Migrated.passed();
    Ok(())
}

/// Whether all migrations of this program have been applied.
///
/// # Errors
/// If the schema does not match this program.
async fn is_up_to_date(db: &Db) -> Result<bool> {
    let exists: bool =
        sqlx::query_scalar("select to_regclass('refinery_schema_history') is not null").fetch_one(db).await?;
    if !exists {
        return Ok(false);
    }
    let known = known();
    let (older, newer): (Vec<_>, Vec<_>) =
        history(db, 0).await?.into_iter().partition(|it| it.version <= latest(&known));
    check_newer(&newer, latest(&known))?;
    for Applied { version, name, checksum } in &older {
        let is_it =
            |it: &Migration| it.version() == *version && it.name() == name && it.checksum().to_string() == *checksum;
        if !known.iter().any(is_it) {
            return Err(SchemaError::Different { version: *version, name: name.clone() }.into());
        }
    }
    if let Some(last) = newer.last() {
        tracing::info!(schema = last.version, known = latest(&known), "the schema is newer, and supports this version");
    }
    Ok(older.len() == known.len())
}

/// Checks that a schema that other processes may have migrated since this one started still supports it.
///
/// # Errors
/// [`SchemaError::Newer`] if it does not, or if the history cannot be read.
pub async fn check_still_supported(db: &Db) -> Result<()> {
    let known = latest(&known());
    Ok(check_newer(&history(db, known).await?, known)?)
}

/// Checks that these migrations, in order, support programs that know migrations up to `known` only.
fn check_newer(newer: &[Applied], known: i32) -> Result<(), SchemaError> {
    let needed = newer.iter().map(|it| Effect::of(&it.name).oldest_program(it.version)).max().unwrap_or_default();
    match newer.last() {
        Some(last) if needed > known => Err(SchemaError::Newer { found: last.version, needed, known }),
        _ => Ok(()),
    }
}

/// A row of refinery's history table.
struct Applied {
    version: i32,
    name: String,
    checksum: String,
}

/// The applied migrations with a higher number, in order.
async fn history(db: &Db, after: i32) -> Result<Vec<Applied>> {
    let applied =
        sqlx::query("select version, name, checksum from refinery_schema_history where version > $1 order by version");
    let applied = applied.bind(after).fetch_all(db).await.map_err(|error| {
        let is_denied = errors::code(&error).is_some_and(|it| it == INSUFFICIENT_PRIVILEGE);
        if is_denied { SchemaError::Hidden(error).into() } else { Error::from(error) }
    })?;
    let read = |row: sqlx::postgres::PgRow| {
        Ok(Applied { version: row.try_get("version")?, name: row.try_get("name")?, checksum: row.try_get("checksum")? })
    };
    applied.into_iter().map(read).collect()
}

/// SQLSTATE `insufficient_privilege`.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

fn known() -> Vec<Migration> {
    let mut migrations = embedded::migrations::runner().get_migrations().clone();
    migrations.sort();
    migrations
}

fn latest(known: &[Migration]) -> i32 {
    known.iter().map(Migration::version).max().unwrap_or_default()
}

/// Converts an error from refinery; a lack of privileges becomes [`SchemaError::MayNotMigrate`].
fn refused(error: refinery::Error) -> Error {
    if migrator::code(&error).is_some_and(|it| it == INSUFFICIENT_PRIVILEGE) {
        return SchemaError::MayNotMigrate { known: latest(&known()), reason: migrator::reason(&error) }.into();
    }
    Error::Migration(Box::new(error))
}

/// The name and SQL of each migration, in order, for tests that stop between two of them.
pub fn all() -> Vec<(String, String)> {
    known().iter().map(|it| (it.name().to_owned(), it.sql().unwrap_or_default().to_owned())).collect()
}
