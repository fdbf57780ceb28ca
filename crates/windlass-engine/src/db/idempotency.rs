//! The table `idempotency_key`: the responses to idempotent requests, which are returned again if they are repeated.

use std::time::Duration;

use sqlx::PgExecutor;
use windlass_types::{IdempotencyKey, ProjectId};

use super::{Result, Tx, seconds};
use crate::model::{Answer, NewAnswer};

/// Records the response to a request for `retention`. Returns false if there is a recorded one for the key; waits for a
/// concurrent transaction that inserts the same key. The last statement of the transaction that creates the object, so
/// that no two of them can wait for each other.
pub async fn insert(tx: &mut Tx, project: ProjectId, new: &NewAnswer<'_>, retention: Duration) -> Result<bool> {
    let outcome = sqlx::query!(
        "insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
         values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
         on conflict (project_id, key) do update
         set fingerprint = excluded.fingerprint, created_id = excluded.created_id, response = excluded.response,
             expires_at = excluded.expires_at
         where idempotency_key.expires_at <= now()",
        project as ProjectId,
        new.key.as_str(),
        new.fingerprint.as_ref(),
        new.created,
        new.response,
        seconds(retention),
    )
    .execute(tx)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// The recorded response for a key of the project, unless it has expired.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId, key: &IdempotencyKey) -> Result<Option<Answer>> {
    let answer = sqlx::query_as!(
        Answer,
        r#"select fingerprint, created_id as created, response from idempotency_key
           where project_id = $1 and key = $2 and expires_at > now()"#,
        project as ProjectId,
        key.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(answer)
}

/// Deletes up to `batch` expired rows. Returns their number.
pub async fn delete_expired(db: impl PgExecutor<'_>, batch: u16) -> Result<u64> {
    let outcome = sqlx::query!(
        "delete from idempotency_key where ctid = any (array(
             select ctid from idempotency_key where expires_at <= now()
             order by expires_at limit $1 for update skip locked))",
        i64::from(batch),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected())
}
