//! Retrieving and deleting Files.

use super::{Error, Result, Service};
use crate::crash::CrashPoint;
use crate::db::{self, discards, files};
use crate::domain::{File, FileId, ProjectId};

impl Service {
    /// A File.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`].
    pub async fn get_file(self, project: ProjectId, id: FileId) -> Result<File> {
        files::find(&self.db, project, id).await?.ok_or(Error::NoSuchFile(id))
    }

    /// Deletes a File. It disappears for everyone at once; its bytes are deleted after a grace period for readers.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`].
    pub async fn delete_file(self, project: ProjectId, id: FileId) -> Result<()> {
        self.check_store()?;
        let (mut attempts, mut begun) = (self.attempts(), false);
        loop {
            match self.try_delete(project, id, &mut begun).await {
                Err(error) => attempts.after(error).await?,
                deleted => return deleted,
            }
        }
    }

    /// `begun` says that an earlier attempt got as far as its commit, which may have succeeded.
    async fn try_delete(&self, project: ProjectId, id: FileId, begun: &mut bool) -> Result<()> {
        let (mut tx, _turn) = self.begin(project).await?;
        if !files::mark_deleted(&mut tx, project, id).await? {
            return if *begun { Ok(()) } else { Err(Error::NoSuchFile(id)) };
        }
        CrashPoint::DeletionWritten.passed();
        discards::discard(&mut tx, &[id.upload()], self.discard()).await?;
        CrashPoint::DeletionDiscarded.passed();
        *begun = true;
        db::commit(tx).await?;
        CrashPoint::DeletionCommitted.passed();
        Ok(())
    }
}
