//! Who may ask: projects and API keys.

use std::time::Instant;

use super::{Error, Result, Service};
use crate::db::locks::{self, Lock};
use crate::db::{self, Db, Tx, keys};
use crate::domain::{ApiKey, Caller, KeyEntry, KeyId};

/// A key that is about to become the first one. Dropped, it never was.
pub struct FirstKey {
    tx: Tx,
    key: ApiKey,
}

impl FirstKey {
    /// The key. Keep it somewhere before `commit`: nobody can look it up afterwards.
    pub fn key(&self) -> &ApiKey {
        &self.key
    }

    /// Makes it valid.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn commit(self) -> Result<ApiKey> {
        db::commit(self.tx).await?;
        Ok(self.key)
    }
}

impl Service {
    /// Who a key belongs to. One that was revoked some seconds ago may still be taken for valid.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] when it is unknown or revoked.
    pub async fn authenticate(&self, key: &ApiKey) -> Result<Caller> {
        let hash = key.hash();
        if let Some(caller) = self.callers.find(&hash) {
            return Ok(caller);
        }
        let asked_at = Instant::now();
        let find = |it: Self| async move { Ok(keys::find_caller(&it.db, &hash).await?) };
        let caller = self.run(find).await?.ok_or(Error::UnknownKey)?;
        self.callers.remember(hash, caller, asked_at);
        Ok(caller)
    }

    /// Sees to it that this key exists, in the project `default` if it is new. Gives whether it is
    /// valid: a key that was revoked stays so.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn ensure_key(self, key: ApiKey) -> Result<bool> {
        keys::insert_project_if_missing(&self.db, "default").await?;
        keys::insert(&self.db, "default", KeyId::generate(), "from the settings", &key.hash()).await?;
        Ok(keys::find_caller(&self.db, &key.hash()).await?.is_some())
    }

    /// Begins to make a key in the project `default` if there is no key at all; of many starters, one does.
    ///
    /// # Errors
    /// When the ledger fails, or another process holds the lock for too long.
    pub async fn begin_first_key(self) -> Result<Option<FirstKey>> {
        if keys::any(&self.db).await? {
            return Ok(None);
        }
        let key = ApiKey::generate();
        let mut tx = self.db.begin().await?;
        locks::take(&mut tx, Lock::FirstKey, self.limits.ledger_patience).await?;
        keys::insert_project_if_missing(&mut tx, "default").await?;
        let first = keys::insert_if_first(&mut tx, "default", KeyId::generate(), "first key", &key.hash()).await?;
        Ok(first.then_some(FirstKey { tx, key }))
    }
}

/// Key management. It needs the ledger, but no store.
#[derive(Debug)]
pub struct Keys(Db);

impl Keys {
    /// Manages the keys in this ledger.
    pub fn new(db: Db) -> Self {
        Self(db)
    }

    /// Creates a key for a project, and the project if it is new. The key cannot be retrieved later.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn create(&self, project: &str, name: &str) -> Result<(KeyId, ApiKey)> {
        let (id, key) = (KeyId::generate(), ApiKey::generate());
        keys::insert_project_if_missing(&self.0, project).await?;
        keys::insert(&self.0, project, id, name, &key.hash()).await?;
        Ok((id, key))
    }

    /// Every key, without its secret.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn list(&self) -> Result<Vec<KeyEntry>> {
        Ok(keys::list(&self.0).await?)
    }

    /// Takes a key out of use at once.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`] when there is none of that id.
    pub async fn revoke(&self, key: KeyId) -> Result<()> {
        if keys::revoke(&self.0, key).await? {
            Ok(())
        } else {
            Err(Error::NoSuchKey(format!("there is no key '{key}'; `windlass keys list` shows them")))
        }
    }
}
