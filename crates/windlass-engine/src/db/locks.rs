//! Advisory locks. They are transaction-level, so that they are released with the transaction even behind a pooler, and
//! long waits are logged.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Error, Result, Tx};

/// The interval between attempts to take a lock.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long to wait before first logging which session holds the lock.
const LOG_AFTER: Duration = Duration::from_secs(1);

/// The interval between subsequent log messages.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Operations that only one session may perform at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Migrating the schema.
    Migration,
    /// Creating the first API key.
    FirstKey,
    /// Correcting the counters of what projects use.
    Recount,
}

impl Lock {
    /// The migration lock is "windlass" in ASCII; earlier versions used the same number for a session-level lock.
    fn number(self) -> i64 {
        match self {
            Self::Migration => 0x7769_6e64_6c61_7373,
            Self::FirstKey => 8_532_478_892_738_605_939,
            Self::Recount => 5_215_087_736_220_934_811,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Migration => "schema migration",
            Self::FirstKey => "first key",
            Self::Recount => "recount",
        }
    }
}

/// Takes a lock until the end of the transaction. It polls, since waiting inside Postgres would hold a snapshot, which
/// blocks `create index concurrently`.
///
/// # Errors
/// [`Error::Locked`] if the lock is not free within `patience`.
pub async fn take(tx: &mut Tx, lock: Lock, patience: Duration) -> Result<()> {
    let began = Instant::now();
    let mut log_after = LOG_AFTER;
    while !try_take(tx, lock).await? {
        let waited = began.elapsed();
        if waited >= patience {
            return Err(Error::Locked { what: lock.name(), holder: holder(tx, lock).await?, waited });
        }
        if waited >= log_after {
            let (holder, seconds_left) = (holder(tx, lock).await?, patience.saturating_sub(waited).as_secs());
            tracing::info!(lock = lock.name(), holder, seconds_left, "waiting for a lock");
            log_after += LOG_INTERVAL;
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

async fn try_take(tx: &mut Tx, lock: Lock) -> Result<bool> {
    let row = sqlx::query!(r#"select pg_try_advisory_xact_lock($1) as "taken!""#, lock.number()).fetch_one(tx).await?;
    Ok(row.taken)
}

/// Describes the sessions that hold the lock, as far as they are visible to this role.
async fn holder(tx: &mut Tx, lock: Lock) -> Result<String> {
    let row = sqlx::query!(
        "select string_agg(format('pid %s (application %s, %s, since %s)', pg_locks.pid,
                                  coalesce(nullif(application_name, ''), 'unknown'), coalesce(state, 'unknown'),
                                  coalesce(to_char(state_change, 'YYYY-MM-DD HH24:MI:SS TZ'), 'unknown')), ', ') as holder
         from pg_locks left join pg_stat_activity using (pid)
         where locktype = 'advisory' and granted and objsubid = 1
           and pg_locks.database = (select oid from pg_database where datname = current_database())
           and ((classid::bigint << 32) | objid::bigint) = $1",
        lock.number(),
    )
    .fetch_one(tx)
    .await?;
    Ok(row.holder.unwrap_or_else(|| "a session that has since ended".to_owned()))
}

/// Describes the oldest open transactions of other sessions in the database: probably, one of them holds the lock that a
/// migration could not take.
pub(super) async fn long_transactions(tx: &mut Tx) -> Result<String> {
    let sessions: Option<String> = sqlx::query_scalar(
        "select string_agg(format('pid %s (application %s, %s, since %s)', pid,
                                  coalesce(nullif(application_name, ''), 'unknown'), coalesce(state, 'unknown'),
                                  to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS TZ')), ', ')
         from (select * from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
               order by xact_start limit 3) oldest",
    )
    .fetch_one(tx)
    .await?;
    Ok(sessions.unwrap_or_else(|| "a session that has since ended".to_owned()))
}
