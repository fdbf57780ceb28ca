//! The queue of new Uploads that wait to be inserted in a batch. A batch takes them from the projects in rotation.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use windlass_types::ProjectId;

use crate::db::creations::{Created, Creation};
use crate::error::{Error, Result};
use crate::model::QuotaExceeded;
use crate::resources::recent_average::RecentAverage;

/// The maximum length of the queue.
const MAX_WAITING: usize = 4096;

/// The maximum number of Uploads in a batch. Larger batches are not faster.
const MAX_BATCH: usize = 256;

/// The two kinds of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Uploads of projects that had no limit a few seconds ago. If one has a limit now, all are added to a limited
    /// batch.
    Unlimited,
    /// Uploads whose insertion checks the quotas of their projects, and waits for others that do.
    Limited,
}

impl Batch {
    /// The batch for a project, given whether it has a limit.
    pub(crate) fn of(is_limited: bool) -> Self {
        if is_limited { Self::Limited } else { Self::Unlimited }
    }
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
    projects: HashMap<ProjectId, VecDeque<Waiting>>,
    /// The projects with waiting Uploads, in the order in which they are served.
    rotation: VecDeque<ProjectId>,
    /// How long inserting a batch takes.
    batch_takes: RecentAverage,
    /// When the batch that is being inserted was taken.
    batch_since: Option<Instant>,
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
        if queue.projects.values().map(VecDeque::len).sum::<usize>() >= MAX_WAITING {
            return Err(Error::Busy);
        }
        let project = waiting.creation.project;
        queue.projects.entry(project).or_default().push_back(waiting);
        if !queue.rotation.contains(&project) {
            queue.rotation.push_back(project);
        }
        let is_draining = std::mem::replace(&mut queue.is_draining, true);
        Ok((!is_draining).then(|| DrainGuard { queue: self.clone(), is_done: false }))
    }

    /// How long an Upload of the project that is added now will probably wait: for the batches before it and its own, or
    /// at least as long as the batch in progress has taken so far. Zero if none is in progress.
    pub(crate) fn expected_wait(&self, project: ProjectId) -> Duration {
        let queue = self.lock();
        let Some(since) = queue.batch_since else { return Duration::ZERO };
        let own = queue.projects.get(&project).map_or(0, VecDeque::len);
        let others = queue.projects.iter().filter(|(id, _)| **id != project).map(|(_, it)| it.len().min(own + 1));
        let batches = u32::try_from((own + others.sum::<usize>()) / MAX_BATCH + 1).unwrap_or(u32::MAX);
        (queue.batch_takes.get() * batches).max(since.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Removes the next Upload whose client still waits.
    fn next(&mut self) -> Option<Waiting> {
        loop {
            let project = self.rotation.pop_front()?;
            let Some(waiting) = self.projects.get_mut(&project) else { continue };
            let next = waiting.pop_front();
            if waiting.is_empty() {
                self.projects.remove(&project);
            } else {
                self.rotation.push_back(project);
            }
            if let Some(next) = next.filter(|it| !it.reply.is_closed()) {
                return Some(next);
            }
        }
    }
}

impl DrainGuard {
    /// Ends the previous batch, and removes and returns the next one. `None` if no Upload waits: then the task must end,
    /// since the next Upload starts another one.
    pub(crate) fn take_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock();
        let now = Instant::now();
        if let Some(since) = queue.batch_since.take() {
            queue.batch_takes.record(now - since);
        }
        let batch: Vec<_> = std::iter::from_fn(|| queue.next()).take(MAX_BATCH).collect();
        self.is_done = batch.is_empty();
        queue.is_draining = !self.is_done;
        queue.batch_since = queue.is_draining.then_some(now);
        queue.is_draining.then_some(batch)
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if !self.is_done {
            *self.queue.lock() = Queue::default();
        }
    }
}

#[cfg(test)]
mod tests;
