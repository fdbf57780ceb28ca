//! A queue of what waits to be written to the ledger in one batch.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// The maximum length of a queue. It includes what belongs to clients that have disconnected while the ledger does not
/// respond.
const MAX_WAITING: usize = 4096;

/// The queue. Clones share it.
pub(crate) struct BatchQueue<T, R>(Arc<Mutex<Queue<T, R>>>);

struct Queue<T, R> {
    waiting: Vec<Waiting<T, R>>,
    /// Whether a task writes what waits.
    is_draining: bool,
}

/// An item in the queue. The reply channel is closed without a value if the outcome is unknown.
pub(crate) struct Waiting<T, R> {
    pub(crate) item: T,
    pub(crate) reply: oneshot::Sender<R>,
}

/// Held by the only task that drains the queue. If that task is aborted, all reply channels are closed.
pub(crate) struct DrainGuard<T, R> {
    queue: BatchQueue<T, R>,
    is_done: bool,
}

/// The channel for the outcome of an item, and the guard for the task that drains the queue if there is none.
type Added<T, R> = (oneshot::Receiver<R>, Option<DrainGuard<T, R>>);

impl<T, R> Clone for BatchQueue<T, R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, R> Default for BatchQueue<T, R> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Queue::empty())))
    }
}

impl<T, R> Queue<T, R> {
    fn empty() -> Self {
        Self { waiting: Vec::new(), is_draining: false }
    }
}

impl<T, R> BatchQueue<T, R> {
    /// Adds an item. Returns the channel for its outcome and, if no task drains the queue, the guard for one, which the
    /// caller must spawn.
    ///
    /// # Errors
    /// [`Error::Busy`] if the queue is full.
    pub(crate) fn add(&self, item: T) -> Result<Added<T, R>> {
        let (reply, outcome) = oneshot::channel();
        let mut queue = self.lock();
        if queue.waiting.len() == MAX_WAITING {
            return Err(Error::Busy);
        }
        queue.waiting.push(Waiting { item, reply });
        let is_first = !mem::replace(&mut queue.is_draining, true);
        Ok((outcome, is_first.then(|| DrainGuard { queue: self.clone(), is_done: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T, R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> DrainGuard<T, R> {
    /// Removes and returns all waiting items. `None` if there are none: then the task must end, since the next item
    /// starts another one.
    pub(crate) fn take_all(&mut self) -> Option<Vec<Waiting<T, R>>> {
        let mut queue = self.queue.lock();
        self.is_done = queue.waiting.is_empty();
        queue.is_draining = !self.is_done;
        queue.is_draining.then(|| mem::take(&mut queue.waiting))
    }
}

impl<T, R> Drop for DrainGuard<T, R> {
    fn drop(&mut self) {
        if !self.is_done {
            *self.queue.lock() = Queue::empty();
        }
    }
}
