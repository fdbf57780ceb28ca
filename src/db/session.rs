//! What every session is set to, whatever the role's, the database's and the server's defaults are; behind a pooler
//! that does not keep sessions, every transaction.
//!
//! What the service gives up is cancelled on the server at about the same time: `statement_timeout` and
//! `lock_timeout` are the service's own patience, and a server that can looks every second whether its client is
//! still there.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

/// How much longer than the service's patience a transaction may do nothing.
const IDLE_FOR: Duration = Duration::from_secs(5);

/// How long a migration's statement may take: it writes whole tables anew.
const LONGEST_MIGRATION: Duration = Duration::from_hours(12);

/// How long a migration waits for a table: everybody else waits behind it.
const MIGRATION_WAITS: Duration = Duration::from_mins(1);

/// The statements that set it, each a message of its own for the simple protocol.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Sets a session, and tells what its server is (`read_only`, `loses_commits`).
    pub(super) start: SqlStr,
    /// Begins a transaction in a session that is set.
    pub(super) begin: SqlStr,
    /// Begins a transaction and sets it: for a pooler that does not keep sessions.
    pub(super) begin_and_set: SqlStr,
    /// Sets a transaction that has begun to the bounds of a migration.
    pub(super) migrate: SqlStr,
}

impl Session {
    pub(super) fn new(patience: Duration) -> Self {
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        let milliseconds = milliseconds(patience);
        // The timeout comes first: the role's default may be too short for the rest. The isolation level of this
        // very transaction comes next: a standby cannot read under `serializable`.
        let start = format!(
            "set statement_timeout = {milliseconds}; set transaction isolation level read committed; {}",
            settings(patience, false)
        );
        let begin_and_set = format!(
            "begin isolation level read committed; set local statement_timeout = {milliseconds}; {}",
            settings(patience, true)
        );
        let migrate = format!(
            "set local statement_timeout = {}; set local lock_timeout = {};
             set local idle_in_transaction_session_timeout = 0",
            self::milliseconds(LONGEST_MIGRATION),
            self::milliseconds(MIGRATION_WAITS)
        );
        Self {
            start: sql(start),
            begin: "begin".into_sql_str(),
            begin_and_set: sql(begin_and_set),
            migrate: sql(migrate),
        }
    }
}

/// All other settings, as one statement.
///
/// Sequential scans are off because a plan that was made while a table was small would go on to read the whole of
/// it, and there is an index for each; with them off, every plan looks expensive enough to be compiled, hence `jit`.
/// `synchronous_commit` is only raised: the stricter settings, which wait for replicas, stay as they are.
fn settings(patience: Duration, local: bool) -> String {
    let (patience, idle) = (milliseconds(patience), milliseconds(patience + IDLE_FOR));
    format!(
        "select set_config('lock_timeout', '{patience}', {local}),
                set_config('idle_in_transaction_session_timeout', '{idle}', {local}),
                set_config('default_transaction_isolation', 'read committed', {local}),
                set_config('enable_seqscan', 'off', {local}), set_config('jit', 'off', {local}),
                case when current_setting('synchronous_commit') = 'off'
                     then set_config('synchronous_commit', 'on', {local}) end,
                case when current_setting('server_version_num')::int >= 140000 and version() like '%linux%'
                     then set_config('client_connection_check_interval', '1000', {local}) end,
                case when current_setting('server_version_num')::int >= 170000
                     then set_config('transaction_timeout', '0', {local}) end,
                current_setting('fsync') = 'off' as loses_commits,
                pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' as read_only"
    )
}

/// As Postgres takes it: at least one, since 0 means without end.
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX).max(1)
}
