//! Classification of sqlx errors: for callers, for the connection pool, and for waiting until a server is up.

use std::borrow::Cow;
use std::io;

use sqlx::error::DatabaseError;

/// The server is read-only: a standby, or a server configured to be.
#[derive(Debug, thiserror::Error)]
#[error("the database is read-only: it is a standby, or default_transaction_read_only is on")]
pub(super) struct ReadOnly;

impl From<ReadOnly> for sqlx::Error {
    fn from(read_only: ReadOnly) -> Self {
        Self::Io(io::Error::other(read_only))
    }
}

/// Whether the error is a [`ReadOnly`].
pub(super) fn is_read_only(error: &io::Error) -> bool {
    error.get_ref().and_then(|it| it.downcast_ref::<ReadOnly>()).is_some()
}

/// The SQLSTATE, if the server sent one.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned)
}

/// Whether the database is unavailable, rather than the statement at fault: a retry may succeed.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
pub(super) fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        // A connection that is cut off in the middle of a message causes a protocol error.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed => true,
        sqlx::Error::Database(_) => code(error).is_some_and(|it| is_server_failure(&it) || is_statement_aborted(&it)),
        _ => false,
    }
}

/// Whether the connection may be broken and must not be reused.
pub(super) fn breaks_connection(error: &sqlx::Error) -> bool {
    is_unavailable(error) && !code(error).is_some_and(|it| is_statement_aborted(&it))
}

/// Whether the error concerns the server or the session: classes 08 (connection), 53 (resources), 57 (operator
/// intervention), 58 (system), session terminated (idle or transaction timeout), read-only, or a statement lost by a
/// pooler.
fn is_server_failure(code: &str) -> bool {
    ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
        || ["25006", "25P03", "25P04"].contains(&code)
        || indicates_pooler(code)
}

/// Whether the statement was rolled back: statement timeout (57014), lock timeout (55P03), or a conflict with other
/// transactions (40001, 40P01) or, on a standby, with replay.
fn is_statement_aborted(code: &str) -> bool {
    ["57014", "55P03", "40001", "40P01"].contains(&code)
}

/// Whether a prepared statement is missing or already exists: the session was switched by a pooler.
pub(super) fn indicates_pooler(code: &str) -> bool {
    ["26000", "42P05"].contains(&code)
}

/// Whether the first connection may succeed if retried: the server or its name server is starting or unavailable, or
/// the server is read-only.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
pub(super) fn is_not_ready(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => is_not_ready_io(error),
        // The connection was cut off in the middle of a message.
        sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(reply) => {
            let code = code(error).unwrap_or_default();
            // PgBouncer uses the same code for every error.
            let pooler_waits = ["server login has been failing", "cannot connect to server", "query_wait_timeout"];
            ["53", "57"].iter().any(|class| code.starts_with(class))
                || is_statement_aborted(&code)
                || code == "25006"
                || (code == "08P01" && pooler_waits.iter().any(|it| reply.message().contains(it)))
        }
        _ => false,
    }
}

fn is_not_ready_io(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    // Resolver errors have no `ErrorKind`. This is the text of EAI_AGAIN: the name server is unavailable.
    let is_resolver_down = error.to_string().contains("Temporary failure in name resolution");
    // `NotFound`: a server creates its socket when it starts.
    let kinds = [
        K::ConnectionRefused,
        K::ConnectionReset,
        K::ConnectionAborted,
        K::HostUnreachable,
        K::NetworkUnreachable,
        K::NetworkDown,
        K::NotConnected,
        K::BrokenPipe,
        K::UnexpectedEof,
        K::TimedOut,
        K::NotFound,
    ];
    is_read_only(error) || is_resolver_down || kinds.contains(&error.kind())
}

/// Whether to retry a connection at once, within the caller's timeout: the server is starting, is out of connections,
/// or cancelled the setup because its default statement timeout is too short.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
pub(super) fn is_momentary(error: &sqlx::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    match error {
        sqlx::Error::Io(error) => matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset),
        sqlx::Error::Database(_) => code(error).is_some_and(|it| ["57P03", "53300", "57014"].contains(&it.as_str())),
        _ => false,
    }
}
