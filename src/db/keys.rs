//! Projects and their API keys.

use sqlx::PgExecutor;

use super::Result;
use crate::domain::{Caller, KeyEntry, KeyHash, KeyId, ProjectId};

/// Who a key belongs to, unless it is unknown or revoked.
pub async fn find_caller(db: impl PgExecutor<'_>, hash: &KeyHash) -> Result<Option<Caller>> {
    let row =
        sqlx::query!("select id, project_id, hash from api_key where hash = $1 and revoked_at is null", hash.as_ref(),)
            .fetch_optional(db)
            .await?;
    Ok(row.filter(|row| hash.matches(&row.hash)).map(|row| Caller { project: row.project_id, key: row.id }))
}

/// Makes a project unless it is there.
pub async fn insert_project_if_missing(db: impl PgExecutor<'_>, name: &str) -> Result<()> {
    sqlx::query!(
        "insert into project (id, name) values ($1, $2) on conflict (name) do nothing",
        ProjectId::generate() as ProjectId,
        name,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Adds a key to a project. Whether it did: not if the same key is there already, revoked or not.
pub async fn insert(db: impl PgExecutor<'_>, project: &str, key: KeyId, name: &str, hash: &KeyHash) -> Result<bool> {
    let outcome = sqlx::query!(
        "insert into api_key (id, project_id, name, hash)
         select $1, id, $2, $3 from project where name = $4
         on conflict (hash) do nothing",
        key as KeyId,
        name,
        hash.as_ref(),
        project,
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Adds a first key to a project. Whether it did: not if the service has any key already.
pub async fn insert_if_first(
    db: impl PgExecutor<'_>,
    project: &str,
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
        project,
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

/// Every key, the oldest first.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<KeyEntry>> {
    let rows = sqlx::query!(
        "select api_key.id, project.name as project, api_key.name, api_key.created_at, api_key.revoked_at
         from api_key join project on project.id = api_key.project_id
         order by api_key.created_at, api_key.id",
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| KeyEntry {
            id: row.id,
            project: row.project,
            name: row.name,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        })
        .collect())
}

/// Takes a key out of use. Whether there is such a key; revoking it again changes nothing.
pub async fn revoke(db: impl PgExecutor<'_>, key: KeyId) -> Result<bool> {
    let outcome =
        sqlx::query!("update api_key set revoked_at = coalesce(revoked_at, now()) where id = $1", key as KeyId,)
            .execute(db)
            .await?;
    Ok(outcome.rows_affected() == 1)
}
