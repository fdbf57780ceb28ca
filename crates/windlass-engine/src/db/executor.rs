//! Runs a single statement outside of a transaction, in one round trip. Behind a pooler in transaction mode, the
//! statement is wrapped in a transaction.
//!
//! Invariant: a statement takes effect at most once. It is resent only if the server closed the connection with
//! `admin_shutdown` before it returned any result: results are sent before the commit, so nothing was committed.

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, Postgres, SqlStr};

use super::endpoint::Endpoint;
use super::pool::Lease;
use super::{Db, Tx};
use crate::spans;

/// SQLSTATE `admin_shutdown`: the server is shutting down, or an administrator closed this connection.
const ADMIN_SHUTDOWN: &str = "57P01";

/// An owned statement, which can be sent again.
#[derive(Clone)]
pub(super) struct Statement {
    sql: SqlStr,
    prepared: Option<PgStatement>,
    arguments: Option<PgArguments>,
    is_persistent: bool,
}

impl Statement {
    /// Converts a query to an owned statement. It is prepared without a name if a pooler may switch sessions.
    pub(super) fn of<'q>(mut query: impl Execute<'q, Postgres>, endpoint: &Endpoint) -> Result<Self, sqlx::Error> {
        Ok(Self {
            prepared: query.statement().cloned(),
            arguments: query.take_arguments().map_err(sqlx::Error::Encode)?,
            is_persistent: query.persistent() && !endpoint.is_pooled(),
            sql: query.sql(),
        })
    }
}

impl Statement {
    /// Its text, without values.
    pub(super) fn text(&self) -> &str {
        self.sql.as_str()
    }
}

impl Execute<'_, Postgres> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.prepared.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.is_persistent
    }
}

type Results = Vec<Either<PgQueryResult, PgRow>>;

impl Db {
    /// Runs a statement and returns all of its results. They are read to the end even if the caller needs only the
    /// first row: otherwise the connection could not be reused.
    async fn results_of(&self, statement: Result<Statement, sqlx::Error>) -> Result<Results, sqlx::Error> {
        let statement = statement?;
        spans::recorded(spans::statement(statement.text()), self.results_of_sent(statement)).await
    }

    async fn results_of_sent(&self, statement: Statement) -> Result<Results, sqlx::Error> {
        let mut results = Vec::new();
        match self.run(statement.clone(), &mut results).await {
            Err(sqlx::Error::Database(error))
                if results.is_empty() && error.code().is_some_and(|it| it == ADMIN_SHUTDOWN) =>
            {
                self.run(statement, &mut results).await?;
            }
            ended => ended?,
        }
        Ok(results)
    }

    async fn run(&self, statement: Statement, results: &mut Results) -> Result<(), sqlx::Error> {
        if self.endpoint.is_pooled() {
            return self.run_in_transaction(statement, results).await;
        }
        let mut lease = Lease::take(&self.statements).await?;
        let ended = lease
            .fetch_many(statement)
            .try_for_each(|it| {
                results.push(it);
                ready(Ok(()))
            })
            .await;
        lease.give_back(ended)
    }

    async fn run_in_transaction(&self, statement: Statement, results: &mut Results) -> Result<(), sqlx::Error> {
        let mut tx = Tx::begin(&self.statements).await?;
        let ended = tx
            .fetch_many(statement)
            .try_for_each(|it| {
                results.push(it);
                ready(Ok(()))
            })
            .await;
        match ended {
            Ok(()) => tx.end("commit").await,
            Err(error) => {
                tx.end("rollback").await.ok();
                Err(error)
            }
        }
    }
}

impl<'c> Executor<'c> for &'c Db {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let results = self.results_of(Statement::of(query, &self.endpoint));
        results.map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let results = self.results_of(Statement::of(query, &self.endpoint));
        Box::pin(results.map_ok(|all| all.into_iter().find_map(Either::right)))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut lease = Lease::take(&self.statements).await?;
            let statement = lease.prepare_with(sql, parameters).await;
            lease.give_back(statement)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut lease = Lease::take(&self.statements).await?;
            let description = lease.describe(sql).await;
            lease.give_back(description)
        })
    }
}
