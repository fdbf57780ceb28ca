//! The table `part`: every object in the store, from before its first byte is written until after it is deleted, and
//! the Parts whose bytes are in the ledger.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use windlass_types::{ByteCount, Crc64, FileId, PartId, PartOrder, ProjectId, UploadId};

use super::{Error, Position, Result, quotas, seconds};
use crate::model::{Limits, Md5Link, Part, ledger_limit};

/// A stored Part and its position in the file.
#[derive(Debug, Clone, Copy)]
pub struct ManifestEntry {
    /// The Part.
    pub part: Part,
    /// The offset of its first byte in the file.
    pub offset: u64,
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

/// A Part to be inserted.
#[derive(Debug, Clone)]
pub struct NewPart {
    /// Id of the Part.
    pub id: PartId,
    /// The Upload it belongs to.
    pub upload: UploadId,
    /// The bytes of a small Part, which are kept in its row; `None` for an object, before it is written.
    pub content: Option<PartContent>,
}

/// The bytes of a Part, received completely.
#[derive(Debug, Clone)]
pub struct PartContent {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their checksum.
    pub crc64: Crc64,
    /// The state of the Upload's MD5 after them, if it is computed.
    pub md5: Option<Md5Link>,
}

/// The result of inserting a Part.
#[derive(Debug, Clone, Copy)]
pub struct InsertedPart {
    /// When the Part was inserted, by the database's clock.
    pub created_at: DateTime<Utc>,
    /// Whether the last completion in its project was sent with an `md5`.
    pub wants_md5: bool,
}

/// Inserts a Part: as `stored` together with its bytes, or as `receiving`, before its object is written. Returns `None`
/// if the project has no such pending Upload, the Upload has the maximum number of Parts or too many bytes
/// ([`Limits::excess_bytes`]), or the Part was inserted already.
pub async fn insert_if_pending(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    part: &NewPart,
    limits: &Limits,
) -> Result<Option<InsertedPart>> {
    let [most_bytes, ..] = quotas::columns(limits.project);
    let most = i64::try_from(PartOrder::MAX_PARTS).unwrap_or(i64::MAX);
    let content = part.content.as_ref();
    let md5 = content.and_then(|it| it.md5.as_ref());
    let inserted = sqlx::query_as!(
        InsertedPart,
        r#"insert into part (id, upload_id, state, bytes, crc64nvme, content, md5_state, md5_follows)
         select $1, upload.id, case when $5::bytea is null then 'receiving' else 'stored' end,
                octet_length($5::bytea), $6, $5, $7, $8
         from pending_upload as upload
         where upload.id = $2 and upload.project_id = $3
           and (select count(*) from part where part.upload_id = $2) < $4
           and (exists (select from project where id = $3 and not is_limited(max_bytes, $9))
                or (select coalesce(sum(bytes), 0) from part where part.upload_id = $2 and state = 'stored')
                   <= 2 * coalesce(upload.bytes, 0)::numeric + $10::bigint)
         for share of upload
         on conflict (id) do nothing
         returning created_at, (select completes_with_md5 from project where project.id = $3) as "wants_md5!""#,
        part.id as PartId,
        part.upload as UploadId,
        project as ProjectId,
        most,
        content.map(|it| it.bytes.as_slice()),
        content.map(|it| it.crc64.to_ledger()),
        md5.map(|it| it.state.as_ref()),
        md5.and_then(|it| it.follows) as Option<PartId>,
        most_bytes,
        ledger_limit(limits.excess_bytes()),
    )
    .fetch_optional(db)
    .await?;
    Ok(inserted)
}

/// Whether an Upload has fewer Parts than the maximum, in any state.
pub async fn may_have_more(db: impl PgExecutor<'_>, upload: UploadId) -> Result<bool> {
    let most = i64::try_from(PartOrder::MAX_PARTS).unwrap_or(i64::MAX);
    let row = sqlx::query!(
        r#"select (select count(*) from part where part.upload_id = $1) < $2 as "may_have_more!""#,
        upload as UploadId,
        most,
    )
    .fetch_one(db)
    .await?;
    Ok(row.may_have_more)
}

/// Records the store's id of the multipart upload for this object, so that another process can abort it if this one
/// dies.
pub async fn set_multipart(db: impl PgExecutor<'_>, part: PartId, multipart: &str) -> Result<()> {
    sqlx::query!("update part set multipart_id = $2 where id = $1 and state = 'receiving'", part as PartId, multipart,)
        .execute(db)
        .await?;
    Ok(())
}

/// Marks a Part as stored, after the store has acknowledged its object. Returns false if its Upload is no longer
/// pending, or the Part is no longer `receiving`.
pub async fn mark_stored(db: impl PgExecutor<'_>, part: &Part, md5: Option<&Md5Link>) -> Result<bool> {
    let outcome = sqlx::query!(
        "with open as (
             select id from pending_upload where id = $2 for share
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

/// Marks an object that did not become a stored Part as garbage, due after `grace`. If it is garbage already, this can
/// only bring the due time forward, since its writer has ended.
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

/// Finds a stored Part by its id.
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

/// The bytes of those of the listed Parts that are in the ledger, in no particular order.
pub async fn list_content(db: impl PgExecutor<'_>, listed: &[PartId]) -> Result<Vec<(PartId, Vec<u8>)>> {
    let rows = sqlx::query!(
        r#"select id, content as "content!" from part where id = any($1) and content is not null"#,
        listed as &[PartId],
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.content)).collect())
}

/// The position of a Part in its Upload's list.
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

/// The Parts of a file that overlap the bytes from `start` to `end` (exclusive), in order, at most `most` of them. Each
/// is looked up by its id, which `limit 1` enforces: a plan cached for a short manifest is reused for a long one.
pub async fn list_covering(
    db: impl PgExecutor<'_>,
    file: FileId,
    start: u64,
    end: u64,
    most: u16,
) -> Result<Vec<ManifestEntry>> {
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
            Ok(ManifestEntry { part: part.try_into()?, offset })
        })
        .collect()
}

/// Those of the Parts that have a row in any state, except Parts whose bytes are in the ledger.
pub async fn list_known(db: impl PgExecutor<'_>, parts: &[PartId]) -> Result<Vec<PartId>> {
    let rows = sqlx::query!("select id from part where id = any($1) and content is null", parts as &[PartId])
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Those of the Parts that have a row and were never stored.
pub async fn list_unfinished(db: impl PgExecutor<'_>, parts: &[PartId]) -> Result<Vec<PartId>> {
    let rows = sqlx::query!("select id from part where id = any($1) and bytes is null", parts as &[PartId])
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// The ids of the newest stored Parts that have an object, at most `limit` of them.
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
            return Err(Error::inconsistent("part", row.id.uuid(), "it is stored without a size or checksum"));
        };
        let (id, upload_id, created_at, in_ledger) = (row.id, row.upload_id, row.created_at, row.in_ledger);
        StoredRow { id, upload_id, bytes, crc64nvme, created_at, in_ledger }.try_into()
    });
    Ok((stored.collect::<Result<_>>()?, last))
}
