//! What the ledger holds in total, and what the sweep still has to do, for the metrics. Every statement reads a bounded
//! number of rows of an index that contains only rows of this kind.

use sqlx::PgExecutor;

use super::Result;

/// Pending Uploads.
#[derive(Debug, Clone, Copy)]
pub struct PendingUploads {
    /// Their declared or reserved bytes.
    pub bytes: f64,
    /// How many are past their expiry.
    pub due: u32,
}

/// Parts in state `garbage`: only they have a `not_before`, or a `last_error`.
#[derive(Debug, Clone, Copy)]
pub struct GarbageParts {
    /// Their bytes. Those of a Part that was never stored are unknown, and count as none.
    pub bytes: f64,
    /// How many may be deleted now.
    pub due: u32,
}

/// The bytes that all projects use: those of Files, and those that pending Uploads declare or reserve.
pub async fn sum_used_bytes(db: impl PgExecutor<'_>) -> Result<f64> {
    let row =
        sqlx::query!(r#"select coalesce(sum(bytes), 0)::float8 as "bytes!" from usage_counter"#).fetch_one(db).await?;
    Ok(row.bytes.max(0.0))
}

/// The pending Uploads that expire first, at most this many.
pub async fn sum_pending(db: impl PgExecutor<'_>, most: u32) -> Result<PendingUploads> {
    let row = sqlx::query!(
        r#"select coalesce(sum(bytes), 0)::float8 as "bytes!",
                  (count(*) filter (where expires_at <= now()))::int as "due!"
           from (select bytes, expires_at from upload where status = 'pending'
                 order by expires_at limit $1) pending"#,
        i64::from(most),
    )
    .fetch_one(db)
    .await?;
    Ok(PendingUploads { bytes: row.bytes, due: row.due.unsigned_abs() })
}

/// The garbage that is due first, at most this many Parts.
pub async fn sum_garbage(db: impl PgExecutor<'_>, most: u32) -> Result<GarbageParts> {
    let row = sqlx::query!(
        r#"select coalesce(sum(bytes), 0)::float8 as "bytes!",
                  (count(*) filter (where not_before <= now()))::int as "due!"
           from (select bytes, not_before from part where not_before is not null
                 order by not_before limit $1) garbage"#,
        i64::from(most),
    )
    .fetch_one(db)
    .await?;
    Ok(GarbageParts { bytes: row.bytes, due: row.due.unsigned_abs() })
}

/// How many Files are past their expiry, counting at most `most`.
pub async fn count_due_files(db: impl PgExecutor<'_>, most: u32) -> Result<u32> {
    let row = sqlx::query!(
        r#"select count(*)::int as "due!"
           from (select from file where deleted_at is null and expires_at <= now() limit $1) expired"#,
        i64::from(most),
    )
    .fetch_one(db)
    .await?;
    Ok(row.due.unsigned_abs())
}

/// How many seconds ago the oldest garbage became garbage: when its File was deleted, or else its Upload ended, or else
/// it was created. `None` if there is no garbage. Looks at `candidates` Parts that could not be deleted, and at as many
/// that are due first.
pub async fn find_age_of_oldest_garbage(db: impl PgExecutor<'_>, candidates: u32) -> Result<Option<f64>> {
    let row = sqlx::query!(
        "select extract(epoch from now() - min(coalesce(file.deleted_at, upload.ended_at, oldest.created_at)))::float8
                as age
         from ((select upload_id, created_at from part where not_before is not null order by not_before limit $1)
               union all
               (select upload_id, created_at from part where last_error is not null order by id limit $1)) oldest
         join upload on upload.id = oldest.upload_id
         left join file on file.id = oldest.upload_id",
        i64::from(candidates),
    )
    .fetch_one(db)
    .await?;
    Ok(row.age)
}
