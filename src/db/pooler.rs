//! Whether a session is kept between us and Postgres, or a pooler lends us another one for every transaction.

use std::io;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;

use super::errors;

/// How often it is tried whether a session is kept.
const ROUNDS: usize = 3;

/// How long a session that nobody else has may take to answer.
const OWN_SESSION: Duration = Duration::from_secs(3);

/// The session of this transaction, whatever its defaults are: a short timeout, an isolation level that a standby
/// refuses.
const WHOSE: &str = "set local statement_timeout = '10s'; set transaction isolation level read committed;
                     select pg_backend_pid()";

/// The same in a transaction that stays open.
const WHOSE_FOR_LONG: &str = "begin isolation level read committed; set local statement_timeout = '10s';
                              set local idle_in_transaction_session_timeout = '10s'; select pg_backend_pid()";

/// A pooler that does not even keep a transaction together.
#[derive(Debug, thiserror::Error)]
#[error("the database's pooler does not keep transactions together; set its pool_mode to transaction or session")]
struct StatementPooling(#[source] sqlx::Error);

/// Whether each connection has a session of its own: one that begins a transaction neither gets the session of
/// another, nor drives it from there.
///
/// # Errors
/// When the server cannot be reached, or a pooler does not keep transactions together.
pub(super) async fn keeps_sessions(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    // Another client of the pool may take the session that is looked for.
    for _ in 0..ROUNDS {
        if !kept_session(options).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn kept_session(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let mut one = options.connect().await?;
    let before = session(&mut one, WHOSE).await?;
    let mut other = match options.connect().await {
        Ok(other) => other,
        // A role that has one connection is not a pooler's.
        Err(error) if errors::code(&error).is_some_and(|it| it == "53300") => return Ok(true),
        Err(error) => return Err(error),
    };
    let held = session(&mut other, WHOSE_FOR_LONG).await.map_err(explained)?;
    // Where the other one holds the only session there is, this waits for it.
    let after = timeout(OWN_SESSION, session(&mut one, WHOSE)).await;
    other.execute("rollback").await?;
    other.close().await.ok();
    match after {
        Ok(after) => {
            let after = after?;
            one.close().await.ok();
            Ok(before == after && before != held)
        }
        Err(_) if before == held => Ok(false),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// What a pooler that keeps nothing together says, with what to do about it.
pub(super) fn explained(error: sqlx::Error) -> sqlx::Error {
    if error.to_string().contains("statement pooling") {
        return sqlx::Error::Configuration(Box::new(StatementPooling(error)));
    }
    error
}

async fn session(connection: &mut PgConnection, statement: &'static str) -> Result<i32, sqlx::Error> {
    connection.fetch_one(sqlx::raw_sql(statement)).await?.try_get(0)
}
