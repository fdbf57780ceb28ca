//! Memory for chunks that have been read from a bucket and not sent yet. All readers share a bounded amount, and each
//! also has reserved memory for one chunk, so that slow clients do not block others.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::Span;

use super::{Chunk, Result};
use crate::spans;

/// The memory that is accounted for each chunk, in KiB: the store's client reads up to 400 KiB at once. A smaller chunk
/// counts as much, since it keeps the whole read buffer allocated.
pub const CHUNK_KIB: u32 = 512;

/// The shared memory of all readers, in KiB.
pub type ReadAhead = Arc<Semaphore>;

/// The memory for the chunks of one read: shared memory, and the reader's reserved chunk during this read's turn.
#[derive(Debug, Clone)]
pub(super) struct ReservedChunk {
    shared: ReadAhead,
    /// Has a permit while it is this read's turn and the reserved memory is free. A reader's reads take turns, one at a
    /// time.
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

impl ReservedChunk {
    pub(super) fn new(shared: ReadAhead) -> Self {
        Self { shared, own: Arc::new(Semaphore::new(0)) }
    }

    /// Waits for memory for a chunk: the reserved memory if it is available, else shared memory, else the reserved
    /// memory as soon as it is this read's turn and the previous chunk in it has been sent. `None` if the semaphores
    /// are closed, which they never are.
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
    /// Ties the memory to these bytes: it is freed when the last reference to them is dropped. They are not copied.
    pub(super) fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Counted { bytes, _place: self })
    }
}

/// The chunks of one read as they arrive. Its turn begins when this is polled for the first time.
#[derive(Debug)]
pub struct Chunks {
    coming: mpsc::Receiver<Result<Chunk>>,
    waiting: Option<ReservedChunk>,
    /// Lasts until the chunks have been read.
    span: Span,
}

impl Chunks {
    pub(super) fn new(coming: mpsc::Receiver<Result<Chunk>>, room: ReservedChunk) -> Self {
        Self { coming, waiting: Some(room), span: Span::none() }
    }

    /// The same chunks, whose reading is traced by this span.
    pub(super) fn with_span(self, span: Span) -> Self {
        Self { span, ..self }
    }

    /// Polls for the next chunk; `None` after the last one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        if let Some(room) = self.waiting.take() {
            room.own.add_permits(1);
        }
        let next = self.coming.poll_recv(cx);
        if let Poll::Ready(Some(Err(_))) = &next {
            spans::fail(&self.span);
        }
        next
    }
}

/// Chunks that are not counted in the memory of readers.
impl From<mpsc::Receiver<Result<Chunk>>> for Chunks {
    fn from(coming: mpsc::Receiver<Result<Chunk>>) -> Self {
        Self { coming, waiting: None, span: Span::none() }
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
    async fn a_read_uses_shared_memory_and_one_reserved_chunk_during_its_turn() {
        let shared = kib(2);
        let room = ReservedChunk::new(Arc::clone(&shared));
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
