//! Group commit of new Uploads: concurrent requests are inserted by one statement, with one commit. A request that
//! arrives while a batch is being inserted waits for it, and is part of the next batch.

use std::slice;

use tokio::sync::oneshot;
use windlass_types::{ErrorChain, ProjectId, UploadId};

use crate::db::uploads::{self, Created, Creation, Inserted};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::model::{NewUpload, QuotaExceeded, Upload, UploadState};
use crate::resources::create_queue::Waiting;
use crate::retry::retry;
use crate::service::Service;
use crate::spans;

impl Service {
    /// Creates an Upload.
    ///
    /// # Errors
    /// [`Error::Quota`], or [`Error::Lifetime`] if its File would live too long; when the ledger fails or the store does
    /// not belong to it, too many Uploads wait to be inserted, or the disk is full.
    pub async fn create_upload(&self, project: ProjectId, new: NewUpload) -> Result<Upload> {
        self.readiness.check_store()?;
        self.space.admit(0)?;
        let lifetime = self.file_lifetime(project, new.spec().purpose, new.spec().file_lifetime).await?;
        let creation = Creation { id: UploadId::generate(), project, new: new.with_file_lifetime(lifetime) };
        // One timeout for the batch in progress, the batch with this Upload, and a retry of this Upload alone.
        let inserted = self.insert_in_batch(creation.clone())?;
        // The statement of the batch is part of no request.
        let waiting = spans::wait("batch");
        let wait = async {
            let id = creation.id;
            let answer = inserted.await;
            drop(waiting);
            let Ok(outcome) = answer else {
                return self.run(|it| it.insert_alone(creation)).await;
            };
            let Created { created_at, expires_at } = outcome?;
            let spec = creation.new.into_spec();
            Ok::<_, Error>(Upload { id, spec, state: UploadState::Pending, created_at, expires_at })
        };
        self.with_db_timeout(wait).await
    }

    /// Adds an Upload to the next batch. The channel is closed without a value if the batch failed.
    fn insert_in_batch(&self, creation: Creation) -> Result<oneshot::Receiver<Result<Created, QuotaExceeded>>> {
        let (reply, inserted) = oneshot::channel();
        let waiting = Waiting { creation, reply };
        if let Some(mut guard) = self.create_queue.add(waiting)? {
            let this = self.clone();
            let drain = async move {
                while let Some(batch) = guard.take_all() {
                    this.insert_batch(batch).await;
                }
            };
            // Without the span of this request, since it inserts the Uploads of others, too.
            self.tasks.spawn_on(drain, &self.runtime);
        }
        Ok(inserted)
    }

    async fn insert_batch(&self, batch: Vec<Waiting>) {
        let (creations, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|it| (it.creation, it.reply)).unzip();
        let inserted = uploads::insert(&self.db, &creations, self.limits.upload_lifetime, self.limits.project);
        match self.with_db_timeout(inserted).await {
            Ok(inserted) => {
                CrashPoint::UploadWritten.passed();
                for (creation, reply) in creations.iter().zip(replies) {
                    if let Some(Inserted { outcome, .. }) = inserted.iter().find(|it| it.id == creation.id) {
                        // Fails if the client has disconnected, which drops the receiver.
                        reply.send(*outcome).ok();
                    }
                }
            }
            Err(error) => {
                let (error, uploads) = (ErrorChain(&error), creations.len());
                tracing::debug!(%error, uploads, "a batch of new uploads failed; each is retried separately");
            }
        }
    }

    async fn insert_alone(self, creation: Creation) -> Result<Upload> {
        let insert = async || {
            let (lifetime, limits) = (self.limits.upload_lifetime, self.limits.project);
            Ok::<_, Error>(uploads::insert(&self.db, slice::from_ref(&creation), lifetime, limits).await?)
        };
        let inserted = retry!(self, insert())?;
        // If an earlier attempt has inserted it, it counts, and may be what exceeds the quota now.
        match self.find_upload(creation.project, creation.id).await {
            Err(Error::NoSuchUpload(id)) => {
                Err(inserted.first().and_then(|it| it.outcome.err()).map_or(Error::NoSuchUpload(id), Error::Quota))
            }
            found => found,
        }
    }
}
