//! The settings of every session, which override the defaults of the role, the database and the server. Behind a
//! transaction pooler, they are set for every transaction instead.
//!
//! Statements that time out in the service are cancelled on the server at about the same time: `statement_timeout` and
//! `lock_timeout` equal the service's own timeout, and a server that supports it checks every second whether the client
//! is still connected.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

/// How much longer than the service's timeout a transaction may be idle.
const IDLE_MARGIN: Duration = Duration::from_secs(5);

/// The statement timeout of migrations, which may rewrite whole tables.
const MIGRATION_TIMEOUT: Duration = Duration::from_hours(12);

/// The lock timeout of migrations, which are retried. Later statements on the table queue up behind a waiting one, and in
/// a deadlock the migration has to give up first: Postgres cancels a statement after `deadlock_timeout`, 1 s.
const MIGRATION_LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// The statements that set up a session, each sent as one message of the simple query protocol.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Sets up a session, and returns properties of the server (`read_only`, `loses_commits`).
    pub(super) start: SqlStr,
    /// Begins a transaction in a session that is already set up.
    pub(super) begin: SqlStr,
    /// Begins a transaction and sets it up, for poolers that do not keep sessions.
    pub(super) begin_and_set: SqlStr,
    /// Sets the timeouts of a migration in an open transaction.
    pub(super) migrate: SqlStr,
}

impl Session {
    pub(super) fn new(patience: Duration) -> Self {
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        let milliseconds = milliseconds(patience);
        // The timeout comes first, since the role's default may be too short for the rest. This transaction's isolation
        // level comes next, since a standby cannot run queries under `serializable`.
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
            self::milliseconds(MIGRATION_TIMEOUT),
            self::milliseconds(MIGRATION_LOCK_TIMEOUT)
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
/// Sequential scans are disabled because a generic plan made while a table was small would keep scanning all of it, and
/// every query has an index. Disabling them inflates plan costs beyond the threshold for JIT compilation, hence `jit`.
/// `synchronous_commit` is only ever raised, to `on`: a weaker one does not wait for the disk, or for a synchronous
/// standby. It is always set, so that a later change of the server's default has no effect either.
fn settings(patience: Duration, local: bool) -> String {
    let (patience, idle) = (milliseconds(patience), milliseconds(patience + IDLE_MARGIN));
    format!(
        "select set_config('lock_timeout', '{patience}', {local}),
                set_config('idle_in_transaction_session_timeout', '{idle}', {local}),
                set_config('default_transaction_isolation', 'read committed', {local}),
                set_config('enable_seqscan', 'off', {local}), set_config('jit', 'off', {local}),
                set_config('synchronous_commit', case current_setting('synchronous_commit')
                    when 'remote_apply' then 'remote_apply' else 'on' end, {local}),
                case when current_setting('server_version_num')::int >= 140000 and version() like '%linux%'
                     then set_config('client_connection_check_interval', '1000', {local}) end,
                case when current_setting('server_version_num')::int >= 170000
                     then set_config('transaction_timeout', '0', {local}) end,
                current_setting('fsync') = 'off' as loses_commits,
                pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' as read_only"
    )
}

/// Milliseconds as Postgres expects them: at least 1, since 0 disables a timeout.
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX).max(1)
}
