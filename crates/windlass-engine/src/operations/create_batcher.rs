//! Group commit of new Uploads: concurrent requests are inserted by one statement, with one commit. A request that
//! arrives while a batch is being inserted waits for it, and is part of the next batch. Uploads of projects with a limit
//! have batches of their own, since these wait for locks.

use std::collections::HashMap;
use std::slice;

use tokio::sync::oneshot;
use windlass_types::{ErrorChain, ProjectId, UploadId};

use crate::db::creations::{self, Created, Creation};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::model::{NewUpload, QuotaExceeded, Upload, UploadState};
use crate::resources::create_queue::{Batch, Waiting};
use crate::resources::fair_queue::Precedence;
use crate::retry::retry;
use crate::service::Service;
use crate::spans;

impl Service {
    /// Fails if a new Upload of the project would wait for too long: to be inserted, or to be completed, since those that
    /// are under way go first. To be called before a request is read.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub fn admit_upload(&self, project: ProjectId) -> Result<()> {
        self.refuse_beyond(self.create_queues.of(Batch::of(self.was_limited(project))).expected_wait(project))?;
        self.admit(&self.queues.statements, project, Precedence::UnderWay)?;
        self.admit(&self.queues.transactions, project, Precedence::UnderWay)
    }

    /// Creates an Upload.
    ///
    /// # Errors
    /// [`Error::Quota`], or [`Error::Lifetime`] if its File would live too long; when the ledger fails or the store does
    /// not belong to it, too many Uploads wait to be inserted, or the disk is full.
    pub async fn create_upload(&self, project: ProjectId, new: NewUpload) -> Result<Upload> {
        self.readiness.check_store()?;
        self.space.admit(0)?;
        let rules = self.project_rules(project).await?;
        let spec = new.spec();
        let lifetime = rules.file_expiry.lifetime(&self.limits.file_expiry, spec.purpose, spec.file_lifetime)?;
        let kind = Batch::of(rules.is_limited);
        let creation = Creation { id: UploadId::generate(), project, new: new.with_file_lifetime(lifetime) };
        // One timeout for the batches in progress, those with this Upload, and a retry of this Upload alone.
        let inserted = self.insert_in_batch(kind, creation.clone())?;
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
    fn insert_in_batch(
        &self,
        kind: Batch,
        creation: Creation,
    ) -> Result<oneshot::Receiver<Result<Created, QuotaExceeded>>> {
        let (reply, inserted) = oneshot::channel();
        self.add_to_batch(kind, Waiting { creation, reply })?;
        Ok(inserted)
    }

    fn add_to_batch(&self, kind: Batch, waiting: Waiting) -> Result<()> {
        if let Some(mut guard) = self.create_queues.of(kind).add(waiting)? {
            let this = self.clone();
            let drain = async move {
                while let Some(batch) = guard.take_batch() {
                    this.insert_batch(kind, batch).await;
                }
            };
            // Without the span of this request, since it inserts the Uploads of others, too.
            self.tasks.spawn_on(drain, &self.runtime);
        }
        Ok(())
    }

    async fn insert_batch(&self, kind: Batch, batch: Vec<Waiting>) {
        let (creations, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|it| (it.creation, it.reply)).unzip();
        let (lifetime, limits) = (self.limits.upload_lifetime, self.limits.project);
        let inserted = match kind {
            Batch::Unlimited => {
                self.with_db_timeout(creations::insert_unlimited(&self.db, &creations, lifetime, limits)).await
            }
            Batch::Limited => self.with_db_timeout(creations::insert(&self.db, &creations, lifetime, limits)).await,
        };
        let inserted = match inserted {
            Ok(inserted) => inserted,
            Err(error) => {
                let (error, uploads) = (ErrorChain(&error), creations.len());
                tracing::debug!(%error, uploads, "a batch of new uploads failed; each is retried separately");
                return;
            }
        };
        CrashPoint::UploadWritten.passed();
        let mut outcomes: HashMap<_, _> = inserted.into_iter().map(|it| (it.id, it.outcome)).collect();
        for (creation, reply) in creations.into_iter().zip(replies) {
            if let Some(outcome) = outcomes.remove(&creation.id) {
                // Fails if the client has disconnected, which drops the receiver.
                reply.send(outcome).ok();
            } else if kind == Batch::Unlimited {
                // A project of this batch has been given a limit in the meantime.
                // If that queue is full, the channel is closed, and the Upload is inserted alone.
                self.add_to_batch(Batch::Limited, Waiting { creation, reply }).ok();
            }
        }
    }

    async fn insert_alone(self, creation: Creation) -> Result<Upload> {
        let insert = async || {
            let (lifetime, limits) = (self.limits.upload_lifetime, self.limits.project);
            Ok::<_, Error>(creations::insert(&self.db, slice::from_ref(&creation), lifetime, limits).await?)
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
