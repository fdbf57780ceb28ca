//! Memory for chunks of objects that have been read from a bucket and not sent yet. All readers share a bounded amount,
//! and each has memory for one chunk of its own, so that slow clients do not block others.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Chunk, Result};

/// What a chunk counts for: the store's client reads up to 400 KiB at once. A smaller chunk counts for as much, since
/// it keeps the whole read buffer allocated.
pub const CHUNK_KIB: u32 = 512;

/// The shared memory of all readers, in KiB.
pub type ReadAhead = Arc<Semaphore>;

/// Where one read finds memory for its chunks.
#[derive(Debug, Clone)]
pub(super) struct Room {
    shared: ReadAhead,
    /// Has a permit while it is this read's turn and its previous chunk has been sent. The memory behind it is reserved
    /// by the reader, which gives the turn to one read at a time.
    own: Arc<Semaphore>,
}

/// Memory for a chunk that has yet to arrive.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A chunk with its memory.
struct Counted {
    bytes: Bytes,
    _place: Place,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    pub(super) fn new(shared: ReadAhead) -> Self {
        Self { shared, own: Arc::new(Semaphore::new(0)) }
    }

    /// Memory for a chunk: the reader's own, or free shared memory, or else the reader's own as soon as it is this
    /// read's turn and the previous chunk has been sent. `None` if the semaphores are closed, which they never are.
    pub(super) async fn place(&self) -> Option<Place> {
        let own = Arc::clone(&self.own);
        if let Ok(permit) = own.clone().try_acquire_owned() {
            return Some(Place { _permit: permit });
        }
        if let Ok(permit) = Arc::clone(&self.shared).try_acquire_many_owned(CHUNK_KIB) {
            return Some(Place { _permit: permit });
        }
        own.acquire_owned().await.ok().map(|permit| Place { _permit: permit })
    }
}

impl Place {
    /// Holds the memory until the last reference to these bytes is dropped. They are not copied.
    pub(super) fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Counted { bytes, _place: self })
    }
}

/// The chunks of one read as they arrive. Its turn begins when this is polled for the first time.
#[derive(Debug)]
pub struct Chunks {
    coming: mpsc::Receiver<Result<Chunk>>,
    waiting: Option<Room>,
}

impl Chunks {
    pub(super) fn new(coming: mpsc::Receiver<Result<Chunk>>, room: Room) -> Self {
        Self { coming, waiting: Some(room) }
    }

    /// The next chunk, if there is one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        if let Some(room) = self.waiting.take() {
            room.own.add_permits(1);
        }
        self.coming.poll_recv(cx)
    }
}

/// Chunks that do not count in the memory of readers.
impl From<mpsc::Receiver<Result<Chunk>>> for Chunks {
    fn from(coming: mpsc::Receiver<Result<Chunk>>) -> Self {
        Self { coming, waiting: None }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn kib(chunks: u32) -> ReadAhead {
        Arc::new(Semaphore::new((chunks * CHUNK_KIB) as usize))
    }

    #[tokio::test]
    async fn a_reading_takes_shared_memory_while_there_is_and_one_chunk_when_it_is_its_turn() {
        let shared = kib(2);
        let room = Room::new(Arc::clone(&shared));
        let held: Vec<_> = (0..2).map(|_| room.place().now_or_never().flatten().unwrap().hold("x".into())).collect();
        assert!(room.place().now_or_never().is_none(), "there is no memory, and it is not its turn");

        let mut chunks = Chunks::new(mpsc::channel(1).1, room.clone());
        assert!(future_of(&mut chunks).await.is_none());
        let own = room.place().now_or_never().flatten().unwrap().hold("y".into());
        assert!(room.place().now_or_never().is_none(), "it has one chunk of its own, which is not sent yet");
        drop(own.slice(0..1));
        assert!(room.place().now_or_never().is_none());
        drop(own);
        assert!(room.place().now_or_never().is_some());

        assert_eq!(shared.available_permits(), 0);
        drop(held);
        assert_eq!(shared.available_permits(), 2 * CHUNK_KIB as usize);
    }

    async fn future_of(chunks: &mut Chunks) -> Option<Result<Chunk>> {
        std::future::poll_fn(|cx| chunks.poll_next(cx)).await
    }
}
