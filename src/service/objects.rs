//! The way of a Part's bytes into the store: its row first, then the object, in bounded chunks.
//!
//! An [`ObjectIntake`] stands where the body is read; a task on the service's runtime writes what it
//! hands over. Two buffers go round between them, so a store that is slow slows the socket down.
//! The task outlives whoever reads the body: told the end, it brings the object and its row to
//! their end whatever happens to the asker; not told, it gives the object up.

use std::mem;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use super::intake::Target;
use super::md5_chain::LinkUnderWay;
use super::{Error, Result, Service};
use crate::blobs::{BlobKey, Buffer};
use crate::crash::CrashPoint;
use crate::db::parts;
use crate::db::uploads::Origin;
use crate::domain::{ByteCount, Crc64, Limits, Md5Link, Part, PartId};

/// An object on its way into the store.
pub(super) struct ObjectIntake {
    md5: Option<LinkUnderWay>,
    chunk_bytes: usize,
    filling: Buffer,
    /// Full buffers, to the task; at most one waits.
    full: mpsc::Sender<Chunk>,
    /// Empty buffers, from the task.
    empty: mpsc::Receiver<Buffer>,
    outcome: JoinHandle<Result<Part>>,
}

/// What the task gets: bytes, and with the last of them what they all amount to.
struct Chunk {
    bytes: Buffer,
    end: Option<End>,
}

struct End {
    bytes: ByteCount,
    crc64: Crc64,
    md5: Option<LinkUnderWay>,
}

impl Service {
    /// Writes the row of an object, and begins the task that will write the object.
    pub(super) async fn begin_object(
        self,
        target: Target,
        expected: Option<u64>,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<ObjectIntake> {
        let chunk_bytes = self.blobs.chunk_bytes();
        let first_bytes =
            expected.map_or(chunk_bytes, |it| usize::try_from(it).map_or(chunk_bytes, |it| it.min(chunk_bytes)));
        let filling = Buffer::with_room(first_bytes).map_err(|_| Error::Busy)?;
        let (id, upload) = (PartId::generate(), target.upload);
        let Some(begun) = parts::insert_if_pending(&self.db, target.project, upload, id).await? else {
            return Err(self.why_no_part(target).await);
        };
        CrashPoint::PartWritten.passed();
        let (full, chunks) = mpsc::channel(1);
        let (give_back, empty) = mpsc::channel(2);
        // The second buffer of the two that go round.
        give_back.try_send(Buffer::default()).map_err(|_| Error::Interrupted)?;
        let (bytes, crc64) = (ByteCount::ZERO, Crc64::EMPTY);
        let part = Part { id, upload, bytes, crc64, created_at: begun.created_at, in_ledger: false };
        let outcome = self.clone().spawn(self.clone().store(target, part, chunks, give_back, memory));
        self.chains.learn(target.project, begun.wants_md5);
        let wants_md5 = target.origin == Origin::Client && begun.wants_md5;
        let md5 = if wants_md5 { self.continue_md5(upload).await? } else { None };
        Ok(ObjectIntake { md5, chunk_bytes, filling, full, empty, outcome })
    }

    /// The task: writes the object, then counts it; gives it up when anything is amiss.
    async fn store(
        self,
        target: Target,
        part: Part,
        mut chunks: mpsc::Receiver<Chunk>,
        give_back: mpsc::Sender<Buffer>,
        _memory: Option<OwnedSemaphorePermit>,
    ) -> Result<Part> {
        let stored = match self.write_object(part, &mut chunks, &give_back).await {
            Ok((part, md5)) => self.patiently(self.count(target, part, md5)).await,
            Err(error) => Err(error),
        };
        if stored.is_err() {
            self.give_up(part.id).await;
        }
        stored
    }

    async fn write_object(
        &self,
        part: Part,
        chunks: &mut mpsc::Receiver<Chunk>,
        give_back: &mpsc::Sender<Buffer>,
    ) -> Result<(Part, Option<LinkUnderWay>)> {
        let mut chunk = chunks.recv().await.ok_or(Error::Interrupted)?;
        if let Some(end) = chunk.end {
            self.blobs.put(BlobKey::from(part.id), chunk.bytes).await?;
            CrashPoint::ObjectFinished.passed();
            return Ok(end.of(part));
        }
        let mut writer = self.blobs.write(BlobKey::from(part.id)).await?;
        let received = async {
            if let Some(multipart) = writer.multipart() {
                self.patiently(parts::set_multipart(&self.db, part.id, multipart)).await?;
                CrashPoint::MultipartWritten.passed();
            }
            loop {
                let buffer = writer.write(chunk.bytes).await?;
                CrashPoint::ChunkWritten.passed();
                if let Some(end) = chunk.end {
                    return Ok(end.of(part));
                }
                // Nobody there to take it means that no further chunk will come.
                give_back.send(buffer).await.ok();
                chunk = chunks.recv().await.ok_or(Error::Interrupted)?;
            }
        }
        .await;
        match received {
            Ok(part) => {
                writer.finish().await?;
                CrashPoint::ObjectFinished.passed();
                Ok(part)
            }
            Err(error) => {
                writer.abort().await;
                CrashPoint::ObjectAborted.passed();
                Err(error)
            }
        }
    }

    async fn count(&self, target: Target, part: Part, md5: Option<LinkUnderWay>) -> Result<Part> {
        let link = md5.as_ref().map(LinkUnderWay::link);
        let mut attempts = self.attempts();
        loop {
            match self.try_count(&part, link.as_ref()).await {
                Ok(true) => {
                    CrashPoint::PartStored.passed();
                    return Ok(part);
                }
                Ok(false) => return Err(self.why_no_part(target).await),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    /// Whether the Part is stored now: by this attempt, or by one before whose answer was lost.
    async fn try_count(&self, part: &Part, md5: Option<&Md5Link>) -> Result<bool> {
        Ok(parts::mark_stored(&self.db, part, md5).await? || parts::find_stored(&self.db, part.id).await?.is_some())
    }

    /// Writes down that the object is to go. Should that fail, its Upload's end will do the same.
    async fn give_up(&self, part: PartId) {
        if let Err(error) = self.patiently(parts::abandon(&self.db, part, Limits::ABANDONED_GRACE)).await {
            tracing::warn!(part.id = %part, error = &error as &dyn std::error::Error, "a part is left to its upload's end");
        }
        CrashPoint::PartAbandoned.passed();
    }

    /// The longest that an object may still be on its way after its row was written.
    pub(super) fn writer_lifetime(&self) -> Duration {
        self.limits.body_deadline + Limits::STORE_PATIENCE
    }
}

impl End {
    fn of(self, part: Part) -> (Part, Option<LinkUnderWay>) {
        (Part { bytes: self.bytes, crc64: self.crc64, ..part }, self.md5)
    }
}

impl ObjectIntake {
    /// Takes the next bytes.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.filling.len() == self.chunk_bytes {
                let next = self.empty.recv().await;
                let bytes = mem::replace(&mut self.filling, next.unwrap_or_default());
                self.hand_over(Chunk { bytes, end: None }).await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.chunk_bytes - self.filling.len()));
            if let Some(md5) = &mut self.md5 {
                md5.update(now);
            }
            self.reserve(now.len())?;
            self.filling.extend(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends the object. When this returns, its Part is stored, counted and safe.
    pub(super) async fn finish(mut self, bytes: ByteCount, crc64: Crc64) -> Result<Part> {
        let end = Some(End { bytes, crc64, md5: self.md5.take() });
        let last = mem::take(&mut self.filling);
        self.hand_over(Chunk { bytes: last, end }).await?;
        (&mut self.outcome).await.map_err(Error::from).flatten()
    }

    /// A buffer that overflows is about to be filled whole: one allocation then, not a doubling series.
    fn reserve(&mut self, more: usize) -> Result<()> {
        if more > self.filling.room() {
            let mut whole = Buffer::with_room(self.chunk_bytes).map_err(|_| Error::Busy)?;
            whole.extend(self.filling.bytes());
            self.filling = whole;
        }
        Ok(())
    }

    /// Gives a chunk to the task; where the task has ended, says why.
    async fn hand_over(&mut self, chunk: Chunk) -> Result<()> {
        if self.full.send(chunk).await.is_ok() {
            return Ok(());
        }
        match (&mut self.outcome).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => Err(Error::Interrupted),
            Err(error) => Err(error.into()),
        }
    }
}
