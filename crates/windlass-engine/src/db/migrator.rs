//! Runs refinery's statements over a sqlx connection.

use std::error::Error as StdError;

use refinery_core::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::errors;
use super::session::Session;
use crate::failpoints::CrashPoint;

/// Implements refinery's database traits for a sqlx connection.
pub(super) struct Migrator<'c> {
    connection: &'c mut PgConnection,
    session: &'c Session,
}

impl<'c> Migrator<'c> {
    pub(super) fn new(connection: &'c mut PgConnection, session: &'c Session) -> Self {
        Self { connection, session }
    }
}

/// An error of [`Migrator`]: a statement failed, or the schema history cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub(super) enum MigratorError {
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

/// The SQLSTATE of the statement that failed, if Postgres rejected one.
pub(super) fn code(error: &refinery::Error) -> Option<String> {
    errors::code(statement_error(error)?)
}

/// The error message of the statement that failed.
pub(super) fn reason(error: &refinery::Error) -> String {
    statement_error(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn statement_error(error: &refinery::Error) -> Option<&sqlx::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(it) = cause {
        if let Some(MigratorError::Sqlx(failed)) = it.downcast_ref() {
            return Some(failed);
        }
        cause = it.source();
    }
    None
}
