//! The read path: the manifest's Parts in order, in bounded pieces, the next one being read while the last is sent;
//! what is in the page cache is read only when it is sent. A Part whose bytes are missing or damaged aborts the stream:
//! a File never ends as if it were complete when it is not.

use std::collections::HashMap;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::{iter, mem};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future, stream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::wanted::Wanted;
use super::{Error, Result, Service};
use crate::blobs::{self, BlobKey, Blobs, CHUNK_KIB, Chunk, Chunks, FileReader, Reader, Stretch};
use crate::db::{contents, files};
use crate::domain::{Crc64, File, FileId, Part, PartId, ProjectId};

/// Responses up to this size are not counted and never wait: it is little more than what every connection takes.
const FREE_BYTES: u64 = 64 * 1024;

/// A range of a File that a client may request, before the File's size is known (RFC 9110, 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From an offset to the end, or up to and including another one.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

impl ByteRange {
    /// The range within a file of so many bytes; `None` if it is outside.
    pub fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Bytes of a File being sent.
pub struct Content {
    /// The runtime that waits for disks.
    runtime: Handle,
    /// The next one is already being read.
    pieces: mpsc::Receiver<Piece>,
    piece: Option<Piece>,
    /// Of the bytes of a Part so far.
    crc64: Crc64,
    /// The memory for a chunk that was read and not sent yet; further chunks count in the memory of all readers.
    _memory: Option<OwnedSemaphorePermit>,
}

impl Content {
    /// The next bytes. An error is the last item.
    pub async fn next(&mut self) -> Option<Result<Stretch>> {
        future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same as a step of a future. Another thread waits for the disk.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Stretch>>> {
        loop {
            if let Some(piece) = self.piece.as_mut().filter(|it| !it.range.is_empty()) {
                let next = ready!(piece.poll_next(&mut self.crc64, &self.runtime, cx));
                if let Err(error) = &next {
                    tell(&piece.part, error);
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

impl Service {
    /// Reads a range of a File.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`], or [`Error::BusySending`] if slow clients hold too much memory; failures of the store
    /// come in the stream.
    pub async fn read_file(self, project: ProjectId, id: FileId, range: Range<u64>) -> Result<Content> {
        let found = self.patiently(files::find(&self.db, project, id)).await?;
        let file: File = found.ok_or(Error::NoSuchFile(id))?;
        let end = range.end.min(file.bytes.get());
        let wanted = Wanted::of_file(&self, id, range.start..end).await?;
        self.read(wanted, end.saturating_sub(range.start)).await
    }

    /// Reads whole Parts one after another.
    ///
    /// # Errors
    /// [`Error::BusySending`], as for a File.
    pub(super) async fn read_parts(&self, parts: &[Part]) -> Result<Content> {
        self.read(Wanted::whole(parts), parts.iter().map(|part| part.bytes.get()).sum()).await
    }

    /// Spawns a task that reads ahead until the `Content` is dropped.
    async fn read(&self, wanted: Wanted, bytes: u64) -> Result<Content> {
        let is_sent_from_memory = matches!(self.blobs, Blobs::Remote(_)) || wanted.may_be_in_ledger();
        let is_counted = is_sent_from_memory && bytes > FREE_BYTES;
        let memory = if is_counted { Some(self.reserve_to_send(CHUNK_KIB.into()).await?) } else { None };
        let (out, pieces) = mpsc::channel(1);
        let this = self.clone();
        self.spawn(async move {
            let mut pieces = pin!(this.pieces(wanted));
            while let Ok(room) = out.reserve().await
                && let Some(piece) = pieces.next().await
            {
                room.send(piece);
            }
        });
        let (runtime, crc64) = (self.runtime.clone(), Crc64::EMPTY);
        Ok(Content { runtime, pieces, piece: None, crc64, _memory: memory })
    }

    /// The pieces in order. Each is already being read when it is yielded, except for what is left of a file.
    fn pieces(&self, wanted: Wanted) -> impl Stream<Item = Piece> {
        let opened_at_once =
            stream::unfold(wanted, move |mut wanted| async move { Some((wanted.next(self).await?, wanted)) });
        let opened = opened_at_once.then(|it| self.open(it)).flat_map(stream::iter);
        opened.flat_map(|(part, range, source)| stream::iter(Piece::of(part, range, source, self.blobs.piece_bytes())))
    }

    /// Finds the bytes of an object, or of some Parts that are all in the ledger.
    async fn open(&self, wanted: Vec<(Part, Range<u64>)>) -> Vec<(Part, Range<u64>, Result<Source>)> {
        if let [(part, range)] = &*wanted
            && !part.in_ledger
        {
            let reader = self.blobs.read(BlobKey::from(part.id), part.bytes.get(), &self.read_ahead).await;
            let source = reader.map(Source::Object).map_err(|error| unreadable(part.id, error));
            return vec![(*part, range.clone(), source)];
        }
        let ids: Vec<_> = wanted.iter().map(|(part, _)| part.id).collect();
        match self.contents(&ids).await {
            Ok(mut contents) => wanted
                .into_iter()
                .map(|(part, range)| (part, range, Source::of_content(&part, contents.remove(&part.id))))
                .collect(),
            Err(error) => wanted.into_iter().zip([Err(error)]).map(|((part, range), it)| (part, range, it)).collect(),
        }
    }

    async fn contents(&self, parts: &[PartId]) -> Result<HashMap<PartId, Vec<u8>>> {
        let mut attempts = self.attempts();
        let found = async {
            loop {
                match contents::list(&self.db, parts).await {
                    Ok(contents) => return Ok::<_, Error>(contents.into_iter().collect()),
                    Err(error) => attempts.after(error.into()).await?,
                }
            }
        };
        self.patiently(found).await
    }
}

/// Where a Part's bytes come from.
enum Source {
    Object(Reader),
    Content(Bytes),
}

impl Source {
    fn of_content(part: &Part, content: Option<Vec<u8>>) -> Result<Self> {
        let content = content.ok_or(Error::Missing(part.id))?;
        let is_whole = content.len() as u64 == part.bytes.get();
        is_whole.then(|| Self::Content(content.into())).ok_or(Error::Damaged(part.id))
    }

    fn read(&self, range: Range<u64>) -> Chunks {
        match self {
            Self::Object(reader) => reader.read(range),
            Self::Content(content) => {
                let (given, chunks) = mpsc::channel(1);
                let at = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
                // There is room for one, and the receiver exists.
                given.try_send(Ok(content.slice(at(range.start)..at(range.end)).into())).ok();
                chunks.into()
            }
        }
    }
}

/// What is left of a range of a Part.
struct Piece {
    part: Part,
    range: Range<u64>,
    /// Whether the Part is read from beginning to end, so that its checksum can be verified.
    of_whole: bool,
    way: Result<Way>,
}

/// How a piece is read.
enum Way {
    /// It is being read.
    Read(Chunks),
    /// Out of a file, where it is sent, each stretch a moment before: the processor's cache has it still, and
    /// it goes from thread to thread only where a disk is waited for.
    File(FileReader, Option<mpsc::Receiver<blobs::Result<Chunk>>>),
}

impl Piece {
    /// Cuts a range into pieces of at most so many bytes; what is left of a file is a single piece.
    fn of(part: Part, range: Range<u64>, source: Result<Source>, most: u64) -> impl Iterator<Item = Self> {
        let of_whole = range == (0..part.bytes.get());
        let (mut source, first, mut left) = (source, range.start, range);
        iter::from_fn(move || {
            if left.is_empty() {
                return None;
            }
            let (start, end) = (left.start, left.end.min(left.start.saturating_add(most)));
            let (range, way) = match &mut source {
                Ok(Source::Object(Reader::File(file))) if start > first => {
                    (start..left.end, Ok(Way::File(file.clone(), None)))
                }
                Ok(source) => (start..end, Ok(Way::Read(source.read(start..end)))),
                // Nothing after the first piece of an unreadable Part is requested.
                Err(error) => (start..end, Err(mem::replace(error, Error::Interrupted))),
            };
            left.start = range.end;
            Some(Self { part, range, of_whole, way })
        })
    }

    /// Its next bytes; the last of a whole Part only if its checksum is right.
    fn poll_next(&mut self, crc64: &mut Crc64, runtime: &Handle, cx: &mut Context<'_>) -> Poll<Result<Stretch>> {
        let read = match &mut self.way {
            Ok(way) => ready!(way.poll_next(&self.range, runtime, cx)).ok_or(Error::Interrupted)?,
            Err(error) => return Poll::Ready(Err(mem::replace(error, Error::Interrupted))),
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

impl Way {
    fn poll_next(
        &mut self,
        range: &Range<u64>,
        runtime: &Handle,
        cx: &mut Context<'_>,
    ) -> Poll<Option<blobs::Result<Chunk>>> {
        match self {
            Self::Read(chunks) => chunks.poll_next(cx),
            Self::File(file, waited_for) => {
                if waited_for.is_none() {
                    if let Some(chunk) = file.read_kept(range.clone()) {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    let _entered = runtime.enter();
                    *waited_for = Some(file.wait_for(range.clone()));
                }
                let read = ready!(waited_for.as_mut().map_or(Poll::Ready(None), |it| it.poll_recv(cx)));
                *waited_for = None;
                Poll::Ready(read)
            }
        }
    }
}

/// Reports to the operator that bytes could not be read.
fn tell(part: &Part, error: &Error) {
    metrics::counter!("windlass_objects_unreadable_total").increment(1);
    tracing::error!(part.id = %part.id, upload.id = %part.upload, error = error as &dyn std::error::Error,
        "a part cannot be read");
}

/// An object that is missing or too short means that the File is damaged; any other failure may be temporary.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are the store's")]
fn unreadable(part: PartId, error: blobs::Error) -> Error {
    match error {
        blobs::Error::Missing(_) => Error::Missing(part),
        blobs::Error::WrongLength(_) => Error::Damaged(part),
        store => store.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file_or_are_outside_it() {
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
    async fn nothing_comes_after_an_error() {
        use crate::domain::{ByteCount, UploadId};

        let bytes = ByteCount::try_from(5_u64).unwrap();
        let (id, upload, created_at) = (PartId::generate(), UploadId::generate(), chrono::DateTime::UNIX_EPOCH);
        let part = Part { id, upload, bytes, crc64: Crc64::EMPTY, created_at, in_ledger: true };
        let source = || Source::Content(Bytes::from_static(b"bytes"));
        let (out, pieces) = mpsc::channel(3);
        for source in [Ok(source()), Err(Error::Missing(id)), Ok(source())] {
            // Only a range of the Part: its checksum is not verified.
            out.send(Piece::of(part, 1..4, source, 10).next().unwrap()).await.unwrap();
        }
        let runtime = Handle::current();
        let mut content = Content { runtime, pieces, piece: None, crc64: Crc64::EMPTY, _memory: None };
        assert_eq!(content.next().await.unwrap().unwrap().length(), 3);
        assert!(matches!(content.next().await, Some(Err(Error::Missing(_)))));
        assert!(content.next().await.is_none());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_on_a_disk_only_is_waited_for() {
        use std::fs;

        use crate::blobs::{Blobs, IfMissing, Location, Variables};

        let root = tempfile::tempdir().unwrap();
        let location = Location::Directory(root.path().to_owned());
        let blobs = Blobs::open(&location, &Variables::default(), IfMissing::Make).await.unwrap();
        blobs.prepare().await.unwrap();
        let key = BlobKey::from(PartId::generate());
        let bytes: Vec<u8> = (0..5_000_001_u32).map(|it| it.to_le_bytes()[it as usize % 3]).collect();
        let path = root.path().join(key.to_string());
        fs::write(&path, &bytes).unwrap();
        let file = fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();

        let memory = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let Reader::File(file) = blobs.read(key, bytes.len() as u64, &memory).await.unwrap() else {
            panic!("it is a file")
        };
        let mut way = Way::File(file, None);
        let (mut left, mut read) = (0..bytes.len() as u64, Vec::new());
        while !left.is_empty() {
            let next = future::poll_fn(|cx| way.poll_next(&left, &Handle::current(), cx)).await;
            let stretch = next.expect("there is more").unwrap().bytes;
            stretch.look(|seen| read.extend_from_slice(seen)).unwrap();
            left.start += stretch.length();
        }
        assert!(read == bytes);
    }
}
