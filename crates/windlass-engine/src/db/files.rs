//! The table `file`: the Files that completed Uploads produced, with their manifests.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use windlass_types::{ByteCount, Crc64, FileId, Md5, Order, PartId, ProjectId, Sha256, Sha512, UploadId};

use super::garbage::GarbagePolicy;
use super::{Error, Position, Result, Tx, seconds};
use crate::model::{CompletionPlan, DigestAlgorithm, Digests, File};

/// Selects existing Files: neither deleted nor expired, whether or not the sweeper has processed the expiry.
macro_rules! select_file {
    ($tail:literal, $($bind:tt)*) => {
        sqlx::query_as!(
            FileColumns,
            "select id, filename, purpose, mime_type, bytes, crc64nvme, md5, sha256, sha512, created_at, expires_at
             from file
             where deleted_at is null and (expires_at is null or expires_at > now()) and " + $tail,
            $($bind)*
        )
    };
}

/// The columns of a File, before validation.
pub(super) struct FileColumns {
    pub id: FileId,
    pub filename: String,
    pub purpose: String,
    pub mime_type: String,
    pub bytes: i64,
    pub crc64nvme: i64,
    pub md5: Option<Vec<u8>>,
    pub sha256: Option<Vec<u8>>,
    pub sha512: Option<Vec<u8>>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
}

impl TryFrom<FileColumns> for File {
    type Error = Error;

    fn try_from(row: FileColumns) -> Result<Self> {
        let bad = |reason: &str| Error::inconsistent("file", row.id.uuid(), reason);
        Ok(Self {
            id: row.id,
            filename: row.filename.parse().map_err(|_| bad("filename"))?,
            purpose: row.purpose.parse().map_err(|_| bad("purpose"))?,
            mime_type: row.mime_type.parse().map_err(|_| bad("mime_type"))?,
            bytes: row.bytes.try_into().map_err(|_| bad("bytes"))?,
            crc64: Crc64::from_ledger(row.crc64nvme),
            digests: Digests {
                md5: row.md5.as_deref().map(Md5::try_from).transpose().map_err(|_| bad("md5"))?,
                sha256: row.sha256.as_deref().map(Sha256::try_from).transpose().map_err(|_| bad("sha256"))?,
                sha512: row
                    .sha512
                    .as_deref()
                    .map(|it| Sha512::try_from(it).map(Box::new))
                    .transpose()
                    .map_err(|_| bad("sha512"))?,
            },
            created_at: row.created_at,
            expires_at: row.expires_at,
        })
    }
}

/// Completes a pending Upload. A single statement inserts the File with its manifest, marks the unused Parts as garbage
/// (like `garbage::discard`), and ends the Upload. The File's `created_at` is the Upload's, as in the contract. For an
/// Upload created by a client, the project records whether an `md5` was sent. The caller must hold the lock on the
/// Upload's row.
pub async fn complete_upload(
    tx: &mut Tx,
    project: ProjectId,
    plan: &CompletionPlan,
    digests: &Digests,
    discard: GarbagePolicy,
) -> Result<File> {
    let upload = plan.upload();
    let it = &upload.spec;
    let lifetime = plan.file_lifetime().map(|it| Duration::from_secs(it.seconds().unsigned_abs()));
    let (manifest, offsets): (Vec<PartId>, Vec<ByteCount>) = plan.manifest().unzip();
    sqlx::query_as!(
        FileColumns,
        "with not_listed as materialized (
             select id from part where upload_id = $1 and state in ('receiving', 'stored')
             except select unnest($8::uuid[])
             limit $16::bigint + 1
         ), left_over as (
             update part set state = 'garbage', not_before = garbage_due(state, created_at, $14, $15)
             from (select id from not_listed limit $16::bigint) batch
             where part.id = batch.id
         ), queued as (
             insert into unfinished_discard (upload_id) select $1 where (select count(*) from not_listed) > $16::bigint
         ), other_than_before as (
             update project set completes_with_md5 = $11::bytea is not null
             from upload
             where upload.id = $1 and upload.origin = 'client' and project.id = $3
               and project.completes_with_md5 <> ($11::bytea is not null)
         ), ended as (
             update upload set status = 'completed', ended_at = now() where id = $1 and status = 'pending'
         )
         insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, md5,
                           created_at, expires_at, sha256, sha512)
         values ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::timestamptz,
                 $12::timestamptz + make_interval(secs => $13), $17, $18)
         returning id, filename, purpose, mime_type, bytes, crc64nvme, md5, sha256, sha512, created_at, expires_at",
        upload.id as UploadId,
        upload.id.file() as FileId,
        project as ProjectId,
        it.filename.as_str(),
        it.purpose.as_str(),
        it.mime_type.as_str(),
        it.bytes as ByteCount,
        &manifest as &[PartId],
        &offsets as &[ByteCount],
        plan.crc64().to_ledger(),
        digests.get(DigestAlgorithm::Md5),
        upload.created_at,
        lifetime.map(seconds),
        seconds(discard.grace),
        seconds(discard.writer_lifetime),
        i64::from(discard.batch),
        digests.get(DigestAlgorithm::Sha256),
        digests.get(DigestAlgorithm::Sha512),
    )
    .fetch_one(tx)
    .await?
    .try_into()
}

/// The ids of a File's Parts in file order, even if the File is deleted. Empty if there is no such File.
pub async fn find_manifest(db: impl PgExecutor<'_>, file: FileId) -> Result<Vec<PartId>> {
    let row = sqlx::query!(r#"select manifest as "manifest: Vec<PartId>" from file where id = $1"#, file as FileId)
        .fetch_optional(db)
        .await?;
    Ok(row.map(|row| row.manifest).unwrap_or_default())
}

/// Finds an existing File of the project by its id.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId, id: FileId) -> Result<Option<File>> {
    select_file!("id = $1 and project_id = $2", id as FileId, project as ProjectId,)
        .fetch_optional(db)
        .await?
        .map(File::try_from)
        .transpose()
}

/// The position of a File in the project's list, even if the File is deleted: a client that deletes Files while paging
/// keeps its place.
pub async fn find_position(db: impl PgExecutor<'_>, project: ProjectId, id: FileId) -> Result<Option<Position>> {
    let row = sqlx::query!(
        "select created_at from file where id = $1 and project_id = $2",
        id as FileId,
        project as ProjectId,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Position { created_at: row.created_at, id: id.uuid() }))
}

/// Lists the project's existing Files after a position, at most `rows` of them.
pub async fn list(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    purpose: Option<&str>,
    after: Option<Position>,
    order: Order,
    rows: i64,
) -> Result<Vec<File>> {
    let after = after.unwrap_or_else(|| match order {
        Order::Ascending => Position::FIRST,
        Order::Descending => Position::last(),
    });
    let rows = match (purpose, order) {
        (None, Order::Ascending) => {
            select_file!(
                "project_id = $1 and (created_at, id) > ($2, $3) order by created_at, id limit $4",
                project as ProjectId,
                after.created_at,
                after.id,
                rows,
            )
            .fetch_all(db)
            .await?
        }
        (None, Order::Descending) => {
            select_file!(
                "project_id = $1 and (created_at, id) < ($2, $3) order by created_at desc, id desc limit $4",
                project as ProjectId,
                after.created_at,
                after.id,
                rows,
            )
            .fetch_all(db)
            .await?
        }
        (Some(purpose), Order::Ascending) => {
            select_file!(
                "project_id = $1 and purpose = $2 and (created_at, id) > ($3, $4) order by created_at, id limit $5",
                project as ProjectId,
                purpose,
                after.created_at,
                after.id,
                rows,
            )
            .fetch_all(db)
            .await?
        }
        (Some(purpose), Order::Descending) => {
            select_file!(
                "project_id = $1 and purpose = $2 and (created_at, id) < ($3, $4) order by created_at desc, id desc limit $5",
                project as ProjectId,
                purpose,
                after.created_at,
                after.id,
                rows,
            )
            .fetch_all(db)
            .await?
        }
    };
    rows.into_iter().map(File::try_from).collect()
}

/// Marks a File as deleted. Returns false if there is no such File, or it is deleted or expired already.
pub async fn mark_deleted(tx: &mut Tx, project: ProjectId, id: FileId) -> Result<bool> {
    let outcome = sqlx::query!(
        "update file set deleted_at = now()
         where id = $1 and project_id = $2 and deleted_at is null and (expires_at is null or expires_at > now())",
        id as FileId,
        project as ProjectId,
    )
    .execute(tx)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Marks expired Files as deleted, the earliest expiry first, and returns their ids. Skips those that are locked.
pub async fn mark_expired(tx: &mut Tx, limit: u16) -> Result<Vec<FileId>> {
    let rows = sqlx::query!(
        "with due as (
             select id from file where deleted_at is null and expires_at <= now()
             order by expires_at limit $1 for update skip locked
         )
         update file set deleted_at = now() from due where file.id = due.id
         returning file.id",
        i64::from(limit),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Deletes the rows of Files that were deleted more than `after` ago and have no Parts left. Returns their ids.
pub async fn delete_gone(tx: &mut Tx, after: Duration, limit: u16) -> Result<Vec<FileId>> {
    let rows = sqlx::query!(
        "with gone as (
             select id from file
             where deleted_at is not null and deleted_at < now() - make_interval(secs => $1)
               and not exists (select from part where part.upload_id = file.id)
               and not exists (select from unfinished_discard where unfinished_discard.upload_id = file.id)
             order by deleted_at limit $2 for update skip locked
         )
         delete from file using gone where file.id = gone.id
         returning file.id",
        seconds(after),
        i64::from(limit),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
