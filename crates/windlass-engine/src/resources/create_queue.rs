//! The queue of new Uploads that wait to be inserted in one batch.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::db::creations::{Created, Creation};
use crate::error::{Error, Result};
use crate::model::QuotaExceeded;

/// The maximum length of the queue. It includes Uploads whose clients have disconnected while the ledger does not
/// respond.
const MAX_WAITING: usize = 4096;

/// The two kinds of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Uploads of projects that probably have no limit. Those of the others are added to the next limited batch.
    Unlimited,
    /// Uploads whose insertion checks the quotas of their projects, and waits for others that do.
    Limited,
}

/// One queue for each kind of batch. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct CreateQueues {
    unlimited: CreateQueue,
    limited: CreateQueue,
}

impl CreateQueues {
    pub(crate) fn of(&self, kind: Batch) -> &CreateQueue {
        match kind {
            Batch::Unlimited => &self.unlimited,
            Batch::Limited => &self.limited,
        }
    }
}

/// A queue. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct CreateQueue(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task inserts the waiting Uploads.
    is_draining: bool,
}

/// An Upload in the queue. The reply channel is closed without a value if the outcome is unknown.
pub(crate) struct Waiting {
    pub(crate) creation: Creation,
    pub(crate) reply: oneshot::Sender<Result<Created, QuotaExceeded>>,
}

/// Held by the only task that drains the queue. If that task is aborted, all reply channels are closed.
pub(crate) struct DrainGuard {
    queue: CreateQueue,
    is_done: bool,
}

impl CreateQueue {
    /// Adds an Upload. If no task drains the queue, returns the guard for one, which the caller must spawn.
    ///
    /// # Errors
    /// [`Error::Busy`] if the queue is full.
    pub(crate) fn add(&self, waiting: Waiting) -> Result<Option<DrainGuard>> {
        let mut queue = self.lock();
        if queue.waiting.len() == MAX_WAITING {
            return Err(Error::Busy);
        }
        queue.waiting.push(waiting);
        let is_first = !mem::replace(&mut queue.is_draining, true);
        Ok(is_first.then(|| DrainGuard { queue: self.clone(), is_done: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DrainGuard {
    /// Removes and returns all waiting Uploads. `None` if there are none: then the task must end, since the next Upload
    /// starts another one.
    pub(crate) fn take_all(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock();
        self.is_done = queue.waiting.is_empty();
        queue.is_draining = !self.is_done;
        queue.is_draining.then(|| mem::take(&mut queue.waiting))
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if !self.is_done {
            *self.queue.lock() = Queue::default();
        }
    }
}
