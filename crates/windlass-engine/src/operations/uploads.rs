//! Retrieving and cancelling Uploads, and creating them for idempotent requests.

use std::slice;

use windlass_types::{ProjectId, UploadId};

use crate::db::creations::{self, Creation};
use crate::db::uploads::Origin;
use crate::db::{self, garbage, uploads};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::ingest::once::{Once, OnceRequest, Outcome};
use crate::model::{Fingerprint, NewUpload, Upload, UploadState};
use crate::resources::fair_queue::Precedence;
use crate::retry::retry;
use crate::service::Service;

impl Service {
    /// Finds an Upload of the project.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], or when the ledger fails or the service is overloaded.
    pub async fn get_upload(&self, project: ProjectId, id: UploadId) -> Result<Upload> {
        let find = move |it: Self| async move { it.find_upload(project, id).await };
        self.run_in_turn(project, Precedence::New, find).await
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

    /// Creates an Upload for an idempotent request. Unlike [`Self::create_upload`], not in a batch.
    ///
    /// # Errors
    /// As for [`Self::create_upload`], or [`Error::KeyReused`].
    pub async fn create_upload_once(
        &self,
        project: ProjectId,
        new: NewUpload,
        once: Once<Upload>,
    ) -> Result<Outcome<Upload>> {
        let fingerprint = Fingerprint::of_upload(new.spec());
        let mut request = self.begin_once_without_content(project, once, fingerprint).await?;
        if let Some(repeated) = request.repeated()? {
            return Ok(repeated);
        }
        self.readiness.check_store()?;
        self.space.admit(0)?;
        let lifetime = self.file_lifetime(project, new.spec().purpose, new.spec().file_lifetime).await?;
        let creation = Creation { id: UploadId::generate(), project, new: new.with_file_lifetime(lifetime) };
        let create = move |it: Self| async move {
            let created = retry!(it, it.try_create_once(&creation, &request));
            it.outcome_of_once(project, &request, created).await
        };
        self.run(create).await
    }

    async fn try_create_once(&self, creation: &Creation, request: &OnceRequest<Upload>) -> Result<Upload> {
        let (id, project) = (creation.id, creation.project);
        let (_permit, mut tx) = self.begin(project).await?;
        let (lifetime, limits) = (self.limits.upload_lifetime, self.limits.project);
        let inserted = creations::insert(&mut tx, slice::from_ref(creation), lifetime, limits).await?;
        // If an earlier attempt has inserted it, it counts, and may be what exceeds the quota now.
        let Some(upload) = uploads::find(&mut tx, project, id).await? else {
            return Err(inserted.first().and_then(|it| it.outcome.err()).map_or(Error::NoSuchUpload(id), Error::Quota));
        };
        self.record_answer(&mut tx, project, request, id.uuid(), &upload).await?;
        db::commit(tx).await?;
        CrashPoint::UploadWritten.passed();
        Ok(upload)
    }
}
