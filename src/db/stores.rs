//! The table `store`: the identity of the store that the ledger's objects are in.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::Result;
use crate::domain::StoreId;

/// The ledger's store.
#[derive(Debug, Clone, Copy)]
pub struct StoreRow {
    /// Its identity.
    pub id: StoreId,
    /// When the store was known to hold this identity; not set between the two writes that link them.
    pub linked_at: Option<DateTime<Utc>>,
}

/// The ledger's store, if it has been named.
pub async fn find(db: impl PgExecutor<'_>) -> Result<Option<StoreRow>> {
    Ok(sqlx::query_as!(StoreRow, "select id, linked_at from store").fetch_optional(db).await?)
}

/// Names the ledger's store, unless it has a name. Of several processes that start at once, one succeeds.
pub async fn insert_if_none(db: impl PgExecutor<'_>, id: StoreId) -> Result<()> {
    sqlx::query!("insert into store (id) values ($1) on conflict do nothing", id as StoreId).execute(db).await?;
    Ok(())
}

/// Records that the store holds its identity.
pub async fn mark_linked(db: impl PgExecutor<'_>, id: StoreId) -> Result<()> {
    sqlx::query!("update store set linked_at = now() where id = $1 and linked_at is null", id as StoreId)
        .execute(db)
        .await?;
    Ok(())
}

/// Forgets the ledger's store, for another to take its place in the same transaction.
pub async fn delete(db: impl PgExecutor<'_>) -> Result<()> {
    sqlx::query!("delete from store").execute(db).await?;
    Ok(())
}
