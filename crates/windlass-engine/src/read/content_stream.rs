//! Streams the Parts of a manifest in order, in bounded pieces. The next piece is read while the current one is sent,
//! except that files in the page cache are read only as they are sent.
//!
//! Invariant: an incomplete File is never sent as if it were complete. A missing or damaged Part aborts the stream with
//! an error. If the ledger fails, the stream ends early, which the client detects by the announced length.

use std::collections::HashMap;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::{iter, mem};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future, stream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use windlass_types::{Crc64, PartId};

use crate::db::parts;
use crate::error::{Error, Result};
use crate::model::{File, Part};
use crate::read::manifest_reader::ManifestReader;
use crate::resources::in_flight::InFlight;
use crate::retry::retry;
use crate::service::Service;
use crate::store::{self, BlobStore, CHUNK_KIB, Chunk, Chunks, FileReader, FileSlice, ObjectKey, Reader};

/// Responses of up to this many bytes are not counted in the memory for responses and never wait: they need little more
/// memory than the connection itself.
const UNCOUNTED_BYTES: u64 = 64 * 1024;

/// Takes the place of an error that was returned. Never returned itself, since nothing is read after an error.
const ALREADY_RETURNED: Error = Error::Bug("a piece was read after its error");

/// A requested range of a File whose size is not known yet (RFC 9110, section 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From an offset up to and including another one, or to the end.
    From(u64, Option<u64>),
    /// This many bytes at the end.
    Last(u64),
}

impl ByteRange {
    /// The part of the range that is within a file of `size` bytes; `None` if that is empty.
    pub fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// The content of a File, or of some Parts, as it is sent.
pub struct ContentStream {
    /// The runtime of the blocking threads that read from disks.
    runtime: Handle,
    /// The following pieces; the next one is already being read.
    pieces: mpsc::Receiver<Piece>,
    piece: Option<Piece>,
    /// The checksum of the current Part's bytes so far.
    crc64: Crc64,
    /// The memory for one chunk that was read and not sent yet. Further chunks are counted in the shared read-ahead
    /// memory.
    _memory: Option<OwnedSemaphorePermit>,
    _in_flight: InFlight,
}

impl ContentStream {
    /// The next bytes; `None` at the end, or early if the ledger failed, which is logged. An error is the last item.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub async fn next(&mut self) -> Option<Result<FileSlice>> {
        future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next bytes, see [`Self::next`]. Does not block: disks are read on other threads.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FileSlice>>> {
        loop {
            if let Some(piece) = self.piece.as_mut().filter(|it| !it.range.is_empty()) {
                let next = ready!(piece.poll_next(&mut self.crc64, &self.runtime, cx));
                let next = next.map_err(|source| {
                    count_unreadable(&source);
                    let Part { id: part, upload, .. } = piece.part;
                    Error::Unreadable { part, upload, source: Box::new(source) }
                });
                if next.is_err() {
                    (self.piece, self.pieces) = (None, mpsc::channel(1).1);
                }
                return Poll::Ready(Some(next));
            }
            self.piece = ready!(self.pieces.poll_recv(cx));
            if self.piece.is_none() {
                return Poll::Ready(None);
            }
        }
    }
}

/// Counts a failed read: because of a missing or damaged object, or because the store failed.
fn count_unreadable(error: &Error) {
    let reason = if matches!(error, Error::Missing(_)) {
        "missing"
    } else if matches!(error, Error::Damaged(_)) {
        "damaged"
    } else {
        "store"
    };
    metrics::counter!("windlass_objects_unreadable_total", "reason" => reason).increment(1);
}

impl Service {
    /// Reads a range of a File. If the File is deleted in the meantime, it stays readable for the grace period.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`] if the File's Parts have been deleted, [`Error::BusySending`] if unread responses use up
    /// the memory, or when the ledger fails. Errors of the store are returned by the stream.
    pub async fn read_file(&self, file: &File, range: Range<u64>) -> Result<ContentStream> {
        let (id, range) = (file.id, range.start..range.end.min(file.bytes.get()));
        let read = move |it: Self| async move {
            let manifest = ManifestReader::of_file(&it, id, range.clone()).await?;
            it.read(manifest, range.end.saturating_sub(range.start)).await
        };
        self.run_without_timeout(read).await
    }

    /// Reads whole Parts one after another.
    ///
    /// # Errors
    /// [`Error::BusySending`] as for a File.
    pub(crate) async fn read_parts(&self, parts: &[Part]) -> Result<ContentStream> {
        self.read(ManifestReader::of_parts(parts), parts.iter().map(|part| part.bytes.get()).sum()).await
    }

    /// Spawns a task that reads ahead until the `ContentStream` is dropped.
    async fn read(&self, manifest: ManifestReader, bytes: u64) -> Result<ContentStream> {
        let is_sent_from_memory = matches!(self.blobs, BlobStore::Remote(_)) || manifest.may_be_in_ledger();
        let is_counted = is_sent_from_memory && bytes > UNCOUNTED_BYTES;
        let memory = if is_counted { Some(self.reserve_to_send(CHUNK_KIB.into()).await?) } else { None };
        let (out, pieces) = mpsc::channel(1);
        let this = self.clone();
        self.spawn(async move {
            let mut pieces = pin!(this.pieces(manifest));
            while let Ok(slot) = out.reserve().await
                && let Some(piece) = pieces.next().await
            {
                slot.send(piece);
            }
        });
        let (runtime, crc64) = (self.runtime.clone(), Crc64::EMPTY);
        let in_flight = InFlight::begin("windlass_reads_in_flight");
        Ok(ContentStream { runtime, pieces, piece: None, crc64, _memory: memory, _in_flight: in_flight })
    }

    /// The pieces in order. Each is already being read when it is yielded, except the remainder of a file, which is
    /// read as it is sent.
    fn pieces(&self, manifest: ManifestReader) -> impl Stream<Item = Piece> {
        let groups =
            stream::unfold(manifest, move |mut manifest| async move { Some((manifest.next(self).await?, manifest)) });
        let opened = groups.then(|it| self.open(it)).flat_map(stream::iter);
        opened.flat_map(|(part, range, source)| stream::iter(Piece::of(part, range, source, self.blobs.piece_bytes())))
    }

    /// Opens an object, or fetches the bytes of Parts that are all in the ledger.
    async fn open(&self, group: Vec<(Part, Range<u64>)>) -> Vec<(Part, Range<u64>, Result<Source>)> {
        if let [(part, range)] = &*group
            && !part.in_ledger
        {
            let reader = self.blobs.read(ObjectKey::from(part.id), part.bytes.get(), &self.read_ahead).await;
            let source = reader.map(Source::Object).map_err(|error| unreadable(part.id, error));
            return vec![(*part, range.clone(), source)];
        }
        let ids: Vec<_> = group.iter().map(|(part, _)| part.id).collect();
        match self.contents(&ids).await {
            Ok(mut contents) => group
                .into_iter()
                .map(|(part, range)| (part, range, Source::of_content(&part, contents.remove(&part.id))))
                .collect(),
            Err(error) => group.into_iter().zip([Err(error)]).map(|((part, range), it)| (part, range, it)).collect(),
        }
    }

    /// The bytes of those of the Parts that are in the ledger.
    async fn contents(&self, parts: &[PartId]) -> Result<HashMap<PartId, Vec<u8>>> {
        let find = async || Ok::<_, Error>(parts::list_content(&self.db, parts).await?);
        let found = self.with_db_timeout(async { retry!(self, find()) }).await?;
        Ok(found.into_iter().collect())
    }
}

/// The source of a Part's bytes.
enum Source {
    Object(Reader),
    LedgerBytes(Bytes),
}

impl Source {
    fn of_content(part: &Part, content: Option<Vec<u8>>) -> Result<Self> {
        let content = content.ok_or(Error::Missing(part.id))?;
        let is_whole = content.len() as u64 == part.bytes.get();
        is_whole.then(|| Self::LedgerBytes(content.into())).ok_or(Error::Damaged(part.id))
    }

    fn read(&self, range: Range<u64>) -> Chunks {
        match self {
            Self::Object(reader) => reader.read(range),
            Self::LedgerBytes(content) => {
                let (out, chunks) = mpsc::channel(1);
                let at = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
                // Cannot fail: the channel is empty, and its receiver exists.
                out.try_send(Ok(content.slice(at(range.start)..at(range.end)).into())).ok();
                chunks.into()
            }
        }
    }
}

/// A piece of a Part, of which some bytes may have been sent already.
struct Piece {
    part: Part,
    /// The range that is still to be sent.
    range: Range<u64>,
    /// Whether the whole Part is read, so that its checksum can be verified.
    of_whole: bool,
    reader: Result<PieceReader>,
}

/// How a piece is read.
enum PieceReader {
    /// The read is in progress.
    Read(Chunks),
    /// Slices of a file, each read just before it is sent, so that it is still in the CPU cache. A blocking thread is
    /// used only if a slice is not in the page cache.
    File(FileReader, Option<mpsc::Receiver<store::Result<Chunk>>>),
}

impl Piece {
    /// Splits a range into pieces of at most `most` bytes. The remainder of a file after the first is a single piece.
    fn of(part: Part, range: Range<u64>, source: Result<Source>, most: u64) -> impl Iterator<Item = Self> {
        let of_whole = range == (0..part.bytes.get());
        let (mut source, first, mut left) = (source, range.start, range);
        iter::from_fn(move || {
            if left.is_empty() {
                return None;
            }
            let (start, end) = (left.start, left.end.min(left.start.saturating_add(most)));
            let (range, reader) = match &mut source {
                Ok(Source::Object(Reader::File(file))) if start > first => {
                    (start..left.end, Ok(PieceReader::File(file.clone(), None)))
                }
                Ok(source) => (start..end, Ok(PieceReader::Read(source.read(start..end)))),
                // No further piece of an unreadable Part is read.
                Err(error) => (start..end, Err(mem::replace(error, ALREADY_RETURNED))),
            };
            left.start = range.end;
            Some(Self { part, range, of_whole, reader })
        })
    }

    /// Polls for the next bytes. The last bytes of a whole Part are returned only if its checksum matches.
    fn poll_next(&mut self, crc64: &mut Crc64, runtime: &Handle, cx: &mut Context<'_>) -> Poll<Result<FileSlice>> {
        let read = match &mut self.reader {
            Ok(reader) => ready!(reader.poll_next(&self.range, runtime, cx)).ok_or(Error::ShuttingDown)?,
            Err(error) => return Poll::Ready(Err(mem::replace(error, ALREADY_RETURNED))),
        };
        let chunk = read.map_err(|error| unreadable(self.part.id, error))?;
        let before = if self.range.start == 0 { Crc64::EMPTY } else { *crc64 };
        *crc64 = before.followed_by(chunk.crc64, chunk.bytes.length());
        self.range.start += chunk.bytes.length();
        let is_last = self.range.start == self.part.bytes.get();
        if self.of_whole && is_last && *crc64 != self.part.crc64 {
            return Poll::Ready(Err(Error::Damaged(self.part.id)));
        }
        Poll::Ready(Ok(chunk.bytes))
    }
}

impl PieceReader {
    fn poll_next(
        &mut self,
        range: &Range<u64>,
        runtime: &Handle,
        cx: &mut Context<'_>,
    ) -> Poll<Option<store::Result<Chunk>>> {
        match self {
            Self::Read(chunks) => chunks.poll_next(cx),
            Self::File(file, pending) => {
                if pending.is_none() {
                    if let Some(chunk) = file.read_kept(range.clone()) {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    let _entered = runtime.enter();
                    *pending = Some(file.wait_for(range.clone()));
                }
                let read = ready!(pending.as_mut().map_or(Poll::Ready(None), |it| it.poll_recv(cx)));
                *pending = None;
                Poll::Ready(read)
            }
        }
    }
}

/// Converts an error of the store. A missing object or a wrong length means damage; any other failure may be temporary.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are failures of the store")]
fn unreadable(part: PartId, error: store::Error) -> Error {
    match error {
        store::Error::Missing(_) => Error::Missing(part),
        store::Error::WrongLength(_) => Error::Damaged(part),
        store => store.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_to_the_file_or_unsatisfiable() {
        assert_eq!(ByteRange::From(0, None).within(10), Some(0..10));
        assert_eq!(ByteRange::From(3, Some(3)).within(10), Some(3..4));
        assert_eq!(ByteRange::From(3, Some(u64::MAX)).within(10), Some(3..10));
        assert_eq!(ByteRange::Last(4).within(10), Some(6..10));
        assert_eq!(ByteRange::Last(40).within(10), Some(0..10));
        for outside in [ByteRange::From(10, None), ByteRange::Last(0), ByteRange::From(5, Some(4))] {
            assert_eq!(outside.within(10), None, "{outside:?}");
        }
        assert_eq!(ByteRange::From(0, None).within(0), None);
    }

    #[tokio::test]
    async fn a_stream_ends_after_an_error() {
        use windlass_types::{ByteCount, UploadId};

        let bytes = ByteCount::try_from(5_u64).unwrap();
        let (id, upload, created_at) = (PartId::generate(), UploadId::generate(), chrono::DateTime::UNIX_EPOCH);
        let part = Part { id, upload, bytes, crc64: Crc64::EMPTY, created_at, in_ledger: true };
        let source = || Source::LedgerBytes(Bytes::from_static(b"bytes"));
        let (out, pieces) = mpsc::channel(3);
        for source in [Ok(source()), Err(Error::Missing(id)), Ok(source())] {
            // This is not the whole Part, so its checksum is not verified.
            out.send(Piece::of(part, 1..4, source, 10).next().unwrap()).await.unwrap();
        }
        let runtime = Handle::current();
        let in_flight = InFlight::begin("windlass_reads_in_flight");
        let mut content =
            ContentStream { runtime, pieces, piece: None, crc64: Crc64::EMPTY, _memory: None, _in_flight: in_flight };
        assert_eq!(content.next().await.unwrap().unwrap().length(), 3);
        let read = content.next().await;
        assert!(matches!(read, Some(Err(Error::Unreadable { source, .. })) if matches!(*source, Error::Missing(_))));
        assert!(content.next().await.is_none());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn bytes_outside_the_page_cache_are_read_by_a_blocking_thread() {
        use std::fs;

        use crate::store::{BlobStore, IfMissing, Location, Variables};

        let root = tempfile::tempdir().unwrap();
        let location = Location::Directory(root.path().to_owned());
        let blobs = BlobStore::open(&location, &Variables::default(), IfMissing::Make).await.unwrap();
        blobs.prepare().await.unwrap();
        let key = ObjectKey::from(PartId::generate());
        let bytes: Vec<u8> = (0..5_000_001_u32).map(|it| it.to_le_bytes()[it as usize % 3]).collect();
        let path = root.path().join(key.to_string());
        fs::write(&path, &bytes).unwrap();
        let file = fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();

        let memory = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let Reader::File(file) = blobs.read(key, bytes.len() as u64, &memory).await.unwrap() else {
            panic!("the reader is not a file")
        };
        let mut reader = PieceReader::File(file, None);
        let (mut left, mut read) = (0..bytes.len() as u64, Vec::new());
        while !left.is_empty() {
            let next = future::poll_fn(|cx| reader.poll_next(&left, &Handle::current(), cx)).await;
            let slice = next.expect("the file ended early").unwrap().bytes;
            slice.look(|seen| read.extend_from_slice(seen)).unwrap();
            left.start += slice.length();
        }
        assert!(read == bytes);
    }
}
