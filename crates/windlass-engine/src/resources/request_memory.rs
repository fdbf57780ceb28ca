//! Memory for bodies that are read as a whole, and for unread responses. A request that gets no memory waits for a
//! limited time, and is then rejected.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::error::{Error, Result};
use crate::model::Limits;
use crate::resources::memory_budget::MemoryReservation;

/// Memory for a body that is read as a whole. It counts against the budget of all bodies, and is released on drop.
pub struct BodyMemory {
    held: MemoryReservation,
    waiting: Arc<Semaphore>,
    /// How long this body may still wait in total: a client's TCP stack may give up if no data is accepted for half a
    /// minute.
    wait_left: Duration,
}

impl BodyMemory {
    /// An empty reservation. `waiting` bounds how many bodies wait at the same time, `max_wait` how long each of them
    /// waits in total.
    pub(crate) fn new(held: MemoryReservation, waiting: Arc<Semaphore>, max_wait: Duration) -> Self {
        Self { held, waiting, wait_left: max_wait }
    }

    /// Grows to `bytes` in total. The first 8 KiB are not counted, so that a small body does not wait behind large
    /// ones.
    ///
    /// # Errors
    /// [`Error::Busy`] if no memory became available in time, or too many bodies wait for it.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let began = Instant::now();
        let grown = timeout(self.wait_left, self.grow(bytes)).await.unwrap_or(Err(Error::Busy));
        self.wait_left = self.wait_left.saturating_sub(began.elapsed());
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

/// Acquires `kib` permits from a budget; `None` if they did not become available within `wait`.
pub(crate) async fn reserve(budget: &Arc<Semaphore>, kib: u32, wait: Duration) -> Result<Option<OwnedSemaphorePermit>> {
    let acquired = timeout(wait, Arc::clone(budget).acquire_many_owned(kib)).await;
    acquired.ok().transpose().map_err(|_| Error::ShuttingDown)
}
