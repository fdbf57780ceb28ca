//! API keys: authentication, the keys created at startup, and key management.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use windlass_types::{ErrorChain, KeyId, ProjectId, ProjectName};

use crate::db::locks::{self, Lock};
use crate::db::{Db, Tx, keys};
use crate::error::{Error, Result};
use crate::model::{
    ApiKey, AuditAction, Caller, Grant, KeyEntry, KeyHash, KeyRates, KeyRecord, NewKey, ProjectEntry, Scope,
};
use crate::operations::audit::{Act, commit_act};
use crate::retry::retry;
use crate::service::Service;

/// The service's first key, in an open transaction. It is rolled back if this is dropped.
pub struct FirstKey {
    tx: Tx,
    key: ApiKey,
    id: KeyId,
    is_audited: bool,
}

impl FirstKey {
    /// The key. Save it before `commit`, since the ledger only stores its hash.
    pub fn key(&self) -> &ApiKey {
        &self.key
    }

    /// Commits the key, which makes it valid.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn commit(self) -> Result<ApiKey> {
        let default = default_project()?;
        let acts = creation(None, Some(self.id), Some(&default));
        commit_act(self.tx, self.is_audited, &acts).await?;
        Ok(self.key)
    }
}

impl Service {
    /// The hashes of up to `limit` keys that were used within a day, by any process.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn list_keys_used_lately(&self, limit: u16) -> Result<Vec<KeyHash>> {
        self.run(move |it| async move { Ok(keys::list_used_lately(&it.db, limit).await?) }).await
    }

    /// Finds a key. One that was revoked or has expired a few seconds ago may still be found.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] if the key is unknown, revoked or expired, or when the ledger fails.
    pub async fn find_key(&self, key: &ApiKey) -> Result<Arc<KeyRecord>> {
        let hash = key.hash();
        if let Some(record) = self.key_cache.find(&hash) {
            return Ok(record);
        }
        let queried_at = Instant::now();
        let find = |it: Self| async move { Ok(keys::find(&it.db, &hash).await?) };
        let found = self.run(find).await?.ok_or(Error::UnknownKey)?;
        let record = Arc::new(found.record);
        self.key_cache.insert(hash, Arc::clone(&record), queried_at);
        if found.is_use_due {
            self.record_use(record.id);
        }
        Ok(record)
    }

    /// Authorizes a request with this key that needs `scope`. `projects` are the project names in its headers; a service
    /// key acts for the project that they name, which it creates if it may, and a project key ignores them.
    ///
    /// # Errors
    /// [`Error::NotInScope`], [`Error::ProjectNotNamed`] or [`Error::ProjectNotAllowed`] if a service key cannot act for
    /// the project, or when the ledger fails.
    pub async fn authorize(&self, key: &KeyRecord, scope: Scope, projects: &[&str]) -> Result<Caller> {
        if !key.scopes.contains(&scope) {
            return Err(Error::NotInScope(scope));
        }
        let ((project, is_new_project), is_service) = match &key.grant {
            Grant::Project(project) => ((*project, false), false),
            Grant::Service { acts_for, creates_projects } => {
                let name = named_project(projects)?;
                if !acts_for.iter().any(|it| it.matches(&name)) {
                    return Err(Error::ProjectNotAllowed(name.to_string()));
                }
                (self.find_project(name, *creates_projects).await?, true)
            }
        };
        Ok(Caller { project, is_new_project, key: key.id, is_service })
    }

    /// Records the use of a key in the background: a request does not wait for it, and does not fail with it.
    fn record_use(&self, key: KeyId) {
        let this = self.clone();
        self.spawn(async move {
            if let Err(error) = this.with_db_timeout(keys::record_use(&this.db, key)).await {
                tracing::debug!(error = %ErrorChain(&error), "the use of a key could not be recorded");
            }
        });
    }

    /// Finds a project that a service key may act for, or creates it if that is allowed. Returns also whether it is new.
    async fn find_project(&self, name: ProjectName, may_create: bool) -> Result<(ProjectId, bool)> {
        if let Some(project) = self.project_cache.find(&name) {
            return Ok((project, false));
        }
        let queried_at = Instant::now();
        let wanted = name.clone();
        let find = move |it: Self| async move {
            if let Some(found) = keys::find_project(&it.db, &wanted).await? {
                return Ok(Some((found, false)));
            }
            if !may_create {
                return Ok(None);
            }
            let is_new = retry!(it, it.create_project(&wanted))?;
            Ok(keys::find_project(&it.db, &wanted).await?.map(|it| (it, is_new)))
        };
        let (project, is_new) = self.run(find).await?.ok_or_else(|| Error::ProjectNotAllowed(name.to_string()))?;
        self.project_cache.insert(name, project, queried_at);
        Ok((project, is_new))
    }

    async fn create_project(&self, name: &ProjectName) -> Result<bool> {
        Ok(keys::insert_project_if_missing(&self.db, name).await?)
    }

    /// Creates this key in the project `default`, unless it exists. Returns whether it is valid: a revoked key stays
    /// revoked.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn ensure_key(self, key: ApiKey) -> Result<bool> {
        let default = default_project()?;
        let mut tx = self.db.begin().await?;
        let is_new_project = keys::insert_project_if_missing(&mut tx, &default).await?;
        let new = NewKey {
            id: KeyId::generate(),
            name: "from the settings".to_owned(),
            grant: Grant::Project(default.clone()),
            scopes: Scope::ALL.to_vec(),
            expires_in: None,
            rates: KeyRates::default(),
        };
        let is_new = keys::insert(&mut tx, &new, &key.hash()).await?;
        let acts = creation(is_new_project.then_some(&default), is_new.then_some(new.id), Some(&default));
        commit_act(tx, self.is_audited(), &acts).await?;
        Ok(keys::find(&self.db, &key.hash()).await?.is_some())
    }

    /// Generates a key in the project `default` if no key exists, revoked or not. Of several processes that do this
    /// concurrently, only one creates a key.
    ///
    /// # Errors
    /// When the ledger fails, or another process holds the lock for longer than the database timeout.
    pub async fn begin_first_key(self) -> Result<Option<FirstKey>> {
        if keys::any(&self.db).await? {
            return Ok(None);
        }
        let key = ApiKey::generate();
        let mut tx = self.db.begin().await?;
        locks::take(&mut tx, Lock::FirstKey, self.limits.db_timeout).await?;
        let default = default_project()?;
        keys::insert_project_if_missing(&mut tx, &default).await?;
        let (id, is_audited) = (KeyId::generate(), self.is_audited());
        let first = keys::insert_if_first(&mut tx, &default, id, "first key", &key.hash()).await?;
        Ok(first.then_some(FirstKey { tx, key, id, is_audited }))
    }
}

/// What is recorded when a key is created, with its project if that is new.
fn creation<'p>(
    new_project: Option<&'p ProjectName>,
    key: Option<KeyId>,
    project: Option<&'p ProjectName>,
) -> Vec<Act<'p>> {
    let of_project = new_project.map(|it| Act { action: AuditAction::ProjectCreate, project: Some(it), key: None });
    let of_key = key.map(|it| Act { action: AuditAction::KeyCreate, project, key: Some(it) });
    of_project.into_iter().chain(of_key).collect()
}

/// The project of the keys that are created at startup.
fn default_project() -> Result<ProjectName> {
    "default".parse().map_err(|_| Error::Bug("the default project has no valid name"))
}

/// The project that the headers of a request name.
fn named_project(projects: &[&str]) -> Result<ProjectName> {
    let (first, rest) = projects.split_first().ok_or(Error::ProjectNotNamed)?;
    if rest.iter().any(|it| it != first) {
        return Err(Error::ProjectNotNamed);
    }
    first.parse().map_err(|_| Error::ProjectNotAllowed((*first).to_owned()))
}

/// Management of keys and projects. It needs only the ledger, not the store.
#[derive(Debug)]
pub struct Keys {
    pub(crate) db: Db,
    is_audited: bool,
}

impl Keys {
    /// Manages the keys of this ledger. Changes are recorded if there is an audit trail.
    pub fn new(db: Db, is_audited: bool) -> Self {
        Self { db, is_audited }
    }

    /// Commits changes, and records them.
    pub(crate) async fn commit(&self, tx: Tx, acts: &[Act<'_>]) -> Result<()> {
        commit_act(tx, self.is_audited, acts).await
    }

    /// Creates a key, and its project if it is new. The key cannot be retrieved later.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn create(&self, new: &NewKey) -> Result<ApiKey> {
        let key = ApiKey::generate();
        let mut tx = self.db.begin().await?;
        let (project, is_new) = match &new.grant {
            Grant::Project(project) => (Some(project), keys::insert_project_if_missing(&mut tx, project).await?),
            Grant::Service { .. } => (None, false),
        };
        keys::insert(&mut tx, new, &key.hash()).await?;
        self.commit(tx, &creation(project.filter(|_| is_new), Some(new.id), project)).await?;
        Ok(key)
    }

    /// Lists all keys, without their secrets.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn list(&self) -> Result<Vec<KeyEntry>> {
        Ok(keys::list(&self.db).await?)
    }

    /// Revokes a key, and returns when it was revoked. A running service may accept it for a few more seconds.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`] if no key has this id, or when the ledger fails.
    pub async fn revoke(&self, key: KeyId) -> Result<DateTime<Utc>> {
        let mut tx = self.db.begin().await?;
        let revoked_at = keys::revoke(&mut tx, key).await?.ok_or(Error::NoSuchKey(key))?;
        self.commit(tx, &[Act { action: AuditAction::KeyRevoke, project: None, key: Some(key) }]).await?;
        Ok(revoked_at)
    }

    /// Creates a project. Returns whether it is new.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn create_project(&self, name: &ProjectName) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let is_new = keys::insert_project_if_missing(&mut tx, name).await?;
        self.commit(tx, &creation(Some(name).filter(|_| is_new), None, None)).await?;
        Ok(is_new)
    }

    /// Lists all projects.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn list_projects(&self) -> Result<Vec<ProjectEntry>> {
        Ok(keys::list_projects(&self.db).await?)
    }
}
