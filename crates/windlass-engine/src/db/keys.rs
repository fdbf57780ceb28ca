//! Projects and their API keys.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use windlass_types::{KeyId, ProjectId, ProjectName};

use super::{Error, Result, seconds};
use crate::model::{
    FileExpiry, FoundGrant, Grant, KeyChange, KeyEntry, KeyHash, KeyRates, KeyRecord, LimitSetting, NewGrant, NewKey,
    ProjectEntry, ProjectPattern, ProjectSettings, PurposeLifetimes, Scope,
};

/// A key that was found by its hash.
#[derive(Debug, Clone)]
pub struct FoundKey {
    /// What it permits.
    pub record: KeyRecord,
    /// Whether its last use is recorded as long ago, or not at all.
    pub is_use_due: bool,
}

/// How long a recorded use counts as recent.
const USE_INTERVAL: Duration = Duration::from_mins(10);

/// Finds a valid key; `None` if it is unknown, revoked or expired.
pub async fn find(db: impl PgExecutor<'_>, hash: &KeyHash) -> Result<Option<FoundKey>> {
    let row = sqlx::query!(
        r#"select id, project_id as "project_id: ProjectId", acts_for, creates_projects, scopes,
                  max_requests_per_second, max_bytes_per_second,
                  coalesce(last_used_at < now() - make_interval(secs => $2), true) as "is_use_due!"
           from api_key where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())"#,
        hash.as_ref(),
        seconds(USE_INTERVAL),
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let grant: FoundGrant = match (row.project_id, row.acts_for) {
            (Some(project), _) => Grant::Project(project),
            (None, patterns) => {
                Grant::Service { acts_for: parsed_patterns(row.id, patterns)?, creates_projects: row.creates_projects }
            }
        };
        let rates = rates(row.max_requests_per_second, row.max_bytes_per_second);
        let record = KeyRecord { id: row.id, grant, scopes: parsed_scopes(row.id, &row.scopes)?, rates };
        Ok(FoundKey { record, is_use_due: row.is_use_due })
    })
    .transpose()
}

fn parsed_patterns(key: KeyId, patterns: Option<Vec<String>>) -> Result<Vec<ProjectPattern>> {
    let patterns = patterns.unwrap_or_default();
    patterns
        .iter()
        .map(|it| it.parse())
        .collect::<Result<_, _>>()
        .map_err(|e| Error::inconsistent("api_key", key.uuid(), e))
}

fn parsed_scopes(key: KeyId, scopes: &[String]) -> Result<Vec<Scope>> {
    scopes
        .iter()
        .map(|it| it.parse())
        .collect::<Result<_, _>>()
        .map_err(|e| Error::inconsistent("api_key", key.uuid(), e))
}

pub(super) fn rates(requests: Option<i64>, bytes: Option<i64>) -> KeyRates {
    KeyRates { requests: LimitSetting::from_ledger(requests), bytes: LimitSetting::from_ledger(bytes) }
}

/// Records that a key is in use.
pub async fn record_use(db: impl PgExecutor<'_>, key: KeyId) -> Result<()> {
    sqlx::query!("update api_key set last_used_at = now() where id = $1", key as KeyId).execute(db).await?;
    Ok(())
}

/// Finds a project by its name.
pub async fn find_project(db: impl PgExecutor<'_>, name: &ProjectName) -> Result<Option<ProjectId>> {
    let row = sqlx::query!("select id from project where name = $1", name.as_str()).fetch_optional(db).await?;
    Ok(row.map(|row| row.id))
}

/// Creates a project unless one of that name exists. Returns whether it did.
pub async fn insert_project_if_missing(db: impl PgExecutor<'_>, name: &ProjectName) -> Result<bool> {
    let outcome = sqlx::query!(
        "insert into project (id, name) values ($1, $2) on conflict (name) do nothing",
        ProjectId::generate() as ProjectId,
        name.as_str(),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// All projects, in the order of their names.
pub async fn list_projects(db: impl PgExecutor<'_>) -> Result<Vec<ProjectEntry>> {
    let rows = sqlx::query!(
        "select id, name, created_at, max_bytes, max_pending_uploads, max_files, default_file_lifetimes,
                longest_file_lifetimes
         from project order by name",
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let limits = ProjectSettings {
                bytes: LimitSetting::from_ledger(row.max_bytes),
                pending_uploads: LimitSetting::from_ledger(row.max_pending_uploads),
                files: LimitSetting::from_ledger(row.max_files),
                file_expiry: file_expiry(row.id, &row.default_file_lifetimes, &row.longest_file_lifetimes)?,
            };
            Ok(ProjectEntry { id: row.id, name: row.name, created_at: row.created_at, limits })
        })
        .collect()
}

pub(super) fn file_expiry(project: ProjectId, default: &[String], longest: &[String]) -> Result<FileExpiry> {
    let parsed =
        |items| PurposeLifetimes::from_ledger(items).map_err(|e| Error::inconsistent("project", project.uuid(), e));
    Ok(FileExpiry { default: parsed(default)?, longest: parsed(longest)? })
}

/// Adds a key. Returns false if the same key exists, revoked or not, or its project does not.
pub async fn insert(db: impl PgExecutor<'_>, key: &NewKey, hash: &KeyHash) -> Result<bool> {
    let (project, acts_for, creates_projects) = columns(&key.grant);
    let outcome = sqlx::query!(
        "insert into api_key (id, project_id, name, hash, acts_for, creates_projects, scopes, expires_at,
                              max_requests_per_second, max_bytes_per_second)
         select $1, project.id, $2, $3, $4, $5, $6, now() + make_interval(secs => $7), $9, $10
         from (select $8::text as name) wanted left join project using (name)
         where project.id is not null or $4::text[] is not null
         on conflict (hash) do nothing",
        key.id as KeyId,
        key.name,
        hash.as_ref(),
        acts_for.as_deref(),
        creates_projects,
        &key.scopes.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>(),
        key.expires_in.map(seconds),
        project,
        key.rates.requests.to_ledger(),
        key.rates.bytes.to_ledger(),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

fn columns(grant: &NewGrant) -> (Option<&str>, Option<Vec<String>>, bool) {
    match grant {
        Grant::Project(name) => (Some(name.as_str()), None, false),
        Grant::Service { acts_for, creates_projects } => {
            (None, Some(acts_for.iter().map(ToString::to_string).collect()), *creates_projects)
        }
    }
}

/// Adds the first key of the service, to a project. Returns false if any key exists, revoked or not, or the project does
/// not.
pub async fn insert_if_first(
    db: impl PgExecutor<'_>,
    project: &ProjectName,
    key: KeyId,
    name: &str,
    hash: &KeyHash,
) -> Result<bool> {
    let outcome = sqlx::query!(
        "insert into api_key (id, project_id, name, hash)
         select $1, id, $2, $3 from project where name = $4 and not exists (select from api_key)",
        key as KeyId,
        name,
        hash.as_ref(),
        project.as_str(),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Whether any key exists, revoked or not.
pub async fn any(db: impl PgExecutor<'_>) -> Result<bool> {
    let row = sqlx::query!(r#"select exists (select from api_key) as "any!""#).fetch_one(db).await?;
    Ok(row.any)
}

/// The hashes of up to `limit` keys that were used within a day and are not revoked, those used last first.
pub async fn list_used_lately(db: impl PgExecutor<'_>, limit: u16) -> Result<Vec<KeyHash>> {
    let rows = sqlx::query!(
        "select hash from api_key
         where revoked_at is null and last_used_at > now() - interval '1 day'
         order by last_used_at desc limit $1",
        i64::from(limit),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(|row| <[u8; 32]>::try_from(row.hash).ok()).map(KeyHash::from).collect())
}

/// All keys, the oldest first.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<KeyEntry>> {
    let rows = sqlx::query!(
        r#"select api_key.id, project.name as "project?", api_key.name, api_key.acts_for, api_key.creates_projects,
                  api_key.scopes, api_key.created_at, api_key.expires_at, api_key.last_used_at, api_key.revoked_at,
                  api_key.max_requests_per_second, api_key.max_bytes_per_second,
                  coalesce(api_key.expires_at <= now(), false) as "is_expired!"
           from api_key left join project on project.id = api_key.project_id
           order by api_key.created_at, api_key.id"#,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let grant = match row.project {
                Some(project) => {
                    Grant::Project(project.parse().map_err(|e| Error::inconsistent("api_key", row.id.uuid(), e))?)
                }
                None => Grant::Service {
                    acts_for: parsed_patterns(row.id, row.acts_for)?,
                    creates_projects: row.creates_projects,
                },
            };
            Ok(KeyEntry {
                id: row.id,
                grant,
                scopes: parsed_scopes(row.id, &row.scopes)?,
                name: row.name,
                created_at: row.created_at,
                expires_at: row.expires_at,
                is_expired: row.is_expired,
                last_used_at: row.last_used_at,
                revoked_at: row.revoked_at,
                rates: rates(row.max_requests_per_second, row.max_bytes_per_second),
            })
        })
        .collect()
}

/// Revokes a key. Returns when it was revoked; `None` if there is no such key. Revoking it again has no effect.
pub async fn revoke(db: impl PgExecutor<'_>, key: KeyId) -> Result<Option<DateTime<Utc>>> {
    let row = sqlx::query!(
        r#"update api_key set revoked_at = coalesce(revoked_at, now()) where id = $1 returning revoked_at as "revoked_at!""#,
        key as KeyId,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| row.revoked_at))
}

/// Changes the rates of a key. Returns false if there is no such key.
pub async fn update_rates(db: impl PgExecutor<'_>, key: KeyId, change: KeyChange) -> Result<bool> {
    let outcome = sqlx::query!(
        "update api_key set max_requests_per_second = case when $2 then $3 else max_requests_per_second end,
                            max_bytes_per_second = case when $4 then $5 else max_bytes_per_second end
         where id = $1",
        key as KeyId,
        change.requests.is_some(),
        change.requests.and_then(LimitSetting::to_ledger),
        change.bytes.is_some(),
        change.bytes.and_then(LimitSetting::to_ledger),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected() == 1)
}
