//! The table `upload`: declarations of files, and the state of their Uploads.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use windlass_types::{FileLifetime, Order, ProjectId, UploadId};

use super::files::FileColumns;
use super::{Error, Position, Result, Tx, seconds};
use crate::model::{Upload, UploadSpec, UploadState};

/// How an Upload was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// By `POST /v1/uploads`.
    Client,
    /// By `POST /v1/files`, hidden from clients.
    Form,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Form => "form",
        }
    }
}

/// Selects Uploads with their Files, if those still exist. A pending Upload past its expiry is reported as expired,
/// whether or not the sweeper has processed it.
macro_rules! select_upload {
    ($tail:literal, $($bind:tt)*) => {
        sqlx::query_as!(
            Row,
            "select upload.id, upload.filename, upload.purpose, upload.mime_type, upload.bytes,
                    upload.file_lifetime_seconds, upload.created_at, upload.expires_at,
                    case when upload.status = 'pending' and upload.expires_at <= now() then 'expired'
                         else upload.status end as \"status!\",
                    file.filename as \"file_filename?\", file.purpose as \"file_purpose?\",
                    file.mime_type as \"file_mime_type?\", file.bytes as \"file_bytes?\",
                    file.crc64nvme as \"file_crc64nvme?\", file.md5 as \"file_md5?\",
                    file.sha256 as \"file_sha256?\", file.sha512 as \"file_sha512?\",
                    file.created_at as \"file_created_at?\", file.expires_at as \"file_expires_at?\"
             from upload
             left join file on file.id = upload.id and file.deleted_at is null
                            and (file.expires_at is null or file.expires_at > now())
             " + $tail,
            $($bind)*
        )
    };
}

struct Row {
    id: UploadId,
    filename: Option<String>,
    purpose: Option<String>,
    mime_type: Option<String>,
    bytes: Option<i64>,
    file_lifetime_seconds: Option<i64>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    status: String,
    file_filename: Option<String>,
    file_purpose: Option<String>,
    file_mime_type: Option<String>,
    file_bytes: Option<i64>,
    file_crc64nvme: Option<i64>,
    file_md5: Option<Vec<u8>>,
    file_sha256: Option<Vec<u8>>,
    file_sha512: Option<Vec<u8>>,
    file_created_at: Option<DateTime<Utc>>,
    file_expires_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Upload {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let bad = |reason: &str| Error::inconsistent("upload", row.id.uuid(), reason);
        let file = match (
            row.file_filename,
            row.file_purpose,
            row.file_mime_type,
            row.file_bytes,
            row.file_crc64nvme,
            row.file_created_at,
        ) {
            (Some(filename), Some(purpose), Some(mime_type), Some(bytes), Some(crc64nvme), Some(created_at)) => Some(
                FileColumns {
                    id: row.id.file(),
                    filename,
                    purpose,
                    mime_type,
                    bytes,
                    crc64nvme,
                    md5: row.file_md5,
                    sha256: row.file_sha256,
                    sha512: row.file_sha512,
                    created_at,
                    expires_at: row.file_expires_at,
                }
                .try_into()?,
            ),
            _ => None,
        };
        let status = match (row.status.as_str(), file) {
            ("pending", None) => UploadState::Pending,
            ("completed", file) => UploadState::Completed(file),
            ("cancelled", None) => UploadState::Cancelled,
            ("expired", None) => UploadState::Expired,
            _ => return Err(bad("status")),
        };
        let (Some(filename), Some(purpose), Some(mime_type), Some(bytes)) =
            (row.filename, row.purpose, row.mime_type, row.bytes)
        else {
            return Err(bad("not declared"));
        };
        let spec = UploadSpec {
            filename: filename.parse().map_err(|_| bad("filename"))?,
            purpose: purpose.parse().map_err(|_| bad("purpose"))?,
            mime_type: mime_type.parse().map_err(|_| bad("mime_type"))?,
            bytes: bytes.try_into().map_err(|_| bad("bytes"))?,
            file_lifetime: row
                .file_lifetime_seconds
                .map(FileLifetime::try_from)
                .transpose()
                .map_err(|_| bad("file_lifetime_seconds"))?,
        };
        Ok(Self { id: row.id, spec, state: status, created_at: row.created_at, expires_at: row.expires_at })
    }
}

/// Finds an Upload of the project by its id, unless it belongs to a form.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId, id: UploadId) -> Result<Option<Upload>> {
    select_upload!(
        "where upload.id = $1 and upload.project_id = $2 and upload.origin = 'client'",
        id as UploadId,
        project as ProjectId,
    )
    .fetch_optional(db)
    .await?
    .map(Upload::try_from)
    .transpose()
}

/// Finds an Upload of the project by its id, and locks its row until the transaction ends.
pub async fn lock(tx: &mut Tx, project: ProjectId, id: UploadId, origin: Origin) -> Result<Option<Upload>> {
    let locked = select_upload!(
        "where upload.id = $1 and upload.project_id = $2 and upload.origin = $3 for update of upload",
        id as UploadId,
        project as ProjectId,
        origin.as_str(),
    )
    .fetch_optional(&mut *tx)
    .await?
    .map(Upload::try_from)
    .transpose()?;
    match locked {
        Some(Upload { state: UploadState::Completed(None), .. }) => read_again(tx, project, id, origin).await,
        it => Ok(it),
    }
}

/// Reads an Upload again, whose row is locked. If the first statement had to wait for the lock, it returned the Upload
/// as it was after the wait, but the File as it was before, when there was none.
async fn read_again(tx: &mut Tx, project: ProjectId, id: UploadId, origin: Origin) -> Result<Option<Upload>> {
    select_upload!(
        "where upload.id = $1 and upload.project_id = $2 and upload.origin = $3",
        id as UploadId,
        project as ProjectId,
        origin.as_str(),
    )
    .fetch_optional(&mut *tx)
    .await?
    .map(Upload::try_from)
    .transpose()
}

/// The position of an Upload of the project in its list.
pub async fn find_position(db: impl PgExecutor<'_>, project: ProjectId, id: UploadId) -> Result<Option<Position>> {
    let row = sqlx::query!(
        "select created_at from upload where id = $1 and project_id = $2 and origin = 'client'",
        id as UploadId,
        project as ProjectId,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Position { created_at: row.created_at, id: id.uuid() }))
}

/// Lists the project's Uploads after a position, at most `rows` of them.
pub async fn list(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    after: Option<Position>,
    order: Order,
    rows: i64,
) -> Result<Vec<Upload>> {
    let rows = match order {
        Order::Ascending => {
            let after = after.unwrap_or(Position::FIRST);
            select_upload!(
                "where upload.project_id = $1 and upload.origin = 'client' and (upload.created_at, upload.id) > ($2, $3)
                 order by upload.created_at, upload.id limit $4",
                project as ProjectId,
                after.created_at,
                after.id,
                rows,
            )
            .fetch_all(db)
            .await?
        }
        Order::Descending => {
            let after = after.unwrap_or_else(Position::last);
            select_upload!(
                "where upload.project_id = $1 and upload.origin = 'client' and (upload.created_at, upload.id) < ($2, $3)
                 order by upload.created_at desc, upload.id desc limit $4",
                project as ProjectId,
                after.created_at,
                after.id,
                rows,
            )
            .fetch_all(db)
            .await?
        }
    };
    rows.into_iter().map(Upload::try_from).collect()
}

/// Cancels a pending Upload. Returns whether it was pending and not expired.
pub async fn mark_cancelled(tx: &mut Tx, project: ProjectId, id: UploadId, origin: Origin) -> Result<bool> {
    let outcome = sqlx::query!(
        "update pending_upload set status = 'cancelled', ended_at = now() where id = $1 and project_id = $2 and origin = $3",
        id as UploadId,
        project as ProjectId,
        origin.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Ends expired pending Uploads, the earliest expiry first, and returns their ids. Skips those that are locked.
pub async fn mark_expired(tx: &mut Tx, limit: u16) -> Result<Vec<UploadId>> {
    let rows = sqlx::query!(
        "with due as (
             select id from upload where status = 'pending' and expires_at <= now()
             order by expires_at limit $1 for update skip locked
         )
         update upload set status = 'expired', ended_at = now() from due where upload.id = due.id
         returning upload.id",
        i64::from(limit),
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Deletes the rows of Uploads that were cancelled or expired more than `after` ago and have no Parts left. Returns the
/// number of rows.
pub async fn delete_ended(db: impl PgExecutor<'_>, after: Duration, limit: u16) -> Result<u64> {
    let outcome = sqlx::query!(
        "with gone as (
             select id from upload
             where status in ('cancelled', 'expired') and ended_at < now() - make_interval(secs => $1)
               and not exists (select from part where part.upload_id = upload.id)
               and not exists (select from unfinished_discard where unfinished_discard.upload_id = upload.id)
             order by ended_at limit $2 for update skip locked
         )
         delete from upload using gone where upload.id = gone.id",
        seconds(after),
        i64::from(limit),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected())
}

/// Deletes the rows of the completed Uploads whose Files' rows have just been deleted.
pub async fn delete_completed(tx: &mut Tx, ids: &[UploadId]) -> Result<()> {
    sqlx::query!("delete from upload where id = any($1) and status = 'completed'", ids as &[UploadId])
        .execute(&mut *tx)
        .await?;
    Ok(())
}
