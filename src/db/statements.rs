//! A single statement outside of a transaction. It runs on its own connection in one round trip; behind a pooler that
//! does not keep sessions, it is wrapped in its own transaction.
//!
//! Invariant: a statement runs at most once. It is sent again only when a server that ends its
//! connections said so before it answered anything: an answer comes before the commit it is followed by.

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, Postgres, SqlStr};

use super::connections::Lease;
use super::endpoint::Endpoint;
use super::{Db, Tx};

/// What a server says that shuts down, or was told to end this connection (`admin_shutdown`).
const TURNED_AWAY: &str = "57P01";

/// What is sent, as often as it takes.
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

type Answer = Vec<Either<PgQueryResult, PgRow>>;

impl Db {
    /// All of the answer, even where nobody waits for its end: else the connection would not be there either.
    async fn answer_to(&self, statement: Result<Statement, sqlx::Error>) -> Result<Answer, sqlx::Error> {
        let statement = statement?;
        let mut answer = Vec::new();
        match self.run(statement.clone(), &mut answer).await {
            Err(sqlx::Error::Database(error))
                if answer.is_empty() && error.code().is_some_and(|it| it == TURNED_AWAY) =>
            {
                self.run(statement, &mut answer).await?;
            }
            ended => ended?,
        }
        Ok(answer)
    }

    async fn run(&self, statement: Statement, answer: &mut Answer) -> Result<(), sqlx::Error> {
        if self.endpoint.is_pooled() {
            return self.run_in_transaction(statement, answer).await;
        }
        let mut lease = Lease::take(&self.statements).await?;
        let ended = lease
            .fetch_many(statement)
            .try_for_each(|it| {
                answer.push(it);
                ready(Ok(()))
            })
            .await;
        lease.give_back(ended)
    }

    async fn run_in_transaction(&self, statement: Statement, answer: &mut Answer) -> Result<(), sqlx::Error> {
        let mut tx = Tx::begin(&self.statements).await?;
        let ended = tx
            .fetch_many(statement)
            .try_for_each(|it| {
                answer.push(it);
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
        let answer = self.answer_to(Statement::of(query, &self.endpoint));
        answer.map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = self.answer_to(Statement::of(query, &self.endpoint));
        Box::pin(answer.map_ok(|all| all.into_iter().find_map(Either::right)))
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
