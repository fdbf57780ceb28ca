//! The Parts of what has ended become garbage, a bounded number at a time; the table `unfinished_discard` is the
//! queue of Uploads that have more.

use std::time::Duration;

use sqlx::PgExecutor;

use super::{Result, Tx, seconds};
use crate::domain::UploadId;

/// When discarded Parts may go, and how many are discarded by one statement.
#[derive(Debug, Clone, Copy)]
pub struct Discard {
    /// How long a stored Part is kept.
    pub grace: Duration,
    /// How long after its row was written a Part may still be on its way.
    pub writer_lifetime: Duration,
    /// The most Parts of one statement.
    pub batch: u16,
}

/// Marks Parts of Uploads that have just ended, or whose Files have just been deleted, as garbage: in the same
/// transaction, which holds the lock of the Upload's or the File's row. Where they are more than a batch, the
/// Uploads with more are queued for [`continue_batch`]; so are those that are in the queue already.
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

/// Whether any Upload is in the queue.
pub async fn any_queued(db: impl PgExecutor<'_>) -> Result<bool> {
    let row = sqlx::query!(r#"select exists (select from unfinished_discard) as "any!""#).fetch_one(db).await?;
    Ok(row.any)
}

/// Locks the oldest Uploads of the queue; passes over those in other hands.
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

/// Marks the next Parts of Uploads that are in the queue, and locked, as garbage: what is in no File that is there.
/// Uploads without more leave the queue. Gives the number of Parts.
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
