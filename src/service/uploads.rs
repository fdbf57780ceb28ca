//! Retrieving and cancelling Uploads.

use super::{Error, Result, Service};
use crate::crash::CrashPoint;
use crate::db::uploads::Origin;
use crate::db::{self, discards, uploads};
use crate::domain::{NotPending, ProjectId, Upload, UploadId, UploadStatus};

impl From<Box<NotPending>> for Error {
    fn from(ended: Box<NotPending>) -> Self {
        let upload = ended.0;
        match upload.status {
            UploadStatus::Expired => Self::Expired(upload.id),
            UploadStatus::Pending | UploadStatus::Completed(_) | UploadStatus::Cancelled => {
                Self::NotPending { upload: upload.id, status: upload.status.as_str() }
            }
        }
    }
}

impl Service {
    /// An Upload in its current state.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn get_upload(self, project: ProjectId, id: UploadId) -> Result<Upload> {
        uploads::find(&self.db, project, id).await?.ok_or(Error::NoSuchUpload(id))
    }

    /// Cancels an Upload; what it has stored is to be deleted.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn cancel_upload(self, project: ProjectId, id: UploadId) -> Result<Upload> {
        self.cancel(project, id, Origin::Client).await?;
        self.get_upload(project, id).await
    }

    /// The same for any kind of Upload.
    pub(super) async fn cancel(&self, project: ProjectId, id: UploadId, origin: Origin) -> Result<()> {
        let (mut attempts, mut begun) = (self.attempts(), false);
        loop {
            match self.try_cancel(project, id, origin, &mut begun).await {
                Err(error) => attempts.after(error).await?,
                cancelled => return cancelled,
            }
        }
    }

    /// `begun` says that an earlier attempt got as far as its commit, which may have succeeded.
    async fn try_cancel(&self, project: ProjectId, id: UploadId, origin: Origin, begun: &mut bool) -> Result<()> {
        let (mut tx, _turn) = self.begin(project).await?;
        if !uploads::mark_cancelled(&mut tx, project, id, origin).await? {
            let upload = uploads::find(&mut tx, project, id).await?.ok_or(Error::NoSuchUpload(id))?;
            if *begun && matches!(upload.status, UploadStatus::Cancelled) {
                return Ok(());
            }
            return Err(upload.into_pending().map_or_else(Error::from, |_| Error::NoSuchUpload(id)));
        }
        CrashPoint::CancelWritten.passed();
        discards::discard(&mut tx, &[id], self.discard()).await?;
        CrashPoint::CancelDiscarded.passed();
        *begun = true;
        db::commit(tx).await?;
        CrashPoint::CancelCommitted.passed();
        Ok(())
    }
}
