//! Writes a Part to the store as it arrives: first its row, then the object, in bounded chunks.
//!
//! The handler fills a [`PartObjectWriter`]; a task on the service's runtime writes the chunks to the store. At most
//! two buffers circulate between them, so a slow store causes back pressure on the socket. The task outlives the
//! handler: once it has the last chunk, it finishes the object and its row even if the client disconnects. If the
//! handler stops before that, the task marks the object as garbage.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use windlass_types::{ByteCount, Crc64, ErrorChain, PartId, ProjectId};

use super::md5_chain::RunningMd5;
use super::once::OnceRequest;
use crate::db;
use crate::db::parts::{self, NewPart};
use crate::db::uploads::Origin;
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::ingest::admission::Target;
use crate::model::{Limits, Md5Link, Part};
use crate::resources::part_buffers::{ChunkSize, PartBuffer, PartBuffers, Spare};
use crate::retry::retry;
use crate::service::Service;
use crate::store::ObjectKey;

/// A body that fills no chunk for this long releases its spare buffers.
const SPARE_TIMEOUT: Duration = Duration::from_secs(1);

/// The handler's side of an object that is being written.
pub(crate) struct PartObjectWriter {
    service: Service,
    target: Target,
    md5: Option<RunningMd5>,
    size: ChunkSize,
    filling: PartBuffer,
    buffers: Arc<PartBuffers>,
    /// Sends chunks to the task. At most one is queued.
    full: mpsc::Sender<FilledBuffer>,
    outcome: JoinHandle<Result<Part>>,
}

/// A chunk for the task; the last one has the totals.
struct FilledBuffer {
    buffer: PartBuffer,
    end: Option<(End, Option<RunningMd5>)>,
}

/// The totals of a body that has been received completely.
pub(crate) struct End {
    pub(crate) bytes: ByteCount,
    pub(crate) crc64: Crc64,
    pub(crate) once: Option<OnceRequest<Part>>,
}

/// A Part whose object is durable, to be marked as stored.
struct WrittenPart {
    part: Part,
    md5: Option<RunningMd5>,
    once: Option<OnceRequest<Part>>,
}

impl Service {
    /// Inserts the row of an object, and spawns the task that writes the object.
    pub(crate) async fn begin_object(
        self,
        target: Target,
        expected: Option<u64>,
        filling: PartBuffer,
        buffers: Arc<PartBuffers>,
    ) -> Result<PartObjectWriter> {
        let size = self.chunk_size(expected);
        let (id, upload) = (PartId::generate(), target.upload);
        let new = NewPart { id, upload, content: None };
        let Some(inserted) = parts::insert_if_pending(&self.db, target.project, &new, &self.limits).await? else {
            return Err(self.admission_error(target).await);
        };
        CrashPoint::PartWritten.passed();
        let (full, chunks) = mpsc::channel(1);
        let (bytes, crc64) = (ByteCount::ZERO, Crc64::EMPTY);
        let part = Part { id, upload, bytes, crc64, created_at: inserted.created_at, in_ledger: false };
        let outcome = self.clone().spawn(self.clone().store(target, part, chunks, Arc::clone(&buffers)));
        self.md5_uploads.set_wanted(target.project, inserted.wants_md5);
        let wants_md5 = target.origin == Origin::Client && inserted.wants_md5;
        let md5 = if wants_md5 { self.continue_md5(upload).await? } else { None };
        Ok(PartObjectWriter { service: self, target, md5, size, filling, buffers, full, outcome })
    }

    /// The task: writes the object, then marks the Part as stored, or as garbage if anything fails.
    async fn store(
        self,
        target: Target,
        part: Part,
        mut chunks: mpsc::Receiver<FilledBuffer>,
        buffers: Arc<PartBuffers>,
    ) -> Result<Part> {
        let stored = match self.write_object(part, &mut chunks, &buffers).await {
            Ok(written) => self.with_db_timeout(self.mark_stored(target, written)).await,
            Err(error) => Err(error),
        };
        if stored.is_err() {
            self.abandon(part.id).await;
        }
        stored
    }

    async fn write_object(
        &self,
        part: Part,
        chunks: &mut mpsc::Receiver<FilledBuffer>,
        buffers: &PartBuffers,
    ) -> Result<WrittenPart> {
        let mut chunk = chunks.recv().await.ok_or(Error::Abandoned)?;
        if let Some(end) = chunk.end {
            self.blobs.put(ObjectKey::from(part.id), chunk.buffer.take_bytes()).await?;
            CrashPoint::ObjectFinished.passed();
            buffers.add_spare(chunk.buffer);
            return Ok(WrittenPart::of(part, end));
        }
        let mut writer = self.blobs.write(ObjectKey::from(part.id)).await?;
        let received = async {
            if let Some(multipart) = writer.multipart() {
                self.with_db_timeout(parts::set_multipart(&self.db, part.id, multipart)).await?;
                CrashPoint::MultipartWritten.passed();
            }
            loop {
                let written = writer.write(chunk.buffer.take_bytes()).await?;
                CrashPoint::ChunkWritten.passed();
                chunk.buffer.restore(written);
                buffers.add_spare(chunk.buffer);
                if let Some(end) = chunk.end {
                    return Ok(WrittenPart::of(part, end));
                }
                let next = if let Ok(next) = timeout(SPARE_TIMEOUT, chunks.recv()).await {
                    next
                } else {
                    buffers.drop_spares();
                    chunks.recv().await
                };
                chunk = next.ok_or(Error::Abandoned)?;
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

    async fn mark_stored(&self, target: Target, written: WrittenPart) -> Result<Part> {
        let WrittenPart { part, md5, once } = written;
        let link = md5.as_ref().map(RunningMd5::link);
        let stored = match &once {
            None => retry!(self, self.try_mark_stored(&part, link.as_ref()))?,
            Some(once) => retry!(self, self.try_mark_stored_once(target.project, &part, link.as_ref(), once))?,
        };
        if !stored {
            return Err(self.admission_error(target).await);
        }
        CrashPoint::PartStored.passed();
        Ok(part)
    }

    /// Returns whether the Part is stored, by this attempt or by an earlier one whose response was lost.
    async fn try_mark_stored(&self, part: &Part, md5: Option<&Md5Link>) -> Result<bool> {
        Ok(parts::mark_stored(&self.db, part, md5).await? || parts::find_stored(&self.db, part.id).await?.is_some())
    }

    /// Like [`Self::try_mark_stored`], for an idempotent request.
    async fn try_mark_stored_once(
        &self,
        project: ProjectId,
        part: &Part,
        md5: Option<&Md5Link>,
        once: &OnceRequest<Part>,
    ) -> Result<bool> {
        let (_permit, mut tx) = self.begin(project).await?;
        if !parts::mark_stored(&mut tx, part, md5).await? {
            return Ok(parts::find_stored(&mut tx, part.id).await?.is_some());
        }
        self.record_answer(&mut tx, project, once, part.id.uuid(), part).await?;
        db::commit(tx).await?;
        Ok(true)
    }

    /// Marks the object as garbage. If that fails, it becomes garbage when its Upload ends.
    async fn abandon(&self, part: PartId) {
        if let Err(error) = self.with_db_timeout(parts::abandon(&self.db, part, Limits::ABANDONED_GRACE)).await {
            tracing::warn!(
                part.id = %part, error = %ErrorChain(&error),
                "cannot mark an abandoned part as garbage; it becomes garbage when its upload ends"
            );
        }
        CrashPoint::PartAbandoned.passed();
    }

    /// The maximum time after the insertion of its row for which an object may still be written.
    pub(crate) fn writer_lifetime(&self) -> Duration {
        self.limits.body_deadline + Limits::STORE_PATIENCE
    }
}

impl WrittenPart {
    fn of(part: Part, (end, md5): (End, Option<RunningMd5>)) -> Self {
        Self { part: Part { bytes: end.bytes, crc64: end.crc64, ..part }, md5, once: end.once }
    }
}

impl PartObjectWriter {
    /// Copies the next bytes into buffers, and hands full ones to the task. Not cancel-safe: after a cancelled write,
    /// the writer must be dropped.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.filling.left() == 0 {
                self.make_space().await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.filling.left()));
            if let Some(md5) = &mut self.md5 {
                md5.update(now);
            }
            self.filling.extend(now);
            bytes = later;
        }
        Ok(())
    }

    /// Finishes the object. When this returns, the object is durable and its Part is committed as stored. Also returns
    /// the body's buffers.
    pub(crate) async fn finish(mut self, end: End) -> Result<(Part, Arc<PartBuffers>)> {
        let md5 = self.md5.take();
        self.hand_over(Some((end, md5))).await?;
        let part = (&mut self.outcome).await.map_err(Error::from).flatten()?;
        Ok((part, self.buffers))
    }

    /// Makes space for more bytes, in this chunk or in the next one.
    async fn make_space(&mut self) -> Result<()> {
        if self.size.is_full(self.filling.len()) {
            self.hand_over(None).await?;
        }
        while self.filling.left() == 0 {
            if self.filling.has_memory() { self.enlarge().await? } else { self.next_buffer().await? }
        }
        Ok(())
    }

    /// Enlarges the current chunk. If memory is short, hands it to the task instead, provided that the store accepts a
    /// chunk of its size.
    async fn enlarge(&mut self) -> Result<()> {
        if self.filling.try_grow(self.size)? {
            return Ok(());
        }
        if self.size.is_enough(self.filling.len()) {
            return self.hand_over(None).await;
        }
        match self.buffers.take_spare() {
            Spare::Found(buffer) => self.filling.absorb(buffer, self.size),
            Spare::NoneInFlight => self.filling.grow(self.size).await,
            Spare::OneInFlight | Spare::TwoInFlight => self.wait_for_spare().await,
        }
    }

    /// Reuses a spare buffer for the next chunk, or allocates one. May return without one: then call it again.
    async fn next_buffer(&mut self) -> Result<()> {
        match self.buffers.take_spare() {
            Spare::Found(buffer) => {
                self.filling = buffer;
                self.filling.use_memory(self.size)
            }
            Spare::NoneInFlight => self.filling.grow(self.size).await,
            Spare::OneInFlight => {
                if self.filling.try_grow(self.size)? {
                    return Ok(());
                }
                self.wait_for_spare().await
            }
            Spare::TwoInFlight => self.wait_for_spare().await,
        }
    }

    /// Waits until the task has written a buffer.
    ///
    /// # Errors
    /// That of the task, if it has ended.
    async fn wait_for_spare(&mut self) -> Result<()> {
        tokio::select! {
            () = self.buffers.spare_added() => Ok(()),
            () = self.full.closed() => Err(self.task_error().await),
        }
    }

    /// Sends the current chunk to the task.
    async fn hand_over(&mut self, end: Option<(End, Option<RunningMd5>)>) -> Result<()> {
        let next = PartBuffer::empty(&self.service.memory, self.target.project);
        let buffer = mem::replace(&mut self.filling, next);
        self.buffers.count_handed_over();
        if self.full.send(FilledBuffer { buffer, end }).await.is_ok() { Ok(()) } else { Err(self.task_error().await) }
    }

    /// The error with which the task has ended.
    async fn task_error(&mut self) -> Error {
        match (&mut self.outcome).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) => Error::Bug("a part was stored before its last chunk"),
            Err(error) => error.into(),
        }
    }
}
