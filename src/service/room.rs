//! The memory of one body on its way into the store: at most two buffers (rooms) that grow as bytes arrive, one being
//! filled while the other is written.
//!
//! A slow body holds about what it has sent since its last chunk. A fast one has two full-size rooms after its first
//! chunks, and keeps them to its end, unless other bodies wait for memory.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::memory_budget::{MemoryBudget, Reserved};
use super::{Error, Result};
use crate::blobs::{Blobs, Buffer};
use crate::domain::ProjectId;

/// A disk takes whole pages.
const PAGE_BYTES: u64 = 4096;

/// The first size of a room, which is enough for most slow bodies.
const FIRST: usize = 4 * 1024;

/// A larger buffer is allocated for a whole chunk; up to this size, it is replaced by one four times as large.
const SMALL: usize = 64 * 1024;

/// The step by which a larger room grows.
const STEP: usize = 256 * 1024;

/// The most that a connection and its form parser hold in addition to a room; below that, as much as the room has.
const BESIDE: u64 = 512 * 1024;

/// How large the chunks of a body are.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkSize {
    /// The least that the store takes, except for the last chunk.
    least: usize,
    /// The most that it takes.
    most: usize,
}

impl ChunkSize {
    /// The sizes that a store takes.
    pub(super) fn of(blobs: &Blobs) -> Self {
        let (least, most) = blobs.chunk_bytes().into_inner();
        Self { least, most }
    }

    /// The sizes for a body of at most this many bytes.
    pub(super) fn within(self, body: u64) -> Self {
        let body = usize::try_from(body).unwrap_or(usize::MAX).clamp(1, self.most);
        let most = (body as u64).next_multiple_of(PAGE_BYTES);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.most);
        Self { least: self.least.min(most), most }
    }

    /// The memory that a body needs to make progress.
    pub(super) fn claim(self) -> u64 {
        cost(self.least)
    }

    /// Whether so many bytes are a chunk that can be written before the last one.
    pub(super) fn is_enough(self, bytes: usize) -> bool {
        bytes >= self.least
    }

    /// Whether so many bytes fill a chunk.
    pub(super) fn is_all(self, bytes: usize) -> bool {
        bytes >= self.most
    }

    /// The next size of a room.
    fn after(self, limit: usize) -> usize {
        let next = if limit < SMALL { (limit * 4).max(FIRST) } else { limit + STEP };
        next.min(self.most)
    }
}

/// The memory that is reserved for a room of so many bytes, and for what is held in addition to it.
fn cost(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    if bytes <= FIRST as u64 { bytes } else { bytes + bytes.min(BESIDE) }
}

/// The size of the room that so much memory is enough for.
fn room_for(memory: u64) -> usize {
    let bytes = (memory / 2).max(memory.saturating_sub(BESIDE)).max(memory.min(FIRST as u64));
    usize::try_from(bytes / PAGE_BYTES * PAGE_BYTES).unwrap_or(usize::MAX)
}

/// A buffer, and the memory that is reserved for it.
pub(super) struct Room {
    buffer: Buffer,
    memory: Reserved,
    /// How many bytes it may hold now.
    limit: usize,
}

impl Room {
    /// One that has no memory yet.
    pub(super) fn empty(budget: &MemoryBudget, project: ProjectId) -> Self {
        Self { buffer: Buffer::default(), memory: budget.nothing_for(project), limit: 0 }
    }

    /// How many bytes are in it.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// How many more bytes it takes without growing.
    pub(super) fn left(&self) -> usize {
        self.limit - self.buffer.len()
    }

    /// Whether it has memory.
    pub(super) fn exists(&self) -> bool {
        self.memory.bytes() > 0
    }

    /// Appends bytes, no more than are left.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// Grows by a step, if that keeps nobody waiting. Returns whether it did.
    pub(super) fn try_grow(&mut self, size: ChunkSize) -> Result<bool> {
        let has_grown = self.memory.try_grow(cost(size.after(self.limit)));
        if has_grown {
            self.use_memory(size)?;
        }
        Ok(has_grown)
    }

    /// Grows by a step, or to the least that the store takes.
    pub(super) async fn grow(&mut self, size: ChunkSize) -> Result<()> {
        self.memory.grow(cost(size.after(self.limit)), cost(size.least)).await?;
        self.use_memory(size)
    }

    /// Takes over the memory of another one.
    pub(super) fn absorb(&mut self, other: Self, size: ChunkSize) -> Result<()> {
        let Self { buffer, memory, .. } = other;
        if self.buffer.capacity() == 0 {
            self.buffer = buffer;
        }
        self.memory.absorb(memory);
        self.use_memory(size)
    }

    /// Its bytes, which are to be written; the memory stays reserved.
    pub(super) fn take(&mut self) -> Buffer {
        mem::take(&mut self.buffer)
    }

    /// Takes back what is left of a buffer that was written.
    pub(super) fn put_back(&mut self, buffer: Buffer) {
        self.buffer = buffer;
    }

    /// Raises the limit to what the reserved memory allows.
    pub(super) fn use_memory(&mut self, size: ChunkSize) -> Result<()> {
        self.limit = room_for(self.memory.bytes()).min(size.most).max(self.buffer.len());
        if self.limit > self.buffer.capacity() {
            let room = if self.limit <= SMALL { self.limit } else { size.most };
            let mut larger = Buffer::with_room(room).map_err(|_| Error::Busy)?;
            larger.extend(self.buffer.bytes());
            self.buffer = larger;
        }
        Ok(())
    }
}

/// The rooms of a body that the reader is not filling: they are being written, or spare.
#[derive(Default)]
pub(super) struct Rooms {
    state: Mutex<State>,
    returned: Notify,
}

#[derive(Default)]
struct State {
    count: usize,
    /// Those of them that are spare, the larger one last.
    spares: Vec<Room>,
}

impl State {
    /// Takes the smaller of two spare ones, if others wait for its memory.
    fn surplus(&mut self) -> Option<Room> {
        let is_surplus = self.spares.len() > 1 && self.spares[0].memory.is_wanted();
        is_surplus.then(|| {
            self.count -= 1;
            self.spares.remove(0)
        })
    }
}

/// What there is besides the room that the reader is filling, if any.
pub(super) enum Others {
    /// A spare one, which now belongs to the reader.
    Spare(Room),
    /// None.
    None,
    /// One that is being written.
    One,
    /// As many as a body may have, which are being written or queued for it.
    Two,
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a room that the reader gives away.
    pub(super) fn give_away(&self) {
        self.lock().count += 1;
    }

    /// Looks for one that the reader may take.
    pub(super) fn take(&self) -> Others {
        let mut state = self.lock();
        let surplus = state.surplus();
        let others = match (state.spares.pop(), state.count) {
            (Some(spare), count) => {
                state.count -= 1;
                // If the body makes progress without it, it is released for requests that wait.
                let is_released = count > 1 && spare.memory.is_wanted();
                if is_released { Err(spare) } else { Ok(Others::Spare(spare)) }
            }
            (None, 0) => Ok(Others::None),
            (None, 1) => Ok(Others::One),
            (None, _) => Ok(Others::Two),
        };
        drop(state);
        drop(surplus);
        others.unwrap_or_else(|released| {
            drop(released);
            Others::One
        })
    }

    /// Waits until one has been written.
    pub(super) async fn returned(&self) {
        self.returned.notified().await;
    }

    /// Returns one that has been written.
    pub(super) fn give_back(&self, room: Room) {
        let mut state = self.lock();
        let is_larger = state.spares.last().is_none_or(|it| room.memory.bytes() >= it.memory.bytes());
        let at = if is_larger { state.spares.len() } else { 0 };
        state.spares.insert(at, room);
        let surplus = state.surplus();
        drop(state);
        drop(surplus);
        self.returned.notify_one();
    }

    /// Drops the spare ones.
    pub(super) fn drop_spares(&self) {
        let mut state = self.lock();
        let spares = mem::take(&mut state.spares);
        state.count -= spares.len();
        drop(state);
        drop(spares);
    }
}
