//! The buffers of one body on its way into the store: at most two, which grow as bytes arrive. One is filled while the
//! other is written.
//!
//! A slow body holds about as much memory as it has sent bytes since its last chunk. A fast body has two full-size
//! buffers after its first chunks, and keeps them until its end unless other bodies wait for memory.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use windlass_types::ProjectId;

use crate::error::{Error, Result};
use crate::resources::memory_budget::{MemoryBudget, MemoryReservation};
use crate::store::{BlobStore, Buffer};

/// Direct writes to a disk consist of whole pages of this size.
const PAGE_BYTES: u64 = 4096;

/// The initial size of a buffer in bytes, which is enough for most slow bodies.
const INITIAL: usize = 4 * 1024;

/// Up to this size, a full buffer is replaced by one four times as large. A larger one has the capacity of a whole
/// chunk from the start, and only its limit grows.
const SMALL: usize = 64 * 1024;

/// The step by which the limit of a larger buffer grows.
const STEP: usize = 256 * 1024;

/// The maximum memory of a connection and its form parser, counted in addition to a buffer. For a buffer smaller than
/// this, its own size is counted instead.
const MAX_OVERHEAD: u64 = 512 * 1024;

/// The minimum and maximum size of a body's chunks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkSize {
    /// The minimum that the store accepts, except for the last chunk.
    least: usize,
    /// The maximum.
    most: usize,
}

impl ChunkSize {
    /// The sizes that a store accepts.
    pub(crate) fn of(blobs: &BlobStore) -> Self {
        let (least, most) = blobs.chunk_bytes().into_inner();
        Self { least, most }
    }

    /// The sizes for a body of at most this many bytes.
    pub(crate) fn within(self, body: u64) -> Self {
        let body = usize::try_from(body).unwrap_or(usize::MAX).clamp(1, self.most);
        let most = (body as u64).next_multiple_of(PAGE_BYTES);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.most);
        Self { least: self.least.min(most), most }
    }

    /// The memory that guarantees progress to a body: enough for the smallest chunk.
    pub(crate) fn claim(self) -> u64 {
        cost(self.least)
    }

    /// Whether the store accepts this many bytes as a chunk that is not the last one.
    pub(crate) fn is_enough(self, bytes: usize) -> bool {
        bytes >= self.least
    }

    /// Whether this many bytes fill a chunk.
    pub(crate) fn is_full(self, bytes: usize) -> bool {
        bytes >= self.most
    }

    /// The next limit of a buffer.
    fn next_limit(self, limit: usize) -> usize {
        let next = if limit < SMALL { (limit * 4).max(INITIAL) } else { limit + STEP };
        next.min(self.most)
    }
}

/// The memory to reserve for a buffer of this size, including the overhead.
fn cost(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    if bytes <= INITIAL as u64 { bytes } else { bytes + bytes.min(MAX_OVERHEAD) }
}

/// The inverse of [`cost`]: the maximum size of a buffer for this much memory, in whole pages.
fn limit_for(memory: u64) -> usize {
    let bytes = (memory / 2).max(memory.saturating_sub(MAX_OVERHEAD)).max(memory.min(INITIAL as u64));
    usize::try_from(bytes / PAGE_BYTES * PAGE_BYTES).unwrap_or(usize::MAX)
}

/// A buffer and the memory that is reserved for it.
pub(crate) struct PartBuffer {
    buffer: Buffer,
    memory: MemoryReservation,
    /// How many bytes the buffer may hold with the reserved memory.
    limit: usize,
}

impl PartBuffer {
    /// A buffer without memory.
    pub(crate) fn empty(budget: &MemoryBudget, project: ProjectId) -> Self {
        Self { buffer: Buffer::default(), memory: budget.reservation_for(project), limit: 0 }
    }

    /// The number of bytes in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// How many more bytes fit without growing.
    pub(crate) fn left(&self) -> usize {
        self.limit - self.buffer.len()
    }

    /// Whether any memory is reserved.
    pub(crate) fn has_memory(&self) -> bool {
        self.memory.bytes() > 0
    }

    /// Appends bytes, at most [`Self::left`].
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// Grows by a step if the memory is available without waiting. Returns whether it did.
    pub(crate) fn try_grow(&mut self, size: ChunkSize) -> Result<bool> {
        let has_grown = self.memory.try_grow(cost(size.next_limit(self.limit)));
        if has_grown {
            self.use_memory(size)?;
        }
        Ok(has_grown)
    }

    /// Grows by a step, or at once to the minimum size of a chunk. Waits for the memory.
    pub(crate) async fn grow(&mut self, size: ChunkSize) -> Result<()> {
        self.memory.grow(cost(size.next_limit(self.limit)), cost(size.least)).await?;
        self.use_memory(size)
    }

    /// Takes over the memory of another buffer.
    pub(crate) fn absorb(&mut self, other: Self, size: ChunkSize) -> Result<()> {
        let Self { buffer, memory, .. } = other;
        if self.buffer.capacity() == 0 {
            self.buffer = buffer;
        }
        self.memory.absorb(memory);
        self.use_memory(size)
    }

    /// Takes the bytes to be written. The memory stays reserved.
    pub(crate) fn take_bytes(&mut self) -> Buffer {
        mem::take(&mut self.buffer)
    }

    /// Puts the buffer back, emptied, after it was written.
    pub(crate) fn restore(&mut self, buffer: Buffer) {
        self.buffer = buffer;
    }

    /// Raises the limit to what the reserved memory allows.
    ///
    /// # Errors
    /// [`Error::Busy`] if the system cannot map the memory.
    pub(crate) fn use_memory(&mut self, size: ChunkSize) -> Result<()> {
        self.limit = limit_for(self.memory.bytes()).min(size.most).max(self.buffer.len());
        if self.limit > self.buffer.capacity() {
            let capacity = if self.limit <= SMALL { self.limit } else { size.most };
            let mut larger = Buffer::with_room(capacity).map_err(|_| Error::Busy)?;
            larger.extend(self.buffer.bytes());
            self.buffer = larger;
        }
        Ok(())
    }
}

/// The buffers of a body, except the one that the handler is filling. Each is in flight (queued or being written) or
/// spare.
#[derive(Default)]
pub(crate) struct PartBuffers {
    state: Mutex<State>,
    spare_added: Notify,
}

#[derive(Default)]
struct State {
    /// The number of these buffers.
    count: usize,
    /// The spare ones, the larger one last.
    spares: Vec<PartBuffer>,
}

impl State {
    /// Removes the smaller of two spare buffers if other bodies wait for its memory.
    fn surplus(&mut self) -> Option<PartBuffer> {
        let is_surplus = self.spares.len() > 1 && self.spares[0].memory.is_contended();
        is_surplus.then(|| {
            self.count -= 1;
            self.spares.remove(0)
        })
    }
}

/// The result of looking for a spare buffer.
pub(crate) enum Spare {
    /// A spare buffer, which now belongs to the handler.
    Found(PartBuffer),
    /// No buffer is spare, and none is in flight.
    NoneInFlight,
    /// No buffer is spare, and one is in flight.
    OneInFlight,
    /// No buffer is spare, and two are in flight, the maximum.
    TwoInFlight,
}

impl PartBuffers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a buffer that the handler hands over to be written.
    pub(crate) fn count_handed_over(&self) {
        self.lock().count += 1;
    }

    /// Takes a spare buffer, if there is one.
    pub(crate) fn take_spare(&self) -> Spare {
        let mut state = self.lock();
        let surplus = state.surplus();
        let found = match (state.spares.pop(), state.count) {
            (Some(spare), count) => {
                state.count -= 1;
                // With another buffer, the body makes progress without this one: it is released if others wait.
                let is_released = count > 1 && spare.memory.is_contended();
                if is_released { Err(spare) } else { Ok(Spare::Found(spare)) }
            }
            (None, 0) => Ok(Spare::NoneInFlight),
            (None, 1) => Ok(Spare::OneInFlight),
            (None, _) => Ok(Spare::TwoInFlight),
        };
        drop(state);
        drop(surplus);
        found.unwrap_or_else(|released| {
            drop(released);
            Spare::OneInFlight
        })
    }

    /// Waits until a buffer becomes spare. Cancel-safe.
    pub(crate) async fn spare_added(&self) {
        self.spare_added.notified().await;
    }

    /// Makes a buffer that has been written spare.
    pub(crate) fn add_spare(&self, buffer: PartBuffer) {
        let mut state = self.lock();
        let is_larger = state.spares.last().is_none_or(|it| buffer.memory.bytes() >= it.memory.bytes());
        let at = if is_larger { state.spares.len() } else { 0 };
        state.spares.insert(at, buffer);
        let surplus = state.surplus();
        drop(state);
        drop(surplus);
        self.spare_added.notify_one();
    }

    /// Drops the spare buffers, and releases their memory.
    pub(crate) fn drop_spares(&self) {
        let mut state = self.lock();
        let spares = mem::take(&mut state.spares);
        state.count -= spares.len();
        drop(state);
        drop(spares);
    }
}
