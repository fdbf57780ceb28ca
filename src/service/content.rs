//! The way of a byte out: the manifest's objects in order, in bounded pieces, the next ones read
//! while the last is sent. An object that is missing or damaged breaks the stream off: a File never
//! ends as if it were whole when it is not.

use std::ops::Range;
use std::pin::pin;
use std::{iter, mem};

use futures_util::future::ready;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{Error, Result, Service};
use crate::blobs::{self, BlobKey, Chunk, Stretch};
use crate::db::{files, parts};
use crate::domain::{Crc64, File, FileId, Part, PartId, ProjectId};

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
        let placed = parts::list_manifest(&self.db, id.upload(), range.start, end).await?;
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
            let mut pieces = pin!(this.pieces(wanted));
            let mut crc64 = Crc64::EMPTY;
            while let Some((piece, chunks)) = pieces.next().await {
                if let Err(error) = piece.send(chunks, &mut crc64, &out).await {
                    metrics::counter!("windlass_objects_unreadable_total").increment(1);
                    tracing::error!(part.id = %piece.part.id, upload.id = %piece.part.upload,
                        error = &error as &dyn std::error::Error, "an object cannot be read");
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
    fn pieces(&self, wanted: Vec<(Part, Range<u64>)>) -> impl Stream<Item = (Piece, Result<ChunksToCome>)> {
        let opened = stream::iter(wanted).then(async |(part, range)| {
            let reader = self.blobs.read(BlobKey::from(part.id)).await;
            (part, range, reader.map_err(|error| unreadable(part.id, error)))
        });
        let pieces = opened.flat_map(|(part, range, mut reader)| {
            stream::iter(Piece::of(part, range, self.blobs.piece_bytes())).map(move |piece| match &mut reader {
                Ok(reader) => (piece, Ok(reader.read(piece.offset..piece.offset + piece.length))),
                // Nobody asks for more than the first piece of what cannot be read.
                Err(error) => (piece, Err(mem::replace(error, Error::Interrupted))),
            })
        });
        pieces.map(ready).buffered(self.blobs.pieces_ahead())
    }
}

type ChunksToCome = mpsc::Receiver<blobs::Result<Chunk>>;

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
