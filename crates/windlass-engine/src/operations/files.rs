//! Retrieving and deleting Files.

use windlass_types::{FileId, ProjectId};

use crate::db::{self, files, garbage};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::model::File;
use crate::resources::fair_queue::Precedence;
use crate::retry::retry;
use crate::service::Service;

impl Service {
    /// Finds a File of the project.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`], or when the ledger fails or the service is overloaded.
    pub async fn get_file(&self, project: ProjectId, id: FileId) -> Result<File> {
        let find = move |it: Self| async move { files::find(&it.db, project, id).await?.ok_or(Error::NoSuchFile(id)) };
        self.run_in_turn(project, Precedence::New, find).await
    }

    /// Deletes a File. It disappears immediately; its bytes are deleted after the grace period.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`], when the ledger fails or the store does not belong to it, or the service is overloaded.
    pub async fn delete_file(&self, project: ProjectId, id: FileId) -> Result<()> {
        self.readiness.check_store()?;
        self.admit(&self.queues.transactions, project, Precedence::New)?;
        let delete = move |it: Self| async move {
            let mut commit_sent = false;
            retry!(it, it.try_delete(project, id, &mut commit_sent))
        };
        self.run(delete).await
    }

    /// One attempt. `commit_sent` is set if an earlier attempt reached its commit, which may have succeeded.
    async fn try_delete(&self, project: ProjectId, id: FileId, commit_sent: &mut bool) -> Result<()> {
        let (_permit, mut tx) = self.begin(project).await?;
        if !files::mark_deleted(&mut tx, project, id).await? {
            return if *commit_sent { Ok(()) } else { Err(Error::NoSuchFile(id)) };
        }
        CrashPoint::DeletionWritten.passed();
        garbage::discard(&mut tx, &[id.upload()], self.garbage_policy()).await?;
        CrashPoint::DeletionDiscarded.passed();
        *commit_sent = true;
        db::commit(tx).await?;
        CrashPoint::DeletionCommitted.passed();
        Ok(())
    }
}
