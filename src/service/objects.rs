//! How a Part's bytes get into the store: its row first, then the object, in bounded chunks.
//!
//! The handler fills an [`ObjectIntake`]; a task on the service's runtime writes the chunks that it hands over. At most
//! two rooms circulate between them, so that a slow store causes backpressure on the socket. The task outlives the
//! handler: once it has the last chunk, it finishes the object and its row even if the client disconnects; without it,
//! it discards the object.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::intake::Target;
use super::md5_chain::LinkUnderWay;
use super::room::{ChunkSize, Others, Room, Rooms};
use super::{Error, Result, Service};
use crate::blobs::BlobKey;
use crate::crash::CrashPoint;
use crate::db::parts;
use crate::db::uploads::Origin;
use crate::domain::{ByteCount, Crc64, Limits, Md5Link, Part, PartId};

/// How long a body keeps spare rooms: one that is slower than this gets by with a single room.
const SPARE_KEPT: Duration = Duration::from_secs(1);

/// An object on its way into the store.
pub(super) struct ObjectIntake {
    service: Service,
    target: Target,
    md5: Option<LinkUnderWay>,
    size: ChunkSize,
    filling: Room,
    rooms: Arc<Rooms>,
    /// To the task; at most one waits.
    full: mpsc::Sender<Chunk>,
    outcome: JoinHandle<Result<Part>>,
}

/// What the task receives: bytes, and with the last of them the totals.
struct Chunk {
    room: Room,
    end: Option<End>,
}

struct End {
    bytes: ByteCount,
    crc64: Crc64,
    md5: Option<LinkUnderWay>,
}

impl Service {
    /// The first room of an object for a body of `expected` bytes, if it has a length.
    pub(super) async fn first_room(&self, target: Target, expected: Option<u64>) -> Result<Room> {
        let mut room = Room::empty(&self.memory, target.project);
        room.grow(self.chunk_size(expected)).await?;
        Ok(room)
    }

    fn chunk_size(&self, expected: Option<u64>) -> ChunkSize {
        ChunkSize::of(&self.blobs).within(expected.unwrap_or(u64::MAX))
    }

    /// Writes the row of an object, and begins the task that will write the object.
    pub(super) async fn begin_object(
        self,
        target: Target,
        expected: Option<u64>,
        filling: Room,
        rooms: Arc<Rooms>,
    ) -> Result<ObjectIntake> {
        let size = self.chunk_size(expected);
        let (id, upload) = (PartId::generate(), target.upload);
        let Some(begun) = parts::insert_if_pending(&self.db, target.project, upload, id).await? else {
            return Err(self.why_no_part(target).await);
        };
        CrashPoint::PartWritten.passed();
        let (full, chunks) = mpsc::channel(1);
        let (bytes, crc64) = (ByteCount::ZERO, Crc64::EMPTY);
        let part = Part { id, upload, bytes, crc64, created_at: begun.created_at, in_ledger: false };
        let outcome = self.clone().spawn(self.clone().store(target, part, chunks, Arc::clone(&rooms)));
        self.chains.learn(target.project, begun.wants_md5);
        let wants_md5 = target.origin == Origin::Client && begun.wants_md5;
        let md5 = if wants_md5 { self.continue_md5(upload).await? } else { None };
        Ok(ObjectIntake { service: self, target, md5, size, filling, rooms, full, outcome })
    }

    /// The task: writes the object, then counts it; discards it if anything fails.
    async fn store(
        self,
        target: Target,
        part: Part,
        mut chunks: mpsc::Receiver<Chunk>,
        rooms: Arc<Rooms>,
    ) -> Result<Part> {
        let stored = match self.write_object(part, &mut chunks, &rooms).await {
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
        rooms: &Rooms,
    ) -> Result<(Part, Option<LinkUnderWay>)> {
        let mut chunk = chunks.recv().await.ok_or(Error::Interrupted)?;
        if let Some(end) = chunk.end {
            self.blobs.put(BlobKey::from(part.id), chunk.room.take()).await?;
            CrashPoint::ObjectFinished.passed();
            rooms.give_back(chunk.room);
            return Ok(end.of(part));
        }
        let mut writer = self.blobs.write(BlobKey::from(part.id)).await?;
        let received = async {
            if let Some(multipart) = writer.multipart() {
                self.patiently(parts::set_multipart(&self.db, part.id, multipart)).await?;
                CrashPoint::MultipartWritten.passed();
            }
            loop {
                let written = writer.write(chunk.room.take()).await?;
                CrashPoint::ChunkWritten.passed();
                chunk.room.put_back(written);
                rooms.give_back(chunk.room);
                if let Some(end) = chunk.end {
                    return Ok(end.of(part));
                }
                let next = if let Ok(next) = timeout(SPARE_KEPT, chunks.recv()).await {
                    next
                } else {
                    rooms.drop_spares();
                    chunks.recv().await
                };
                chunk = next.ok_or(Error::Interrupted)?;
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

    /// Whether the Part is stored now: by this attempt, or by an earlier one whose response was lost.
    async fn try_count(&self, part: &Part, md5: Option<&Md5Link>) -> Result<bool> {
        Ok(parts::mark_stored(&self.db, part, md5).await? || parts::find_stored(&self.db, part.id).await?.is_some())
    }

    /// Marks the object as garbage. If that fails, the end of its Upload does the same.
    async fn give_up(&self, part: PartId) {
        if let Err(error) = self.patiently(parts::abandon(&self.db, part, Limits::ABANDONED_GRACE)).await {
            tracing::warn!(part.id = %part, error = &error as &dyn std::error::Error, "a part is left to its upload's end");
        }
        CrashPoint::PartAbandoned.passed();
    }

    /// The longest time for which an object may still be written after its row.
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
            if self.filling.left() == 0 {
                self.make_room().await?;
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

    /// Finishes the object. When this returns, its Part is stored, counted and durable. Its memory is returned, too.
    pub(super) async fn finish(mut self, bytes: ByteCount, crc64: Crc64) -> Result<(Part, Arc<Rooms>)> {
        let end = Some(End { bytes, crc64, md5: self.md5.take() });
        self.hand_over(end).await?;
        let part = (&mut self.outcome).await.map_err(Error::from).flatten()?;
        Ok((part, self.rooms))
    }

    /// Makes room for more bytes, in this chunk or in the next one.
    async fn make_room(&mut self) -> Result<()> {
        if self.size.is_all(self.filling.len()) {
            self.hand_over(None).await?;
        }
        while self.filling.left() == 0 {
            if self.filling.exists() { self.enlarge().await? } else { self.find_room().await? }
        }
        Ok(())
    }

    /// Makes this chunk larger, or if that needs waiting, has it written if the store takes it as it is.
    async fn enlarge(&mut self) -> Result<()> {
        if self.filling.try_grow(self.size)? {
            return Ok(());
        }
        if self.size.is_enough(self.filling.len()) {
            return self.hand_over(None).await;
        }
        match self.rooms.take() {
            Others::Spare(room) => self.filling.absorb(room, self.size),
            Others::None => self.filling.grow(self.size).await,
            Others::One | Others::Two => self.returned().await,
        }
    }

    /// Finds room for another chunk.
    async fn find_room(&mut self) -> Result<()> {
        match self.rooms.take() {
            Others::Spare(room) => {
                self.filling = room;
                self.filling.use_memory(self.size)
            }
            Others::None => self.filling.grow(self.size).await,
            Others::One => {
                if self.filling.try_grow(self.size)? {
                    return Ok(());
                }
                self.returned().await
            }
            Others::Two => self.returned().await,
        }
    }

    /// Waits until the task has written a room, or has ended.
    async fn returned(&mut self) -> Result<()> {
        tokio::select! {
            () = self.rooms.returned() => Ok(()),
            () = self.full.closed() => Err(self.why_it_ended().await),
        }
    }

    /// Gives the chunk to the task.
    async fn hand_over(&mut self, end: Option<End>) -> Result<()> {
        let next = Room::empty(&self.service.memory, self.target.project);
        let room = mem::replace(&mut self.filling, next);
        self.rooms.give_away();
        if self.full.send(Chunk { room, end }).await.is_ok() { Ok(()) } else { Err(self.why_it_ended().await) }
    }

    async fn why_it_ended(&mut self) -> Error {
        match (&mut self.outcome).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) => Error::Interrupted,
            Err(error) => error.into(),
        }
    }
}
