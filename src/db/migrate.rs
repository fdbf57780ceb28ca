//! The schema: refinery's migrations over a sqlx connection, one starter at a time, and nobody else than who has
//! something to migrate.

use std::error::Error as StdError;
use std::time::Duration;

use refinery_core::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::locks::{self, Lock};
use super::session::Session;
use super::{Db, Error, Result, connections, errors};
use crate::crash::CrashPoint;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// How long another process may be at it.
const PATIENCE: Duration = Duration::from_mins(10);

/// Why a schema cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A newer version of the program has migrated it.
    #[error("the schema is at V{found}, and this version of windlass knows V{known} at most: run a newer one")]
    Newer {
        /// What the schema is at.
        found: i32,
        /// What this program knows.
        known: i32,
    },
    /// It has the history of another program, or somebody has changed it.
    #[error("V{version} of the schema, '{name}', is not this version's of windlass: is it the right database?")]
    Different {
        /// The first migration that is another.
        version: i32,
        /// Its name in the schema.
        name: String,
    },
    /// It has to be migrated, and the role may not do that.
    #[error(
        "the schema has to be migrated to V{known}, which the database role of this process may not ({reason}): run `windlass migrate` as the owner of the schema"
    )]
    MayNotMigrate {
        /// What this program needs.
        known: i32,
        /// What Postgres says.
        reason: String,
    },
    /// It cannot be told what it is.
    #[error("the database role of this process may not read refinery_schema_history: grant it select on all tables")]
    Hidden(#[source] sqlx::Error),
}

/// Brings the schema up to date. Any number of processes may do so at once: they take turns. Where it is up to date,
/// no lock is taken and nothing is changed: a role with rights on rows is enough.
///
/// # Errors
/// When a migration fails (its transaction is rolled back), the schema is not one for this program, another process
/// is at it for too long, or the database went away.
pub async fn run(db: &Db) -> Result<()> {
    run_within(db, PATIENCE).await
}

/// The same, waiting no longer than that for another process that migrates.
pub async fn run_within(db: &Db, patience: Duration) -> Result<()> {
    if is_up_to_date(db).await? {
        return Ok(());
    }
    // The lock is a transaction's, on a connection of its own: migrations commit one by one, and it stays.
    let mut lock = db.begin().await?;
    sqlx::query("set local idle_in_transaction_session_timeout = 0").execute(&mut lock).await?;
    locks::take(&mut lock, Lock::Migration, patience).await?;
    CrashPoint::MigrationLocked.passed();
    // Somebody else may have done it meanwhile.
    if !is_up_to_date(db).await? {
        let mut connection = connections::detached(&db.statements).await?;
        let migrated = migrate(&mut connection, &db.endpoint.session).await;
        connection.close().await.ok();
        migrated?;
    }
    super::rollback(lock).await
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

/// Whether the schema is this program's.
///
/// # Errors
/// When it can never be.
async fn is_up_to_date(db: &Db) -> Result<bool> {
    let exists: bool =
        sqlx::query_scalar("select to_regclass('refinery_schema_history') is not null").fetch_one(db).await?;
    if !exists {
        return Ok(false);
    }
    let applied = sqlx::query("select version, name, checksum from refinery_schema_history order by version");
    let applied = applied.fetch_all(db).await.map_err(|error| {
        let may_not = errors::code(&error).is_some_and(|it| it == INSUFFICIENT_PRIVILEGE);
        if may_not { Unfit::Hidden(error).into() } else { Error::from(error) }
    })?;
    let known = known();
    let latest = latest(&known);
    for row in &applied {
        let (version, name, checksum): (i32, String, String) =
            (row.try_get("version")?, row.try_get("name")?, row.try_get("checksum")?);
        if version > latest {
            return Err(Unfit::Newer { found: version, known: latest }.into());
        }
        let is_ours =
            |it: &Migration| it.version() == version && it.name() == name && it.checksum().to_string() == checksum;
        if !known.iter().any(is_ours) {
            return Err(Unfit::Different { version, name }.into());
        }
    }
    Ok(applied.len() == known.len())
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";

fn known() -> Vec<Migration> {
    let mut migrations = embedded::migrations::runner().get_migrations().clone();
    migrations.sort();
    migrations
}

fn latest(known: &[Migration]) -> i32 {
    known.iter().map(Migration::version).max().unwrap_or_default()
}

/// A migration that failed; for want of rights it is another's to do.
fn refused(error: refinery::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(it) = cause {
        if let Some(MigratorError::Sqlx(refused)) = it.downcast_ref()
            && let Some(code) = errors::code(refused)
            && code == INSUFFICIENT_PRIVILEGE
        {
            return Unfit::MayNotMigrate { known: latest(&known()), reason: refused.to_string() }.into();
        }
        cause = it.source();
    }
    Error::Migration(Box::new(error))
}

/// What refinery asks of a database, said to sqlx.
struct Migrator<'c> {
    connection: &'c mut PgConnection,
    session: &'c Session,
}

/// Why refinery could not read what it had written.
#[derive(Debug, thiserror::Error)]
enum MigratorError {
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    #[error("the schema history holds no date: {0}")]
    Date(#[from] time::error::Parse),
    #[error("the schema history holds no checksum: {0}")]
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

/// The migrations in their order, name and text: for tests that stop between two of them.
pub fn all() -> Vec<(String, String)> {
    known().iter().map(|it| (it.name().to_owned(), it.sql().unwrap_or_default().to_owned())).collect()
}
