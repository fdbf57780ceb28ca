//! Transactions, each of which holds a connection until it ends.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::Span;

use super::executor::Statement;
use super::pool::{LIVENESS_TIMEOUT, Lease, Pool};
use crate::spans;

/// A transaction. It is rolled back on drop unless it is committed.
#[derive(Debug)]
pub struct Tx {
    lease: Option<Lease>,
    /// Lasts as long as the transaction.
    span: Span,
}

const HOLDS_CONNECTION: &str = "a transaction holds its connection until it ends";

impl Tx {
    pub(super) async fn begin(pool: &Pool) -> Result<Self, sqlx::Error> {
        let span = spans::transaction();
        let mut lease = Lease::take(pool).await?;
        let begin = lease.endpoint().begin();
        match lease.execute(sqlx::raw_sql(begin)).await {
            Ok(_) => Ok(Self { lease: Some(lease), span }),
            Err(error) => lease.give_back(Err(error)),
        }
    }

    pub(super) async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        spans::recorded(spans::statement_of(&self.span, how), lease.end(how)).await
    }

    fn lease(&mut self) -> &mut Lease {
        self.lease.as_mut().expect(HOLDS_CONNECTION)
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // Roll back immediately, since others may be waiting for its locks.
        if let Some(lease) = self.lease.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(timeout(LIVENESS_TIMEOUT, lease.end("rollback")));
        }
    }
}

impl<'c> Executor<'c> for &'c mut Tx {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let Tx { lease, span } = self;
        let lease = lease.as_mut().expect(HOLDS_CONNECTION);
        let endpoint = Arc::clone(lease.endpoint());
        match Statement::of(query, &endpoint) {
            Ok(statement) => {
                let span = spans::statement_of(span, statement.text());
                let failed = move |error: &_| {
                    endpoint.record_error(error);
                    spans::fail(&span);
                };
                lease.fetch_many(statement).inspect_err(failed).boxed()
            }
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let Tx { lease, span } = self;
        let lease = lease.as_mut().expect(HOLDS_CONNECTION);
        let endpoint = Arc::clone(lease.endpoint());
        match Statement::of(query, &endpoint) {
            Ok(statement) => {
                let span = spans::statement_of(span, statement.text());
                let fetched = lease.fetch_optional(statement);
                spans::recorded(span, fetched.inspect_err(move |error| endpoint.record_error(error))).boxed()
            }
            Err(error) => futures_util::future::ready(Err(error)).boxed(),
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.lease().prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.lease().describe(sql)
    }
}
