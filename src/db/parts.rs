//! The table `part`: every object in the store, from before its first byte until after its end, and the
//! Parts that are in the ledger themselves.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::{Error, Position, Result, seconds};
use crate::domain::{ByteCount, Crc64, FileId, Limits, Md5Link, Part, PartId, ProjectId, UploadId};

/// A stored Part and where its bytes stand in the file.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// The Part.
    pub part: Part,
    /// How many bytes of the file come before it.
    pub offset: u64,
}

/// A Part that is to go.
#[derive(Debug, Clone)]
pub struct Garbage {
    /// Which.
    pub part: PartId,
    /// Whether its bytes go with its row; else there may be an object.
    pub in_ledger: bool,
    /// The half-done multipart upload that may be left of it in the store.
    pub multipart: Option<String>,
    /// Whether it was stored once.
    pub whole: bool,
}

struct StoredRow {
    id: PartId,
    upload_id: UploadId,
    bytes: i64,
    crc64nvme: i64,
    created_at: DateTime<Utc>,
    in_ledger: bool,
}

impl TryFrom<StoredRow> for Part {
    type Error = Error;

    fn try_from(row: StoredRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            upload: row.upload_id,
            bytes: row.bytes.try_into().map_err(|e| Error::inconsistent("part", row.id.uuid(), e))?,
            crc64: Crc64::from_ledger(row.crc64nvme),
            created_at: row.created_at,
            in_ledger: row.in_ledger,
        })
    }
}

/// What is said of a Part that was written down.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// When, by the database's clock.
    pub created_at: DateTime<Utc>,
    /// Whether the last completion in its project came with an `md5`.
    pub wants_md5: bool,
}

/// Writes down the object that a body is about to become; not when the project has no such Upload, it
/// is not pending any more, or it has as many Parts as it may have.
pub async fn insert_if_pending(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    upload: UploadId,
    part: PartId,
) -> Result<Option<Begun>> {
    let most = i64::try_from(Limits::PARTS_PER_UPLOAD).unwrap_or(i64::MAX);
    let begun = sqlx::query_as!(
        Begun,
        r#"insert into part (id, upload_id)
         select $1, upload.id from upload
         where upload.id = $2 and upload.project_id = $3 and upload.status = 'pending' and upload.expires_at > now()
           and (select count(*) from part where part.upload_id = $2) < $4
         for share of upload
         returning created_at, (select completes_with_md5 from project where project.id = $3) as "wants_md5!""#,
        part as PartId,
        upload as UploadId,
        project as ProjectId,
        most,
    )
    .fetch_optional(db)
    .await?;
    Ok(begun)
}

/// Writes down the store's name for the multipart upload that will become this object, so that it
/// can be ended even when this process is not there to do it.
pub async fn set_multipart(db: impl PgExecutor<'_>, part: PartId, multipart: &str) -> Result<()> {
    sqlx::query!("update part set multipart_id = $2 where id = $1 and state = 'receiving'", part as PartId, multipart,)
        .execute(db)
        .await?;
    Ok(())
}

/// Counts an object that the store has acknowledged. Whether it was taken: it is not once its
/// Upload has stopped being pending.
pub async fn mark_stored(db: impl PgExecutor<'_>, part: &Part, md5: Option<&Md5Link>) -> Result<bool> {
    let outcome = sqlx::query!(
        "with open as (
             select id from upload where id = $2 and status = 'pending' and expires_at > now() for share
         )
         update part set state = 'stored', bytes = $3, crc64nvme = $4, md5_state = $5, md5_follows = $6
         from open where part.id = $1 and part.upload_id = open.id and part.state = 'receiving'",
        part.id as PartId,
        part.upload as UploadId,
        part.bytes as ByteCount,
        part.crc64.to_ledger(),
        md5.map(|it| it.state.as_ref()),
        md5.and_then(|it| it.follows) as Option<PartId>,
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Discards an object that did not become a stored Part, sooner than an earlier discard of it would: its writer has
/// ended.
pub async fn abandon(db: impl PgExecutor<'_>, part: PartId, grace: Duration) -> Result<()> {
    sqlx::query!(
        "update part set state = 'garbage', not_before = least(not_before, now() + make_interval(secs => $2))
         where id = $1 and state in ('receiving', 'garbage')",
        part as PartId,
        seconds(grace),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A Part whose bytes must be there.
pub async fn find_stored(db: impl PgExecutor<'_>, part: PartId) -> Result<Option<Part>> {
    sqlx::query_as!(
        StoredRow,
        r#"select id, upload_id, bytes as "bytes!", crc64nvme as "crc64nvme!", created_at,
                  content is not null as "in_ledger!"
           from part where id = $1 and state = 'stored'"#,
        part as PartId,
    )
    .fetch_optional(db)
    .await?
    .map(Part::try_from)
    .transpose()
}

/// All Parts of an Upload that are stored and not discarded, in no particular order.
pub async fn list_stored(db: impl PgExecutor<'_>, upload: UploadId) -> Result<Vec<Part>> {
    sqlx::query_as!(
        StoredRow,
        r#"select id, upload_id, bytes as "bytes!", crc64nvme as "crc64nvme!", created_at,
                  content is not null as "in_ledger!"
           from part where upload_id = $1 and state = 'stored'
             and (not exists (select from unfinished_discard where upload_id = $1)
                  or id in (select unnest(manifest) from file where file.id = $1 and deleted_at is null))"#,
        upload as UploadId,
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Part::try_from)
    .collect()
}

/// Where a Part stands in its Upload's list.
pub async fn find_position(db: impl PgExecutor<'_>, upload: UploadId, part: PartId) -> Result<Option<Position>> {
    let row = sqlx::query!(
        "select created_at from part where id = $1 and upload_id = $2",
        part as PartId,
        upload as UploadId,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Position { created_at: row.created_at, id: part.uuid() }))
}

/// The Parts of an Upload that are stored and not discarded, the oldest first, after a position in the list, at most
/// `rows` of them.
pub async fn list(db: impl PgExecutor<'_>, upload: UploadId, after: Option<Position>, rows: i64) -> Result<Vec<Part>> {
    let after = after.unwrap_or(Position::FIRST);
    sqlx::query_as!(
        StoredRow,
        r#"select id, upload_id, bytes as "bytes!", crc64nvme as "crc64nvme!", created_at,
                  content is not null as "in_ledger!"
           from part
           where upload_id = $1 and (created_at, id) > ($2, $3) and state = 'stored'
             and (not exists (select from unfinished_discard where upload_id = $1)
                  or id in (select unnest(manifest) from file where file.id = $1 and deleted_at is null))
           order by created_at, id limit $4"#,
        upload as UploadId,
        after.created_at,
        after.id,
        rows,
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Part::try_from)
    .collect()
}

/// The Parts of a file that hold any of the bytes from `start` up to (not including) `end`, in order, and no more than
/// `most` of them. Each is looked up by its id (`limit 1` holds the planner to that): a plan for a short manifest is
/// used for a long one as well.
pub async fn list_covering(
    db: impl PgExecutor<'_>,
    file: FileId,
    start: u64,
    end: u64,
    most: u16,
) -> Result<Vec<Placed>> {
    let bound = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    let rows = sqlx::query!(
        r#"select found.id as "id!", upload_id as "upload_id!", bytes as "bytes!", crc64nvme as "crc64nvme!",
                  created_at as "created_at!", in_ledger as "in_ledger!", begins as "begins!"
           from (select manifest[first:last] as part_ids, offsets[first:last] as starts
                 from (select manifest, offsets, first, least(last, first + $4::int - 1) as last
                       from (select manifest, offsets, width_bucket($2::bigint, offsets) as first,
                                    width_bucket($3::bigint - 1, offsets) as last
                             from file where id = $1) whole) some_of_it) covering,
                unnest(part_ids, starts) as listed (part_id, begins),
                lateral (select *, content is not null as in_ledger from part where id = part_id limit 1) found
           order by begins"#,
        file as FileId,
        bound(start),
        bound(end),
        i32::from(most),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let part = StoredRow {
                id: row.id,
                upload_id: row.upload_id,
                bytes: row.bytes,
                crc64nvme: row.crc64nvme,
                created_at: row.created_at,
                in_ledger: row.in_ledger,
            };
            let offset = u64::try_from(row.begins).map_err(|e| Error::inconsistent("file", file.uuid(), e))?;
            Ok(Placed { part: part.try_into()?, offset })
        })
        .collect()
}

/// Claims garbage that is due, the oldest first. The time of the next attempt is recorded before this one, with a
/// growing delay (20 s, doubled up to an hour), so that another process takes over if this one dies or fails.
///
/// Parts that were stored completely and not tried before may be claimed up to `early` before they are due, since no
/// writer can still be writing them.
pub async fn claim_garbage(db: impl PgExecutor<'_>, limit: u16, early: Duration) -> Result<Vec<Garbage>> {
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

/// Removes the rows of objects that are gone from the store, and of Parts that never had one.
pub async fn delete_collected(db: impl PgExecutor<'_>, parts: &[PartId]) -> Result<u64> {
    let outcome = sqlx::query!("delete from part where id = any($1) and state = 'garbage'", parts as &[PartId])
        .execute(db)
        .await?;
    Ok(outcome.rows_affected())
}

/// Writes down why an object could not be deleted.
pub async fn set_last_error(db: impl PgExecutor<'_>, part: PartId, error: &str) -> Result<()> {
    // A store may send any text, and Postgres does not accept NUL in a `text`.
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

/// Those of the objects that have a row, whatever it says but that the bytes are in itself.
pub async fn list_known(db: impl PgExecutor<'_>, parts: &[PartId]) -> Result<Vec<PartId>> {
    let rows = sqlx::query!("select id from part where id = any($1) and content is null", parts as &[PartId])
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Those of the objects that have a row, and were never stored.
pub async fn list_unfinished(db: impl PgExecutor<'_>, parts: &[PartId]) -> Result<Vec<PartId>> {
    let rows = sqlx::query!("select id from part where id = any($1) and bytes is null", parts as &[PartId])
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// A sample of the stored Parts that have an object: the newest ones.
pub async fn sample_objects(db: impl PgExecutor<'_>, limit: u16) -> Result<Vec<PartId>> {
    let rows = sqlx::query!(
        "select id from part where state = 'stored' and content is null order by id desc limit $1",
        i64::from(limit),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// The stored Parts among the next `limit` Parts in the order of their ids, starting after `after`, and the id of the
/// last Part read. The limit bounds the rows read, however many of them are not stored.
pub async fn list_all_stored(
    db: impl PgExecutor<'_>,
    after: PartId,
    limit: u16,
) -> Result<(Vec<Part>, Option<PartId>)> {
    let rows = sqlx::query!(
        r#"select id, upload_id, bytes, crc64nvme, created_at, content is not null as "in_ledger!",
                  state = 'stored' as "is_stored!"
           from (select * from part where id > $1 order by id limit $2) batch order by id"#,
        after as PartId,
        i64::from(limit),
    )
    .fetch_all(db)
    .await?;
    let last = rows.last().map(|row| row.id);
    let stored = rows.into_iter().filter(|row| row.is_stored).map(|row| {
        let (Some(bytes), Some(crc64nvme)) = (row.bytes, row.crc64nvme) else {
            return Err(Error::inconsistent("part", row.id.uuid(), "stored without its size"));
        };
        let (id, upload_id, created_at, in_ledger) = (row.id, row.upload_id, row.created_at, row.in_ledger);
        StoredRow { id, upload_id, bytes, crc64nvme, created_at, in_ledger }.try_into()
    });
    Ok((stored.collect::<Result<_>>()?, last))
}
