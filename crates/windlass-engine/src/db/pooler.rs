//! Detects whether a connection keeps its server session, or a pooler switches sessions between transactions.

use std::io;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;

use super::errors;

/// How many times to check whether the session is kept.
const ROUNDS: usize = 3;

/// How long a session that is not shared may take to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the session's backend pid. Overrides defaults that could make it fail: a short statement timeout, or an
/// isolation level that a standby rejects.
const BACKEND_PID: &str = "set local statement_timeout = '10s'; set transaction isolation level read committed;
                           select pg_backend_pid()";

/// The same as [`BACKEND_PID`], in a transaction that stays open.
const BEGIN_AND_PID: &str = "begin isolation level read committed; set local statement_timeout = '10s';
                             set local idle_in_transaction_session_timeout = '10s'; select pg_backend_pid()";

/// The pooler does not keep transactions on one session (statement pooling).
#[derive(Debug, thiserror::Error)]
#[error("the database's pooler splits transactions across sessions; set its pool_mode to transaction or session")]
struct StatementPooling(#[source] sqlx::Error);

/// Whether each connection has its own server session: it keeps its session while another connection has a transaction
/// open, and does not share it.
///
/// # Errors
/// If the server is unreachable, or the pooler does not keep transactions on one session.
pub(super) async fn keeps_sessions(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    // Other clients of the pooler may take the session in question, so a single check can miss it.
    for _ in 0..ROUNDS {
        if !kept_session(options).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn kept_session(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let mut one = options.connect().await?;
    let before = session(&mut one, BACKEND_PID).await?;
    let mut other = match options.connect().await {
        Ok(other) => other,
        // A connection limit of one for this role rules out a pooler.
        Err(error) if errors::code(&error).is_some_and(|it| it == "53300") => return Ok(true),
        Err(error) => return Err(error),
    };
    let held = session(&mut other, BEGIN_AND_PID).await.map_err(explained)?;
    // If the other connection holds the only session, this blocks.
    let after = timeout(RESPONSE_TIMEOUT, session(&mut one, BACKEND_PID)).await;
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

/// Replaces the error of a pooler in statement mode with one that explains how to fix it.
pub(super) fn explained(error: sqlx::Error) -> sqlx::Error {
    if error.to_string().contains("statement pooling") {
        return sqlx::Error::Configuration(Box::new(StatementPooling(error)));
    }
    error
}

async fn session(connection: &mut PgConnection, statement: &'static str) -> Result<i32, sqlx::Error> {
    connection.fetch_one(sqlx::raw_sql(statement)).await?.try_get(0)
}
