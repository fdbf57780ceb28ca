//! What sqlx's errors mean: for whoever asked, for the connection, and for whoever waits for a server to come up.

use std::borrow::Cow;
use std::io;

use sqlx::error::DatabaseError;

/// A server that takes no writes: a standby, or one that was set so.
#[derive(Debug, thiserror::Error)]
#[error("the database is read-only: it is a standby, or was set to be (default_transaction_read_only)")]
pub(super) struct ReadOnly;

impl From<ReadOnly> for sqlx::Error {
    fn from(read_only: ReadOnly) -> Self {
        Self::Io(io::Error::other(read_only))
    }
}

/// Whether it is that.
pub(super) fn is_read_only(error: &io::Error) -> bool {
    error.get_ref().and_then(|it| it.downcast_ref::<ReadOnly>()).is_some()
}

/// SQLSTATE, where the server said one.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned)
}

/// Whether it says nothing about what was asked for: the same may well be done in a moment.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
pub(super) fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        // A connection that is cut in the middle of a message reads as one that breaks the protocol.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed => true,
        sqlx::Error::Database(_) => code(error).is_some_and(|it| is_of_the_server(&it) || is_given_up(&it)),
        _ => false,
    }
}

/// Whether the connection may be broken, or is better not used again.
pub(super) fn breaks_connection(error: &sqlx::Error) -> bool {
    is_unavailable(error) && !code(error).is_some_and(|it| is_given_up(&it))
}

/// Classes 08 (connection), 53 (resources), 57 (operator: shutting down, starting up), 58 (its system), and what
/// ends a session: idle for too long, read-only, a transaction for too long; and a statement that a pooler has lost.
fn is_of_the_server(code: &str) -> bool {
    ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
        || ["25006", "25P03", "25P04"].contains(&code)
        || tells_of_a_pooler(code)
}

/// The statement was rolled back: it took too long (57014), waited too long for a lock (55P03), or met others
/// (40001, 40P01; on a standby, what it replays).
fn is_given_up(code: &str) -> bool {
    ["57014", "55P03", "40001", "40P01"].contains(&code)
}

/// A prepared statement is unknown, or is there before it was prepared: it is somebody else's session.
pub(super) fn tells_of_a_pooler(code: &str) -> bool {
    ["26000", "42P05"].contains(&code)
}

/// Whether a server that answered a first connection so may answer otherwise soon.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
pub(super) fn is_not_there_yet(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => is_not_there_yet_io(error),
        // Cut off in the middle of a message.
        sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(said) => {
            let code = code(error).unwrap_or_default();
            // PgBouncer has one code for everything.
            let pooler_waits = ["server login has been failing", "cannot connect to server", "query_wait_timeout"];
            ["53", "57"].iter().any(|class| code.starts_with(class))
                || is_given_up(&code)
                || code == "25006"
                || (code == "08P01" && pooler_waits.iter().any(|it| said.message().contains(it)))
        }
        _ => false,
    }
}

fn is_not_there_yet_io(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    // What the resolver says has no kind of its own; a name server that is away says this.
    let is_resolver_away = error.to_string().contains("Temporary failure in name resolution");
    // A socket that is missing is made by a server that starts.
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
    is_read_only(error) || is_resolver_away || kinds.contains(&error.kind())
}

/// Whether a new connection is better tried again at once, within the patience of whoever waits for it: a server
/// that is starting, or has as many connections as it takes, or whose default timeout was too short for a beginning.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is not exhaustive")]
pub(super) fn is_of_the_moment(error: &sqlx::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    match error {
        sqlx::Error::Io(error) => matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset),
        sqlx::Error::Database(_) => code(error).is_some_and(|it| ["57P03", "53300", "57014"].contains(&it.as_str())),
        _ => false,
    }
}
