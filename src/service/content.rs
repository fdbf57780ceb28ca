//! The way of a byte out: the manifest's Parts in order, in bounded pieces, the next ones read
//! while the last is sent. A Part whose bytes are missing or damaged breaks the stream off: a File never
//! ends as if it were whole when it is not.

use std::collections::HashMap;
use std::ops::Range;
use std::pin::pin;
use std::{iter, mem};

use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{Error, Result, Service};
use crate::blobs::{self, BlobKey, Chunk, Reader, Stretch};
use crate::db::{contents, files, parts};
use crate::domain::{Crc64, File, FileId, Part, PartId, ProjectId};

/// How many Parts that are in the ledger are read together.
const CONTENTS_AT_ONCE: usize = 16;

/// A stretch of a File that a client may ask for, before the File's size is known (RFC 9110, 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From an offset to the end, or up to and including another one.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

impl ByteRange {
    /// The stretch in a file of so many bytes; none if it is outside.
    pub fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Bytes of a File on their way out.
pub struct Content {
    /// In order. An error is the last thing that comes.
    pub stretches: mpsc::Receiver<Result<Stretch>>,
}

impl Service {
    /// Reads a stretch of a File.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`]; failures of the store come in the stream.
    pub async fn read_file(self, project: ProjectId, id: FileId, range: Range<u64>) -> Result<Content> {
        let file: File = files::find(&self.db, project, id).await?.ok_or(Error::NoSuchFile(id))?;
        let end = range.end.min(file.bytes.get());
        let placed = parts::list_covering(&self.db, id, range.start, end).await?;
        let wanted = placed
            .into_iter()
            .map(|it| {
                let within = |at: u64| at.saturating_sub(it.offset).min(it.part.bytes.get());
                (it.part, within(range.start)..within(end))
            })
            .collect();
        Ok(Content { stretches: self.read_parts(wanted) })
    }

    /// Reads stretches of Parts one after another, in a task that ends when nobody listens.
    pub(super) fn read_parts(&self, wanted: Vec<(Part, Range<u64>)>) -> mpsc::Receiver<Result<Stretch>> {
        let (out, stretches) = mpsc::channel(1);
        let this = self.clone();
        self.spawn(async move {
            let mut pieces = pin!(this.pieces(&wanted));
            let mut crc64 = Crc64::EMPTY;
            while let Some((piece, chunks)) = pieces.next().await {
                if let Err(error) = piece.send(chunks, &mut crc64, &out).await {
                    metrics::counter!("windlass_objects_unreadable_total").increment(1);
                    tracing::error!(part.id = %piece.part.id, upload.id = %piece.part.upload,
                        error = &error as &dyn std::error::Error, "a part cannot be read");
                    out.send(Err(error)).await.ok();
                    return;
                }
                if out.is_closed() {
                    return;
                }
            }
        });
        stretches
    }

    /// The pieces in order, some of them read ahead: towards the end of a Part those of the next one.
    fn pieces(&self, wanted: &[(Part, Range<u64>)]) -> impl Stream<Item = (Piece, Result<ChunksToCome>)> {
        let neighbours = wanted.chunk_by(|(a, _), (b, _)| a.in_ledger && b.in_ledger);
        let opened_at_once: Vec<_> = neighbours.flat_map(|it| it.chunks(CONTENTS_AT_ONCE)).map(<[_]>::to_vec).collect();
        let opened = stream::iter(opened_at_once).then(|it| self.open(it)).flat_map(stream::iter);
        let pieces = opened.flat_map(|(part, range, mut source)| {
            stream::iter(Piece::of(part, range, self.blobs.piece_bytes())).map(move |piece| match &mut source {
                Ok(source) => (piece, Ok(source.read(piece.offset..piece.offset + piece.length))),
                // Nobody asks for more than the first piece of what cannot be read.
                Err(error) => (piece, Err(mem::replace(error, Error::Interrupted))),
            })
        });
        pieces.map(ready).buffered(self.blobs.pieces_ahead())
    }

    /// Finds the bytes of an object, or of some Parts that are all in the ledger.
    async fn open(&self, wanted: Vec<(Part, Range<u64>)>) -> Vec<(Part, Range<u64>, Result<Source>)> {
        if let [(part, range)] = &*wanted
            && !part.in_ledger
        {
            let reader = self.blobs.read(BlobKey::from(part.id)).await;
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
        loop {
            match self.patiently(contents::list(&self.db, parts)).await {
                Ok(contents) => return Ok(contents.into_iter().collect()),
                Err(error) => attempts.after(error).await?,
            }
        }
    }
}

type ChunksToCome = mpsc::Receiver<blobs::Result<Chunk>>;

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

    fn read(&self, range: Range<u64>) -> ChunksToCome {
        match self {
            Self::Object(reader) => reader.read(range),
            Self::Content(content) => {
                let (given, chunks) = mpsc::channel(1);
                let at = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
                // It takes one, and nobody has hung up.
                given.try_send(Ok(content.slice(at(range.start)..at(range.end)).into())).ok();
                chunks
            }
        }
    }
}

/// A stretch of a Part that is read at once.
#[derive(Clone, Copy)]
struct Piece {
    part: Part,
    offset: u64,
    length: u64,
    /// Whether the Part is read from its beginning to its end: then its checksum is to be right.
    of_whole: bool,
}

impl Piece {
    fn of(part: Part, range: Range<u64>, most: u64) -> impl Iterator<Item = Self> {
        let of_whole = range == (0..part.bytes.get());
        let offsets = iter::successors(Some(range.start), move |it| it.checked_add(most));
        offsets.take_while(move |it| *it < range.end).map(move |offset| {
            let length = most.min(range.end - offset);
            Self { part, offset, length, of_whole }
        })
    }

    /// Gives its bytes on, but the last of a whole Part only if its checksum has turned out right.
    async fn send(
        &self,
        chunks: Result<ChunksToCome>,
        crc64: &mut Crc64,
        out: &mpsc::Sender<Result<Stretch>>,
    ) -> Result<()> {
        let (mut chunks, mut at) = (chunks?, self.offset);
        while at < self.offset + self.length {
            let read = chunks.recv().await.ok_or(Error::Interrupted)?;
            let read = read.map_err(|error| unreadable(self.part.id, error))?;
            let before = if at == 0 { Crc64::EMPTY } else { *crc64 };
            *crc64 = before.followed_by(read.crc64, read.bytes.length());
            at += read.bytes.length();
            let is_last = at == self.part.bytes.get();
            if self.of_whole && is_last && *crc64 != self.part.crc64 {
                return Err(Error::Damaged(self.part.id));
            }
            if out.send(Ok(read.bytes)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// An object that is gone or cut short is the File's damage; anything else may be over in a moment.
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
}
