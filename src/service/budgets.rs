//! Memory budgets: bodies that are read as a whole count in the budget of all bodies, responses that clients have not
//! read yet in a budget of their own. A request that finds no memory waits, and is then rejected.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::memory_budget::Reserved;
use super::{Error, Result, Service};
use crate::domain::{Limits, ProjectId};

/// How many bodies that are read as a whole may wait for memory. Further ones are rejected at once: the connection of a
/// waiting body has already read some hundred KiB of it.
pub(super) const MOST_WAITING: usize = 64;

/// Memory of a body that is read as a whole.
pub struct BodyMemory {
    held: Reserved,
    waiting: Arc<Semaphore>,
    /// How long it may still wait in all: a client's TCP gives up if its data is not taken for half a minute.
    patience: Duration,
}

impl BodyMemory {
    /// Grows to `bytes` in all. The first 8 KiB are not counted, so that a small body does not wait behind large ones.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is no memory for too long, or too many wait for it.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let began = Instant::now();
        let grown = timeout(self.patience, self.grow(bytes)).await.unwrap_or(Err(Error::Busy));
        self.patience = self.patience.saturating_sub(began.elapsed());
        grown
    }

    async fn grow(&mut self, bytes: usize) -> Result<()> {
        let counted = bytes.saturating_sub(Limits::FREE_BODY_BYTES) as u64;
        if counted <= self.held.bytes() || self.held.try_grow(counted) {
            return Ok(());
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Error::Busy)?;
        self.held.grow(counted, Limits::JSON_BYTES as u64).await.map_err(|_| Error::Busy)
    }
}

impl Service {
    /// Begins the reservation for a body that is read as a whole.
    pub fn body_memory(&self, project: ProjectId) -> BodyMemory {
        let held = self.memory.nothing_for(project);
        BodyMemory { held, waiting: Arc::clone(&self.waiting_bodies), patience: self.limits.buffer_wait }
    }

    /// Reserves memory for a response that is sent as the client reads it.
    ///
    /// # Errors
    /// [`Error::BusySending`] when there is none for too long.
    pub(super) async fn reserve_to_send(&self, kib: u64) -> Result<OwnedSemaphorePermit> {
        let kib = u32::try_from(kib.min(self.limits.answers_bytes() / 1024)).unwrap_or(u32::MAX);
        reserve(&self.sending, kib, self.limits.buffer_wait).await?.ok_or(Error::BusySending)
    }

    /// The same, without waiting.
    pub(super) fn try_reserve_to_send(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sending).try_acquire_many_owned(kib).ok()
    }
}

/// Takes from a budget; `None` if there is not enough in time.
async fn reserve(budget: &Arc<Semaphore>, kib: u32, wait: Duration) -> Result<Option<OwnedSemaphorePermit>> {
    let taken = timeout(wait, Arc::clone(budget).acquire_many_owned(kib)).await;
    taken.ok().transpose().map_err(|_| Error::Interrupted)
}
