//! Parts in state `garbage`: marks those of ended Uploads and deleted Files, in bounded batches, and claims those that
//! are due for deletion. The table `unfinished_discard` is the queue of Uploads with Parts left to mark.

use std::time::Duration;

use sqlx::PgExecutor;
use windlass_types::{PartId, UploadId};

use super::{Result, Tx, seconds};

/// A Part to be deleted.
#[derive(Debug, Clone)]
pub struct Garbage {
    /// Id of the Part.
    pub part: PartId,
    /// Whether its bytes are in its row, and are deleted with it; otherwise there may be an object.
    pub in_ledger: bool,
    /// The store's id of its multipart upload, which may be incomplete.
    pub multipart: Option<String>,
    /// Whether it was stored completely.
    pub whole: bool,
}

/// When discarded Parts may be deleted, and how many are discarded per statement.
#[derive(Debug, Clone, Copy)]
pub struct GarbagePolicy {
    /// How long the bytes of a stored Part are kept after it is discarded.
    pub grace: Duration,
    /// How long after its row was created a Part may still be uploading.
    pub writer_lifetime: Duration,
    /// The maximum number of Parts per statement.
    pub batch: u16,
}

/// Marks the Parts of Uploads that have just ended, or whose Files have just been deleted, as garbage. Must run in the
/// transaction that ended or deleted them, which holds their row locks. If there are more Parts than a batch, the
/// remaining Uploads are queued for [`continue_batch`]; Uploads that are already queued are left to it.
pub async fn discard(tx: &mut Tx, uploads: &[UploadId], how: GarbagePolicy) -> Result<()> {
    sqlx::query!(
        "with queued as materialized (
             select upload_id from unfinished_discard where upload_id = any($1) for update
         ), held as materialized (
             select n, part_id
             from unnest($1::uuid[]) with ordinality as ended (upload_id, n),
                  lateral (select part.id as part_id from part
                           where part.upload_id = ended.upload_id and state in ('receiving', 'stored')
                           limit $4::bigint + 1) its
             where ended.upload_id not in (select upload_id from queued)
             order by n limit $4::bigint + 1
         ), marked as (
             update part set state = 'garbage', not_before = garbage_due(state, created_at, $2, $3)
             from (select part_id from held order by n limit $4::bigint) batch
             where part.id = batch.part_id and state in ('receiving', 'stored')
         )
         insert into unfinished_discard (upload_id)
         select upload_id from unnest($1::uuid[]) with ordinality as ended (upload_id, n)
         where (select count(*) from held) > $4::bigint and n >= (select max(n) from held)
           and upload_id not in (select upload_id from queued)",
        uploads as &[UploadId],
        seconds(how.grace),
        seconds(how.writer_lifetime),
        i64::from(how.batch),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether any Upload is queued.
pub async fn any_queued(db: impl PgExecutor<'_>) -> Result<bool> {
    let row = sqlx::query!(r#"select exists (select from unfinished_discard) as "any!""#).fetch_one(db).await?;
    Ok(row.any)
}

/// Locks the oldest Uploads in the queue, skipping those locked by other transactions.
pub async fn lock_oldest(tx: &mut Tx, limit: u16) -> Result<Vec<UploadId>> {
    let rows = sqlx::query!(
        r#"select upload_id as "upload_id: UploadId" from unfinished_discard
           order by created_at, upload_id limit $1 for update skip locked"#,
        i64::from(limit),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| row.upload_id).collect())
}

/// Marks the next Parts of queued Uploads as garbage, except those of an existing File. The queue's rows must be locked
/// (see [`lock_oldest`]). Uploads without further Parts are removed from the queue. Returns the number of Parts marked.
pub async fn continue_batch(tx: &mut Tx, uploads: &[UploadId], how: GarbagePolicy) -> Result<u64> {
    let row = sqlx::query!(
        r#"with held as materialized (
             select n, part_id
             from unnest($1::uuid[]) with ordinality as ended (upload_id, n),
                  lateral (select id from part
                           where part.upload_id = ended.upload_id and state in ('receiving', 'stored')
                           except
                           select unnest(manifest) from file where file.id = ended.upload_id and deleted_at is null
                           limit $4::bigint + 1) as its (part_id)
             order by n limit $4::bigint + 1
         ), marked as (
             update part set state = 'garbage', not_before = garbage_due(state, created_at, $2, $3)
             from (select part_id from held order by n limit $4::bigint) batch
             where part.id = batch.part_id and state in ('receiving', 'stored')
             returning part.id
         ), finished as (
             delete from unfinished_discard
             using unnest($1::uuid[]) with ordinality as ended (upload_id, n)
             where unfinished_discard.upload_id = ended.upload_id
               and ((select count(*) from held) <= $4::bigint or n < (select max(n) from held))
         )
         select count(*) as "marked!" from marked"#,
        uploads as &[UploadId],
        seconds(how.grace),
        seconds(how.writer_lifetime),
        i64::from(how.batch),
    )
    .fetch_one(tx)
    .await?;
    Ok(row.marked.unsigned_abs())
}

/// Claims garbage that is due, the oldest first. The time of the next attempt is recorded before this one, with a
/// growing delay (20 s, doubled up to an hour), so that another process retries if this one dies or fails.
///
/// Parts that were stored completely and not tried before may be claimed up to `early` before they are due, since no
/// writer can still be writing them.
pub async fn claim(db: impl PgExecutor<'_>, limit: u16, early: Duration) -> Result<Vec<Garbage>> {
    let rows = sqlx::query!(
        r#"with due as (
             select id from part where state = 'garbage' and not_before <= now() + make_interval(secs => $2)
               and (not_before <= now() or (bytes is not null and attempts = 0))
             order by not_before limit $1 for update skip locked
         )
         update part set attempts = attempts + 1,
             not_before = now() + least(interval '10 seconds' * 2 ^ least(attempts + 1, 20), interval '1 hour')
         from due where part.id = due.id
         returning part.id, part.multipart_id, part.bytes is not null as "whole!", part.content is not null as "in_ledger!""#,
        i64::from(limit),
        seconds(early),
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Garbage { part: row.id, in_ledger: row.in_ledger, multipart: row.multipart_id, whole: row.whole })
        .collect())
}

/// Deletes the rows of garbage whose objects have been deleted, or that had none. Returns the number of rows.
pub async fn delete_collected(db: impl PgExecutor<'_>, parts: &[PartId]) -> Result<u64> {
    let outcome = sqlx::query!("delete from part where id = any($1) and state = 'garbage'", parts as &[PartId])
        .execute(db)
        .await?;
    Ok(outcome.rows_affected())
}

/// Records why an object could not be deleted.
pub async fn set_last_error(db: impl PgExecutor<'_>, part: PartId, error: &str) -> Result<()> {
    // An error message from a store may contain NUL, which Postgres does not accept in a `text`.
    let error = error.replace('\0', "\u{fffd}");
    sqlx::query!("update part set last_error = $2 where id = $1 and state = 'garbage'", part as PartId, error,)
        .execute(db)
        .await?;
    Ok(())
}

/// The number of objects whose deletion has failed so far, counting at most `most`.
pub async fn count_refusing(db: impl PgExecutor<'_>, most: u32) -> Result<u32> {
    let row = sqlx::query!(
        r#"select count(*)::int as "count!"
           from (select from part where state = 'garbage' and last_error is not null limit $1) refusing"#,
        i64::from(most),
    )
    .fetch_one(db)
    .await?;
    Ok(row.count.unsigned_abs())
}
