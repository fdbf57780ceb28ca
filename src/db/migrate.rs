//! The schema: refinery's migrations over a sqlx connection, one starter at a time.

use std::time::Duration;

use refinery_core::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Db, Error, Result, connections};
use crate::crash::CrashPoint;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The advisory lock's number, "windlass" in ASCII: refinery itself takes no lock.
const LOCK: i64 = 0x7769_6e64_6c61_7373;

/// Brings the schema up to date. Any number of processes may do so at once: they take turns.
///
/// # Errors
/// When a migration fails (its transaction is rolled back), or the database went away.
pub async fn run(db: &Db) -> Result<()> {
    // A connection of its own: the lock goes with the session, even if this process is killed.
    let mut connection = connections::detached(&db.transactions).await?;
    let outcome = locked(&mut connection).await;
    connection.close().await?;
    outcome
}

/// Polls for the lock: a waiter inside `pg_advisory_lock` would hold a snapshot that blocks
/// `create index concurrently`.
async fn locked(connection: &mut PgConnection) -> Result<()> {
    loop {
        let taken: bool =
            sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *connection).await?;
        if taken {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    CrashPoint::MigrationLocked.passed();
    let report = embedded::migrations::runner().run_async(&mut Migrator(connection)).await.map_err(Box::new)?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migrated");
    }
    CrashPoint::Migrated.passed();
    Ok(())
}

/// What refinery asks of a database, said to sqlx.
struct Migrator<'c>(&'c mut PgConnection);

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
        let mut tx = self.0.begin().await?;
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
        let rows = self.0.fetch_all(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await?;
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
    let runner = embedded::migrations::runner();
    let mut migrations: Vec<_> = runner.get_migrations().clone();
    migrations.sort();
    migrations.iter().map(|it| (it.name().to_owned(), it.sql().unwrap_or_default().to_owned())).collect()
}

impl From<refinery::Error> for Error {
    fn from(error: refinery::Error) -> Self {
        Self::Migration(Box::new(error))
    }
}
