//! What projects use, their limits, and how long their Files live.

use std::sync::Arc;
use std::time::Instant;

use windlass_types::{AnyPurpose, FileLifetime, KeyId, ProjectId, ProjectName};

use crate::db::quotas::ProjectUsage;
use crate::db::{keys, quotas};
use crate::error::{Error, Result};
use crate::model::{AuditAction, KeyChange, ProjectChange, ProjectLimits, ProjectRules, Usage};
use crate::operations::audit::Act;
use crate::operations::keys::Keys;
use crate::resources::fair_queue::Precedence;
use crate::service::Service;

impl Service {
    /// What a project uses, and its limits.
    ///
    /// # Errors
    /// When the ledger fails or the service is overloaded.
    pub async fn usage(&self, project: ProjectId) -> Result<Usage> {
        let find = move |it: Self| async move {
            let found = quotas::list_usage(&it.db, Some(project), it.limits.project).await?;
            found.into_iter().next().map(|it| it.usage).ok_or(Error::Bug("the project of a key does not exist"))
        };
        self.run_in_turn(project, Precedence::New, find).await
    }

    /// The lifetime of a new File of the project: the given one, or the default for its purpose. Rules that were changed
    /// a few seconds ago may not apply yet.
    ///
    /// # Errors
    /// [`Error::Lifetime`] if the given lifetime is too long, or when the ledger fails.
    pub(crate) async fn file_lifetime(
        &self,
        project: ProjectId,
        purpose: AnyPurpose,
        given: Option<FileLifetime>,
    ) -> Result<Option<FileLifetime>> {
        let rules = self.project_rules(project).await?;
        Ok(rules.file_expiry.lifetime(&self.limits.file_expiry, purpose, given)?)
    }

    /// Whether the project had a limit a few seconds ago; by the default limits, if that is not known.
    pub(crate) fn was_limited(&self, project: ProjectId) -> bool {
        let known = self.project_rules_cache.find(&project);
        known.map_or_else(|| !self.limits.project.is_unlimited(), |it| it.is_limited)
    }

    pub(crate) async fn project_rules(&self, project: ProjectId) -> Result<Arc<ProjectRules>> {
        if let Some(rules) = self.project_rules_cache.find(&project) {
            return Ok(rules);
        }
        let queried_at = Instant::now();
        let find = move |it: Self| async move { Ok(quotas::find_rules(&it.db, project, it.limits.project).await?) };
        let rules = Arc::new(self.run(find).await?);
        self.project_rules_cache.insert(project, Arc::clone(&rules), queried_at);
        Ok(rules)
    }
}

impl Keys {
    /// Changes the limits of a project. Those on its use apply to what is created from now on.
    ///
    /// # Errors
    /// [`Error::NoSuchProject`], or when the ledger fails.
    pub async fn change_project(&self, name: &ProjectName, change: &ProjectChange) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !quotas::update_project(&mut tx, name, change).await? {
            return Err(Error::NoSuchProject(name.clone()));
        }
        self.commit(tx, &[Act { action: AuditAction::ProjectChange, project: Some(name), key: None }]).await
    }

    /// Changes the rates of a key. A running service may apply the previous ones for a few more seconds.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`], or when the ledger fails.
    pub async fn change_key(&self, key: KeyId, change: KeyChange) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !keys::update_rates(&mut tx, key, change).await? {
            return Err(Error::NoSuchKey(key));
        }
        self.commit(tx, &[Act { action: AuditAction::KeyChange, project: None, key: Some(key) }]).await
    }

    /// What one project uses, or all of them, given the default limits.
    ///
    /// # Errors
    /// [`Error::NoSuchProject`], or when the ledger fails.
    pub async fn usage(&self, project: Option<&ProjectName>, defaults: ProjectLimits) -> Result<Vec<ProjectUsage>> {
        let id = match project {
            Some(name) => {
                let found = keys::find_project(&self.db, name).await?;
                Some(found.ok_or_else(|| Error::NoSuchProject(name.clone()))?)
            }
            None => None,
        };
        Ok(quotas::list_usage(&self.db, id, defaults).await?)
    }
}
