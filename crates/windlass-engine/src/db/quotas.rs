//! What projects use, and how much they may use: the table `usage_counter`, which triggers maintain, and the limits in
//! the table `project`.

use sqlx::{Executor as _, PgExecutor};
use windlass_types::{ProjectId, ProjectName, UploadId};

use super::{Error, Result, Tx, keys};
use crate::model::{
    LimitSetting, ProjectChange, ProjectLimits, ProjectRules, PurposeLifetimes, QuotaExceeded, Usage, ledger_limit,
};

/// The default limits as arguments of the function `quota_refusals`: bytes, pending Uploads, Files.
pub(super) fn columns(limits: ProjectLimits) -> [Option<i64>; 3] {
    [limits.bytes, limits.pending_uploads, limits.files].map(|it| it.map(ledger_limit))
}

/// A result of the function `quota_refusals`.
pub(super) fn exceeded(
    quota: Option<String>,
    used: Option<i64>,
    most: Option<i64>,
    upload: UploadId,
) -> Result<QuotaExceeded> {
    let quota = quota.unwrap_or_default().parse().map_err(|e| Error::inconsistent("upload", upload.uuid(), e))?;
    Ok(QuotaExceeded { quota, used: amount(used), limit: amount(most) })
}

/// An amount; a counter that is negative by mistake counts as zero.
fn amount(column: Option<i64>) -> u64 {
    column.unwrap_or_default().max(0).unsigned_abs()
}

/// What a project uses.
#[derive(Debug, Clone)]
pub struct ProjectUsage {
    /// Name of the project.
    pub project: String,
    /// What it uses, and its limits.
    pub usage: Usage,
}

/// What a project uses, or all of them, in the order of their names, given the default limits.
pub async fn list_usage(
    db: impl PgExecutor<'_>,
    project: Option<ProjectId>,
    defaults: ProjectLimits,
) -> Result<Vec<ProjectUsage>> {
    let rows = sqlx::query!(
        r#"select project.name, max_bytes, max_pending_uploads, max_files,
                  least(used.bytes, 9223372036854775807)::bigint as "bytes!", used.pending_uploads as "pending_uploads!",
                  used.files as "files!"
           from project,
                lateral (select coalesce(sum(bytes), 0) as bytes,
                                coalesce(sum(pending_uploads), 0)::bigint as pending_uploads,
                                coalesce(sum(files), 0)::bigint as files
                         from usage_counter where project_id = project.id) used
           where $1::uuid is null or project.id = $1
           order by project.name"#,
        project as Option<ProjectId>,
    )
    .fetch_all(db)
    .await?;
    let in_force = |column, default| LimitSetting::from_ledger(column).or(default);
    Ok(rows
        .into_iter()
        .map(|row| {
            let limits = ProjectLimits {
                bytes: in_force(row.max_bytes, defaults.bytes),
                pending_uploads: in_force(row.max_pending_uploads, defaults.pending_uploads),
                files: in_force(row.max_files, defaults.files),
            };
            let [bytes, pending_uploads, files] =
                [row.bytes, row.pending_uploads, row.files].map(|it| amount(Some(it)));
            ProjectUsage { project: row.name, usage: Usage { bytes, pending_uploads, files, limits } }
        })
        .collect())
}

/// Changes the limits of a project. Returns false if there is no such project.
pub async fn update_project(db: impl PgExecutor<'_>, name: &ProjectName, change: &ProjectChange) -> Result<bool> {
    let [default, longest] =
        [&change.default_lifetimes, &change.longest_lifetimes].map(|it| it.as_ref().map(PurposeLifetimes::to_ledger));
    let [bytes, uploads, files] = [change.bytes, change.pending_uploads, change.files];
    let outcome = sqlx::query!(
        "update project
         set max_bytes = case when $2 then $3 else max_bytes end,
             max_pending_uploads = case when $4 then $5 else max_pending_uploads end,
             max_files = case when $6 then $7 else max_files end,
             default_file_lifetimes = coalesce($8, default_file_lifetimes),
             longest_file_lifetimes = coalesce($9, longest_file_lifetimes)
         where name = $1",
        name.as_str(),
        bytes.is_some(),
        bytes.and_then(LimitSetting::to_ledger),
        uploads.is_some(),
        uploads.and_then(LimitSetting::to_ledger),
        files.is_some(),
        files.and_then(LimitSetting::to_ledger),
        default.as_deref(),
        longest.as_deref(),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// The rules of a project, given the default limits.
pub async fn find_rules(db: impl PgExecutor<'_>, project: ProjectId, defaults: ProjectLimits) -> Result<ProjectRules> {
    let [most_bytes, most_uploads, most_files] = columns(defaults);
    let row = sqlx::query!(
        r#"select default_file_lifetimes, longest_file_lifetimes,
                  is_limited(max_bytes, $2) or is_limited(max_pending_uploads, $3) or is_limited(max_files, $4)
                      as "is_limited!"
           from project where id = $1"#,
        project as ProjectId,
        most_bytes,
        most_uploads,
        most_files,
    )
    .fetch_one(db)
    .await?;
    let file_expiry = keys::file_expiry(project, &row.default_file_lifetimes, &row.longest_file_lifetimes)?;
    Ok(ProjectRules { file_expiry, is_limited: row.is_limited })
}

/// A project whose counters differ from its rows, and by how much they are too low.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageDifference {
    /// The project.
    pub project: ProjectId,
    /// Bytes.
    pub bytes: i64,
    /// Pending Uploads.
    pub pending_uploads: i64,
    /// Pending Uploads of `POST /v1/files`.
    pub pending_forms: i64,
    /// Files.
    pub files: i64,
}

/// Lifts the limits of the transaction that a recount of a large ledger exceeds: it reads all rows, in any order.
pub async fn permit_long_recount(tx: &mut Tx) -> Result<()> {
    tx.execute(sqlx::raw_sql("set local statement_timeout = 0; set local enable_seqscan = on")).await?;
    Ok(())
}

/// Counts all rows, in one snapshot, and returns the projects whose counters differ.
pub async fn list_differences(db: impl PgExecutor<'_>) -> Result<Vec<UsageDifference>> {
    let rows = sqlx::query!(
        r#"select project_id as "project_id!: ProjectId",
                  greatest(least(bytes, 9223372036854775807), -9223372036854775807)::bigint as "bytes!",
                  pending_uploads as "pending_uploads!", pending_forms as "pending_forms!", files as "files!"
           from usage_difference order by project_id"#,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| UsageDifference {
            project: row.project_id,
            bytes: row.bytes,
            pending_uploads: row.pending_uploads,
            pending_forms: row.pending_forms,
            files: row.files,
        })
        .collect())
}

/// Adds to the counters what is missing in them. Correct while the service runs: the difference is of one snapshot, and
/// what changes later is added to the corrected counters.
pub async fn correct_counters(db: impl PgExecutor<'_>) -> Result<()> {
    sqlx::query!(
        r#"select count(*) as "corrected!"
           from (select * from usage_difference order by project_id) missing,
                lateral add_usage(project_id, bytes, pending_uploads, pending_forms, files) added"#,
    )
    .fetch_one(db)
    .await?;
    Ok(())
}
