//! Uploads: look at, complete, cancel.

use std::io;

use super::{Error, Result, Service};
use crate::crash::CrashPoint;
use crate::db::uploads::Origin;
use crate::db::{self, Tx, discards, files, parts, uploads};
use crate::domain::{
    ByteCount, File, Md5, NotPending, PartOrder, PendingUpload, ProjectId, Upload, UploadId, UploadStatus, in_order,
};

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
    /// An Upload as it stands.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn get_upload(self, project: ProjectId, id: UploadId) -> Result<Upload> {
        uploads::find(&self.db, project, id).await?.ok_or(Error::NoSuchUpload(id))
    }

    /// Makes the listed Parts, in this order, into the File that was declared. Asked again in the
    /// same words it gives the same File. It moves no byte, and reads them only to check an `md5`.
    ///
    /// # Errors
    /// When the Upload has ended otherwise, or the Parts do not fit; nothing has changed then.
    pub async fn complete_upload(
        self,
        project: ProjectId,
        id: UploadId,
        order: PartOrder,
        md5: Option<Md5>,
    ) -> Result<Upload> {
        self.check_store()?;
        if let Some(claimed) = md5 {
            // Before the lock: reading takes as long as it takes. Stored parts do not change meanwhile.
            let upload = not_given_up(self.patiently(self.clone().get_upload(project, id)).await?)?;
            if self.patiently(self.was_completed_so(&upload, &order, claimed)).await? {
                return Ok(upload);
            }
            if let Err(error) = self.check_md5(&upload, &order, claimed).await {
                // What was given up meanwhile, or became a File that is gone, has lost its Parts: then
                // that is the reason.
                let upload = not_given_up(self.patiently(self.clone().get_upload(project, id)).await?)?;
                let is_gone = matches!(upload.status, UploadStatus::Completed(None));
                return Err(if is_gone { Error::CompletedOtherwise(id) } else { error });
            }
        }
        let mut attempts = self.attempts();
        loop {
            match self.patiently(self.complete(project, id, &order, md5)).await {
                Err(error) => attempts.after(error).await?,
                Ok(completed) => {
                    self.chains.learn(project, md5.is_some());
                    return Ok(completed);
                }
            }
        }
    }

    async fn complete(&self, project: ProjectId, id: UploadId, order: &PartOrder, md5: Option<Md5>) -> Result<Upload> {
        let mut tx = self.db.begin().await?;
        let upload = uploads::lock(&mut tx, project, id, Origin::Client).await?.ok_or(Error::NoSuchUpload(id))?;
        CrashPoint::UploadLocked.passed();
        if let UploadStatus::Completed(_) = upload.status {
            let manifest = files::find_manifest(&mut tx, id.file()).await?;
            // That of a File which was deleted before ledgers kept it in the File's row may be gone.
            let known = !manifest.is_empty() || upload.declaration.bytes == ByteCount::ZERO;
            return if known && manifest == order.ids() { Ok(upload) } else { Err(Error::CompletedOtherwise(id)) };
        }
        let completed = self.assemble(&mut tx, project, upload.into_pending()?, order, md5).await?;
        db::commit(tx).await?;
        CrashPoint::CompletionCommitted.passed();
        Ok(completed)
    }

    /// What a completion does under the Upload's row lock: the File, and all that ends with it.
    pub(super) async fn assemble(
        &self,
        tx: &mut Tx,
        project: ProjectId,
        pending: PendingUpload,
        order: &PartOrder,
        md5: Option<Md5>,
    ) -> Result<Upload> {
        let stored = parts::list_stored(&mut *tx, pending.upload().id).await?;
        let assembly = pending.assemble(order, stored)?;
        let file = files::insert(tx, project, &assembly, md5, self.discard()).await?;
        CrashPoint::CompletionWritten.passed();
        Ok(Upload { status: UploadStatus::Completed(Some(file)), ..assembly.upload().clone() })
    }

    /// Gives an Upload up; what it has stored is to go.
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

    /// `begun` says that an earlier attempt got as far as to commit, perhaps with success.
    async fn try_cancel(&self, project: ProjectId, id: UploadId, origin: Origin, begun: &mut bool) -> Result<()> {
        let mut tx = self.db.begin().await?;
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

    /// Whether the same was asked, and done, before.
    async fn was_completed_so(&self, upload: &Upload, order: &PartOrder, claimed: Md5) -> Result<bool> {
        let UploadStatus::Completed(Some(File { md5: Some(md5), .. })) = &upload.status else { return Ok(false) };
        Ok(*md5 == claimed && files::find_manifest(&self.db, upload.id.file()).await? == order.ids())
    }

    /// Holds the MD5 of the listed Parts in their order against the client's; reads those of which it is
    /// not known.
    async fn check_md5(&self, upload: &Upload, order: &PartOrder, claimed: Md5) -> Result<()> {
        let stored = self.patiently(parts::list_stored(&self.db, upload.id)).await?;
        let parts = in_order(upload, order, stored)?;
        let (covered, mut digest) = self.covered_by_md5(upload.id, &parts).await?;
        let mut stretches = self.read_parts(&parts[covered..]).await?;
        while let Some(stretch) = stretches.next().await {
            let stretch = stretch?;
            // Hashing a megabyte takes milliseconds: not on a thread that others wait for.
            let hashed = tokio::task::spawn_blocking(move || stretch.look(|seen| digest.update(seen)).map(|()| digest));
            digest = hashed.await.map_err(io::Error::other).flatten().map_err(|_| Error::Interrupted)?;
        }
        let actual = digest.finish();
        if actual == claimed { Ok(()) } else { Err(Error::WrongMd5 { claimed, actual }) }
    }
}

fn not_given_up(upload: Upload) -> Result<Upload> {
    if let UploadStatus::Expired | UploadStatus::Cancelled = upload.status {
        upload.clone().into_pending()?;
    }
    Ok(upload)
}
