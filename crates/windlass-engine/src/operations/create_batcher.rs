//! Group commit of new Uploads: concurrent requests are inserted by one statement, with one commit. A request that
//! arrives while a batch is being inserted waits for it, and is part of the next batch.

use std::slice;

use tokio::sync::oneshot;
use windlass_types::{ErrorChain, ProjectId, UploadId};

use crate::db::uploads::{self, Created, Creation};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::model::{NewUpload, Upload, UploadState};
use crate::resources::create_queue::Waiting;
use crate::retry::retry;
use crate::service::Service;

impl Service {
    /// Creates an Upload.
    ///
    /// # Errors
    /// When the ledger fails or the store does not belong to it, too many Uploads wait to be inserted, or the disk is
    /// full.
    pub async fn create_upload(&self, project: ProjectId, new: NewUpload) -> Result<Upload> {
        self.readiness.check_store()?;
        self.space.admit(0)?;
        let creation = Creation { id: UploadId::generate(), project, new };
        // One timeout for the batch in progress, the batch with this Upload, and a retry of this Upload alone.
        let inserted = self.insert_in_batch(creation.clone())?;
        let wait = async {
            let Ok(Created { id, created_at, expires_at }) = inserted.await else {
                return self.run(|it| it.insert_alone(creation)).await;
            };
            let spec = creation.new.into_spec();
            Ok::<_, Error>(Upload { id, spec, state: UploadState::Pending, created_at, expires_at })
        };
        self.with_db_timeout(wait).await
    }

    /// Adds an Upload to the next batch. The channel is closed without a value if the batch failed.
    fn insert_in_batch(&self, creation: Creation) -> Result<oneshot::Receiver<Created>> {
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
        let inserted = uploads::insert(&self.db, &creations, self.limits.upload_lifetime);
        match self.with_db_timeout(inserted).await {
            Ok(created) => {
                CrashPoint::UploadWritten.passed();
                for (creation, reply) in creations.iter().zip(replies) {
                    if let Some(created) = created.iter().find(|it| it.id == creation.id) {
                        // Fails if the client has disconnected, which drops the receiver.
                        reply.send(*created).ok();
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
            Ok::<_, Error>(uploads::insert(&self.db, slice::from_ref(&creation), self.limits.upload_lifetime).await?)
        };
        retry!(self, insert())?;
        self.find_upload(creation.project, creation.id).await
    }
}
