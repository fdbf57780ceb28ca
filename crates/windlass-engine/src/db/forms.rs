//! The Uploads of `POST /v1/files` in the table `upload`: hidden from clients, and declared only once their bodies have
//! ended. Until then, their `bytes` are what is reserved of the project's quota.

use std::time::Duration;

use sqlx::PgExecutor;
use windlass_types::{ByteCount, FileLifetime, ProjectId, UploadId};

use super::{Result, quotas, seconds};
use crate::model::{ProjectLimits, QuotaExceeded, UploadSpec};

/// The outcome of a change that needs space in the project's quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Done,
    /// The Upload is not pending.
    NotPending,
    /// It would exceed a quota, so nothing was changed.
    Refused(QuotaExceeded),
}

/// Inserts an Upload before its body is read, with `reserved` bytes, unless that exceeds a quota of its project, given
/// the default limits.
pub async fn insert(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    id: UploadId,
    reserved: ByteCount,
    lifetime: Duration,
    limits: ProjectLimits,
) -> Result<Change> {
    let [most_bytes, most_uploads, most_files] = quotas::columns(limits);
    let refused = sqlx::query!(
        r#"with limited as materialized (
             select from project
             where id = $2 and (is_limited(max_bytes, $5) or is_limited(max_files, $7))
         ), refused as materialized (
             select refusal.*
             from limited,
                  quota_refusals(array[$1::uuid], array[$2::uuid], array[$3::bigint], 0, 1, $5, $6, $7) refusal
         ), inserted as (
             insert into upload (id, project_id, origin, bytes, expires_at)
             select $1::uuid, $2::uuid, 'form', $3::bigint, now() + make_interval(secs => $4)
             where not exists (select from refused)
         )
         select quota, used, most from refused"#,
        id as UploadId,
        project as ProjectId,
        reserved as ByteCount,
        seconds(lifetime),
        most_bytes,
        most_uploads,
        most_files,
    )
    .fetch_optional(db)
    .await?;
    let refused = refused.map(|it| quotas::exceeded(it.quota, it.used, it.most, id)).transpose()?;
    Ok(refused.map_or(Change::Done, Change::Refused))
}

/// Whether the project has a limit on its bytes, given the default.
pub async fn has_limited_bytes(db: impl PgExecutor<'_>, project: ProjectId, limits: ProjectLimits) -> Result<bool> {
    let [most_bytes, ..] = quotas::columns(limits);
    let row = sqlx::query!(
        r#"select is_limited(max_bytes, $2) as "limited!" from project where id = $1"#,
        project as ProjectId,
        most_bytes,
    )
    .fetch_one(db)
    .await?;
    Ok(row.limited)
}

/// Reserves bytes for an Upload of which more arrives than it has reserved, unless that exceeds the project's quota.
pub async fn reserve(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    id: UploadId,
    bytes: ByteCount,
    limits: ProjectLimits,
) -> Result<Change> {
    let [most_bytes, ..] = quotas::columns(limits);
    let row = sqlx::query!(
        r#"with growing as materialized (
             select id, project_id, $3::bigint - coalesce(bytes, 0) as more from pending_upload
             where id = $1 and project_id = $2 and origin = 'form'
         ), refused as materialized (
             select refusal.* from growing,
                    quota_refusals(array[id], array[project_id], array[more], 0, 0, $4, null, null) refusal
             where more > 0
         ), grown as (
             update pending_upload set bytes = $3::bigint where id = $1 and not exists (select from refused)
         )
         select exists (select from growing) as "is_pending!", quota as "quota?", used as "used?", most as "most?"
         from (select) one left join refused on true"#,
        id as UploadId,
        project as ProjectId,
        bytes as ByteCount,
        most_bytes,
    )
    .fetch_one(db)
    .await?;
    change(row.is_pending, row.quota, row.used, row.most, id)
}

/// Declares an Upload once its body has been read, unless it is not pending, or larger than what is reserved and exceeds
/// the project's quota.
pub async fn declare(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    id: UploadId,
    it: &UploadSpec,
    limits: ProjectLimits,
) -> Result<Change> {
    let [most_bytes, ..] = quotas::columns(limits);
    let row = sqlx::query!(
        r#"with growing as materialized (
             select id, project_id, $6::bigint - coalesce(bytes, 0) as more from pending_upload
             where id = $1 and project_id = $2 and origin = 'form'
         ), refused as materialized (
             select refusal.* from growing,
                    quota_refusals(array[id], array[project_id], array[more], 0, 0, $8, null, null) refusal
             where more > 0
         ), declared as (
             update pending_upload
             set filename = $3, purpose = $4, mime_type = $5, bytes = $6::bigint, file_lifetime_seconds = $7
             where id = $1 and project_id = $2 and origin = 'form' and not exists (select from refused)
             returning id
         )
         select exists (select from declared) or exists (select from refused) as "is_pending!",
                quota as "quota?", used as "used?", most as "most?"
         from (select) one left join refused on true"#,
        id as UploadId,
        project as ProjectId,
        it.filename.as_str(),
        it.purpose.as_str(),
        it.mime_type.as_str(),
        it.bytes as ByteCount,
        it.file_lifetime.map(FileLifetime::seconds),
        most_bytes,
    )
    .fetch_one(db)
    .await?;
    change(row.is_pending, row.quota, row.used, row.most, id)
}

fn change(
    is_pending: bool,
    quota: Option<String>,
    used: Option<i64>,
    most: Option<i64>,
    id: UploadId,
) -> Result<Change> {
    Ok(match quota {
        Some(_) => Change::Refused(quotas::exceeded(quota, used, most, id)?),
        None if is_pending => Change::Done,
        None => Change::NotPending,
    })
}
