//! Reads objects from a bucket: a whole Part per request, in chunks as they arrive, as long as the client keeps up.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::read_ahead::{Chunks, Place, ReadAhead, ReservedChunk};
use super::{Chunk, Error, ObjectKey, Result};
use crate::spawn::spawn;

/// The maximum number of bytes per request, usually a whole Part: the overhead of a request equals the cost of several
/// megabytes. A client that does not keep up is detected by the duration of the response.
pub(super) const PIECE_BYTES: u64 = 64 * 1024 * 1024;

/// How many chunks of a response are buffered for the client, if there is memory for them (`read_ahead`). Further ones
/// stay in the socket, and then in the store.
const CHUNKS_AHEAD: usize = 3;

/// How long a response of the store is kept open for a client that does not keep up with it.
const MAX_RESPONSE_TIME: Duration = Duration::from_secs(5);

/// The minimum size of the next request for such a client, which is otherwise half of what it read in that time. The
/// socket's buffers hold this much, so the store can finish its response.
const SLOW_PIECE_BYTES: u64 = 1024 * 1024;

/// An object that is being read.
#[derive(Debug, Clone)]
pub struct ObjectReader {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    key: ObjectKey,
    /// The size of the object.
    bytes: u64,
    memory: ReadAhead,
}

/// A slot in the channel, and memory, for the next chunk.
struct Next<'c> {
    slot: mpsc::Permit<'c, Result<Chunk>>,
    place: Place,
}

impl<'c> Next<'c> {
    /// Waits for both; `None` once the receiver has been dropped.
    async fn wait(out: &'c mpsc::Sender<Result<Chunk>>, room: &ReservedChunk) -> Option<Self> {
        let slot = out.reserve().await.ok()?;
        tokio::select! {
            place = room.place() => Some(Self { slot, place: place? }),
            () = out.closed() => None,
        }
    }

    fn send(self, bytes: Bytes) {
        self.slot.send(Ok(Chunk::from(self.place.hold(bytes))));
    }
}

impl ObjectReader {
    pub(super) fn new(
        objects: Arc<dyn ObjectStore>,
        path: Path,
        key: ObjectKey,
        bytes: u64,
        memory: ReadAhead,
    ) -> Self {
        Self { objects, path, key, bytes, memory }
    }

    pub(super) fn read(&self, range: Range<u64>) -> Chunks {
        let (out, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let (this, room) = (self.clone(), ReservedChunk::new(Arc::clone(&self.memory)));
        let chunks = Chunks::new(chunks, room.clone());
        spawn(async move {
            if let Err(error) = this.send(range, &out, &room).await {
                out.send(Err(error)).await.ok();
            }
        });
        chunks
    }

    /// Sends a range of an object until the receiver is dropped. Nothing is requested before there is memory for it.
    async fn send(&self, range: Range<u64>, out: &mpsc::Sender<Result<Chunk>>, room: &ReservedChunk) -> Result<()> {
        let (mut at, mut most) = (range.start, u64::MAX);
        let mut next = Next::wait(out, room).await;
        'requests: while at < range.end && next.is_some() {
            let (start, end) = (at, range.end.min(at.saturating_add(most)));
            let mut response = self.request(start..end).await?;
            let closing = Instant::now() + MAX_RESPONSE_TIME;
            while let Some(bytes) = response.try_next().await? {
                at += bytes.len() as u64;
                if at > end {
                    return Err(Error::WrongLength(self.key));
                }
                let Some(place) = next.take_if(|_| !bytes.is_empty()) else { continue };
                place.send(bytes);
                if at == range.end {
                    // Only the end of the response remains, which needs no memory.
                    continue;
                }
                let mut waiting = pin!(Next::wait(out, room));
                match timeout_at(closing, &mut waiting).await {
                    Ok(None) => return Ok(()),
                    Ok(there) => next = there,
                    Err(_) => {
                        drop(response);
                        most = SLOW_PIECE_BYTES.max((at - start) / 2);
                        next = waiting.await;
                        continue 'requests;
                    }
                }
            }
            if at != end {
                return Err(Error::WrongLength(self.key));
            }
        }
        Ok(())
    }

    async fn request(&self, range: Range<u64>) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        // A request without a range is cheaper for the store.
        let options = GetOptions::new().with_range((range != (0..self.bytes)).then_some(range));
        match self.objects.get_opts(&self.path, options).await {
            Ok(found) => Ok(found.into_stream()),
            Err(object_store::Error::NotFound { .. }) => Err(Error::Missing(self.key)),
            Err(error) => Err(error.into()),
        }
    }
}
