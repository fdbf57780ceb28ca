//! Marks the Parts of ended Uploads and deleted Files as garbage, in bounded batches; the table `unfinished_discard` is
//! the queue of Uploads with Parts left to mark.

use std::time::Duration;

use sqlx::PgExecutor;

use super::{Result, Tx, seconds};
use crate::domain::UploadId;

/// When discarded Parts may be deleted, and how many are discarded per statement.
#[derive(Debug, Clone, Copy)]
pub struct Discard {
    /// How long a stored Part is kept.
    pub grace: Duration,
    /// How long after its row was created a Part may still be uploading.
    pub writer_lifetime: Duration,
    /// The maximum number of Parts per statement.
    pub batch: u16,
}

/// Marks Parts of Uploads that have just ended, or whose Files have just been deleted, as garbage. This happens in the
/// same transaction, which holds the lock on the row of the Upload or File. If a batch is not enough, the remaining
/// Uploads are queued for [`continue_batch`]; Uploads that are already queued are left to it.
pub async fn discard(tx: &mut Tx, uploads: &[UploadId], how: Discard) -> Result<()> {
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
             update part set state = 'garbage',
                 not_before = case state when 'stored' then now() + make_interval(secs => $2)
                                         else greatest(now(), created_at + make_interval(secs => $3)) end
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

/// Marks the next Parts of queued Uploads, whose rows must be locked, as garbage, except those of an existing File.
/// Uploads without further Parts are removed from the queue. Returns the number of Parts marked.
pub async fn continue_batch(tx: &mut Tx, uploads: &[UploadId], how: Discard) -> Result<u64> {
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
             update part set state = 'garbage',
                 not_before = case state when 'stored' then now() + make_interval(secs => $2)
                                         else greatest(now(), created_at + make_interval(secs => $3)) end
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
