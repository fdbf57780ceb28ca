//! Retrieving and cancelling Uploads.

use windlass_types::{ProjectId, UploadId};

use crate::db::uploads::Origin;
use crate::db::{self, garbage, uploads};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::model::{Upload, UploadState};
use crate::retry::retry;
use crate::service::Service;

impl Service {
    /// Finds an Upload of the project.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], or when the ledger fails.
    pub async fn get_upload(&self, project: ProjectId, id: UploadId) -> Result<Upload> {
        self.run(move |it| async move { it.find_upload(project, id).await }).await
    }

    /// Like [`Self::get_upload`], for operations that already run on the service's runtime.
    pub(crate) async fn find_upload(&self, project: ProjectId, id: UploadId) -> Result<Upload> {
        uploads::find(&self.db, project, id).await?.ok_or(Error::NoSuchUpload(id))
    }

    /// Cancels an Upload. Its Parts become garbage.
    ///
    /// # Errors
    /// When the Upload is unknown or has already ended, or the ledger fails.
    pub async fn cancel_upload(&self, project: ProjectId, id: UploadId) -> Result<Upload> {
        let cancel = move |it: Self| async move {
            it.cancel(project, id, Origin::Client).await?;
            it.find_upload(project, id).await
        };
        self.run(cancel).await
    }

    /// Cancels an Upload of either origin.
    pub(crate) async fn cancel(&self, project: ProjectId, id: UploadId, origin: Origin) -> Result<()> {
        let mut commit_sent = false;
        retry!(self, self.try_cancel(project, id, origin, &mut commit_sent))
    }

    /// One attempt. `commit_sent` is set if an earlier attempt reached its commit, which may have succeeded.
    async fn try_cancel(&self, project: ProjectId, id: UploadId, origin: Origin, commit_sent: &mut bool) -> Result<()> {
        let (_permit, mut tx) = self.begin(project).await?;
        if !uploads::mark_cancelled(&mut tx, project, id, origin).await? {
            let upload = uploads::find(&mut tx, project, id).await?.ok_or(Error::NoSuchUpload(id))?;
            if *commit_sent && matches!(upload.state, UploadState::Cancelled) {
                return Ok(());
            }
            return Err(upload.into_pending().map_or_else(Error::from, |_| Error::NoSuchUpload(id)));
        }
        CrashPoint::CancelWritten.passed();
        garbage::discard(&mut tx, &[id], self.garbage_policy()).await?;
        CrashPoint::CancelDiscarded.passed();
        *commit_sent = true;
        db::commit(tx).await?;
        CrashPoint::CancelCommitted.passed();
        Ok(())
    }
}
