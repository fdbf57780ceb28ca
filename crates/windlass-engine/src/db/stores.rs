//! The table `store`: the identity of the store that holds the ledger's objects.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use windlass_types::StoreId;

use super::Result;

/// The ledger's store.
#[derive(Debug, Clone, Copy)]
pub struct StoreRow {
    /// The identity of the store.
    pub id: StoreId,
    /// When the store was confirmed to hold this identity; `None` between the two writes that link them.
    pub linked_at: Option<DateTime<Utc>>,
}

/// The ledger's store, if one is recorded.
pub async fn find(db: impl PgExecutor<'_>) -> Result<Option<StoreRow>> {
    Ok(sqlx::query_as!(StoreRow, "select id, linked_at from store").fetch_optional(db).await?)
}

/// Records the ledger's store, unless one is recorded already. Of several concurrent processes, one succeeds.
pub async fn insert_if_none(db: impl PgExecutor<'_>, id: StoreId) -> Result<()> {
    sqlx::query!("insert into store (id) values ($1) on conflict do nothing", id as StoreId).execute(db).await?;
    Ok(())
}

/// Records that the store was confirmed to hold its identity.
pub async fn mark_linked(db: impl PgExecutor<'_>, id: StoreId) -> Result<()> {
    sqlx::query!("update store set linked_at = now() where id = $1 and linked_at is null", id as StoreId)
        .execute(db)
        .await?;
    Ok(())
}

/// Deletes the record of the ledger's store, so that another can be inserted in the same transaction.
pub async fn delete(db: impl PgExecutor<'_>) -> Result<()> {
    sqlx::query!("delete from store").execute(db).await?;
    Ok(())
}
