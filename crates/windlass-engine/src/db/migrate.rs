//! Migrates the schema: runs refinery's migrations over a sqlx connection, in one process at a time.

use std::error::Error as StdError;
use std::time::Duration;

use refinery_core::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::locks::{self, Lock};
use super::session::Session;
use super::{Db, Error, Result, errors, pool};
use crate::failpoints::CrashPoint;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// How long to wait for another process that is migrating.
const LOCK_TIMEOUT: Duration = Duration::from_mins(10);

/// Why the schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer version of the program has migrated the schema.
    #[error("the schema is at V{found}, but this version of windlass supports V{known} at most: run a newer version")]
    Newer {
        /// The version of the schema.
        found: i32,
        /// The latest version supported by this program.
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
        let mut connection = pool::detached(&db.statements).await?;
        let migrated = migrate(&mut connection, &db.endpoint.session).await;
        connection.close().await.ok();
        migrated?;
    }
    super::rollback(lock).await
}

async fn check_encoding(db: &Db) -> Result<()> {
    let encoding: String = sqlx::query_scalar("select current_setting('server_encoding')").fetch_one(db).await?;
    if encoding == "UTF8" { Ok(()) } else { Err(SchemaError::Encoding { encoding }.into()) }
}

async fn migrate(connection: &mut PgConnection, session: &Session) -> Result<()> {
    let report =
        embedded::migrations::runner().run_async(&mut Migrator { connection, session }).await.map_err(refused)?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migrated");
    }
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
    let applied = sqlx::query("select version, name, checksum from refinery_schema_history order by version");
    let applied = applied.fetch_all(db).await.map_err(|error| {
        let is_denied = errors::code(&error).is_some_and(|it| it == INSUFFICIENT_PRIVILEGE);
        if is_denied { SchemaError::Hidden(error).into() } else { Error::from(error) }
    })?;
    let known = known();
    let latest = latest(&known);
    for row in &applied {
        let (version, name, checksum): (i32, String, String) =
            (row.try_get("version")?, row.try_get("name")?, row.try_get("checksum")?);
        if version > latest {
            return Err(SchemaError::Newer { found: version, known: latest }.into());
        }
        let is_ours =
            |it: &Migration| it.version() == version && it.name() == name && it.checksum().to_string() == checksum;
        if !known.iter().any(is_ours) {
            return Err(SchemaError::Different { version, name }.into());
        }
    }
    Ok(applied.len() == known.len())
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
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(it) = cause {
        if let Some(MigratorError::Sqlx(refused)) = it.downcast_ref()
            && let Some(code) = errors::code(refused)
            && code == INSUFFICIENT_PRIVILEGE
        {
            return SchemaError::MayNotMigrate { known: latest(&known()), reason: refused.to_string() }.into();
        }
        cause = it.source();
    }
    Error::Migration(Box::new(error))
}

/// Implements refinery's database traits for a sqlx connection.
struct Migrator<'c> {
    connection: &'c mut PgConnection,
    session: &'c Session,
}

/// An error of [`Migrator`]: a statement failed, or the schema history cannot be parsed.
#[derive(Debug, thiserror::Error)]
enum MigratorError {
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    #[error("invalid date in the schema history: {0}")]
    Date(#[from] time::error::Parse),
    #[error("invalid checksum in the schema history: {0}")]
    Checksum(#[from] std::num::ParseIntError),
}

impl AsyncTransaction for Migrator<'_> {
    type Error = MigratorError;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> std::result::Result<usize, MigratorError> {
        let mut tx = self.connection.begin_with("begin isolation level read committed").await?;
        tx.execute(sqlx::raw_sql(self.session.migrate.clone())).await?;
        let mut executed = 0;
        for query in queries {
            tx.execute(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await?;
            executed += 1;
        }
        CrashPoint::MigrationWritten.passed();
        tx.commit().await?;
        Ok(executed)
    }
}

impl AsyncQuery<Vec<Migration>> for Migrator<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> std::result::Result<Vec<Migration>, MigratorError> {
        let rows = self.connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await?;
        rows.iter()
            .map(|row| {
                let applied_on = OffsetDateTime::parse(&row.try_get::<String, _>("applied_on")?, &Rfc3339)?;
                let checksum = row.try_get::<String, _>("checksum")?.parse()?;
                Ok(Migration::applied(row.try_get("version")?, row.try_get("name")?, applied_on, checksum))
            })
            .collect()
    }
}

impl AsyncMigrate for Migrator<'_> {}

/// The name and SQL of each migration, in order, for tests that stop between two of them.
pub fn all() -> Vec<(String, String)> {
    known().iter().map(|it| (it.name().to_owned(), it.sql().unwrap_or_default().to_owned())).collect()
}
