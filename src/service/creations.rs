//! Group commit of new Uploads: those that are requested at the same time are inserted by one statement, with one
//! commit. A request that comes while others are being inserted waits for that, and is part of the next statement.

use std::mem;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Error, Result, Service};
use crate::crash::CrashPoint;
use crate::db::uploads::{self, Created, Creation};
use crate::domain::{NewUpload, ProjectId, Upload, UploadId, UploadStatus};

/// The maximum number that wait. It includes those whose clients have disconnected while the ledger does not respond.
const MOST_WAITING: usize = 4096;

/// Those that wait to be written down.
#[derive(Clone, Default)]
pub(super) struct Creations(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task is inserting them.
    is_served: bool,
}

struct Waiting {
    creation: Creation,
    answer: oneshot::Sender<Created>,
}

impl Service {
    /// Creates an Upload. It can be called from any runtime: the ledger's work is done on the service's.
    ///
    /// # Errors
    /// When the ledger fails or does not keep up, or the disk is full.
    pub async fn create_upload(&self, project: ProjectId, new: NewUpload) -> Result<Upload> {
        self.check_store()?;
        self.space.admit(0)?;
        let creation = Creation { id: UploadId::generate(), project, new };
        // One timeout for all of it: others' statement, the one with this Upload, and one for this Upload alone.
        let written = self.write_down_with_others(creation.clone())?;
        let wait = async {
            let Ok(Created { id, created_at, expires_at }) = written.await else {
                return self.run(|it| it.write_down_alone(creation)).await;
            };
            let declaration = creation.new.into_declaration();
            Ok::<_, Error>(Upload { id, declaration, status: UploadStatus::Pending, created_at, expires_at })
        };
        self.patiently(wait).await
    }

    /// Sends no answer if the ledger failed, or the Upload was written down before.
    fn write_down_with_others(&self, creation: Creation) -> Result<oneshot::Receiver<Created>> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { creation, answer };
        if let Some(mut turn) = self.creations.add(waiting)? {
            let this = self.clone();
            self.spawn(async move {
                while let Some(together) = turn.take_all() {
                    this.write_down(together).await;
                }
            });
        }
        Ok(answered)
    }

    async fn write_down(&self, together: Vec<Waiting>) {
        let (creations, answers): (Vec<_>, Vec<_>) = together.into_iter().map(|it| (it.creation, it.answer)).unzip();
        let written = uploads::insert(&self.db, &creations, self.limits.upload_lifetime);
        match self.patiently(written).await {
            Ok(created) => {
                CrashPoint::UploadWritten.passed();
                for (creation, answer) in creations.iter().zip(answers) {
                    if let Some(created) = created.iter().find(|it| it.id == creation.id) {
                        // The receiver has been dropped if the client has disconnected.
                        answer.send(*created).ok();
                    }
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "{} uploads are to be written down one by one", creations.len());
            }
        }
    }

    async fn write_down_alone(self, creation: Creation) -> Result<Upload> {
        let mut attempts = self.attempts();
        loop {
            match uploads::insert(&self.db, slice::from_ref(&creation), self.limits.upload_lifetime).await {
                Ok(_) => return self.get_upload(creation.project, creation.id).await,
                Err(error) => attempts.after(error.into()).await?,
            }
        }
    }
}

/// The turn of the task that inserts what waits. If it is aborted, the waiting requests get no answer.
struct Turn {
    creations: Creations,
    is_over: bool,
}

impl Creations {
    /// Adds one more, unless there are too many; returns the turn if no task has it.
    fn add(&self, waiting: Waiting) -> Result<Option<Turn>> {
        let mut queue = self.lock();
        if queue.waiting.len() == MOST_WAITING {
            return Err(Error::Busy);
        }
        queue.waiting.push(waiting);
        let is_first = !mem::replace(&mut queue.is_served, true);
        Ok(is_first.then(|| Turn { creations: self.clone(), is_over: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Everyone who waits. Where nobody does, the turn is over.
    fn take_all(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.creations.lock();
        self.is_over = queue.waiting.is_empty();
        queue.is_served = !self.is_over;
        queue.is_served.then(|| mem::take(&mut queue.waiting))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            *self.creations.lock() = Queue::default();
        }
    }
}
