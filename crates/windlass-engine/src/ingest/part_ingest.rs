//! Receives a Part: checks its size, computes its checksum, and writes it to the ledger or to the store.
//!
//! A small body is collected in memory and inserted into the ledger with its Part's row, by one statement: it is as
//! durable as the ledger, and the store is not used. For any other body, the row is inserted first, and the bytes are
//! written to the store as they arrive (`object_writer.rs`).

use std::mem;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use windlass_types::{ByteCount, Crc64, Crc64Digest, PartId, ProjectId, UploadId};

use super::md5_chain::RunningMd5;
use crate::db::parts::{self, NewPart, PartContent};
use crate::db::uploads::Origin;
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::ingest::admission::Target;
use crate::ingest::object_writer::PartObjectWriter;
use crate::model::Part;
use crate::resources::SMALL_BODY_OVERHEAD;
use crate::resources::disk_space::SpaceClaim;
use crate::resources::in_flight::InFlight;
use crate::resources::memory_budget::MemoryReservation;
use crate::resources::part_buffers::{PartBuffer, PartBuffers};
use crate::retry::retry;
use crate::service::Service;

/// The initial memory reservation of a small body, in bytes.
const FIRST_BYTES: u64 = 1024;

/// A Part being received. If it is dropped before [`PartIngest::finish`], the Part is discarded.
pub struct PartIngest {
    service: Service,
    target: Target,
    /// The declared length of the body, if any, including the form around the Part.
    expected: Option<u64>,
    taken: u64,
    crc64: Crc64Digest,
    space: SpaceClaim,
    destination: Destination,
    _in_flight: InFlight,
}

enum Destination {
    /// The ledger, unless the body turns out to be too large.
    Ledger { content: Vec<u8>, memory: MemoryReservation },
    /// The store.
    Store(Box<PartObjectWriter>),
}

impl Service {
    /// Begins a Part of a pending Upload. Unless the body is small, the Part's row is inserted before the body is read.
    /// `expected` is the declared length of the body, if any; the HTTP layer never passes on more bytes than that.
    ///
    /// # Errors
    /// When memory or disk space is insufficient, the ledger fails or the store does not belong to it, or, unless the
    /// body is small, the Upload is unknown, has ended or has the maximum number of Parts.
    pub async fn begin_part(&self, project: ProjectId, upload: UploadId, expected: Option<u64>) -> Result<PartIngest> {
        self.begin_ingest(Target { project, upload, origin: Origin::Client }, expected, None).await
    }

    /// Like [`Self::begin_part`], for an Upload of either origin. `reused` are the buffers of the previous Part of the
    /// same body.
    pub(crate) async fn begin_ingest(
        &self,
        target: Target,
        expected: Option<u64>,
        reused: Option<Arc<PartBuffers>>,
    ) -> Result<PartIngest> {
        self.readiness.check_store()?;
        let space = self.space.admit(expected.unwrap_or(0).min(self.limits.part_bytes.get()))?;
        let small = self.limits.ledger_part_bytes.get();
        let destination = if let Some(most) = expected.filter(|it| small > 0 && *it <= small + SMALL_BODY_OVERHEAD) {
            let mut memory = self.small_body_memory.reservation_for(target.project);
            memory.grow(most.min(FIRST_BYTES), most).await?;
            Destination::Ledger { content: Vec::new(), memory }
        } else {
            let buffer = match reused {
                Some(_) => PartBuffer::empty(&self.memory, target.project),
                None => self.first_buffer(target, expected).await?,
            };
            let buffers = reused.unwrap_or_default();
            Destination::Store(Box::new(self.run(move |it| it.begin_object(target, expected, buffer, buffers)).await?))
        };
        Ok(PartIngest {
            service: self.clone(),
            target,
            expected,
            taken: 0,
            crc64: Crc64Digest::new(),
            space,
            destination,
            _in_flight: InFlight::begin("windlass_parts_in_flight"),
        })
    }

    /// Inserts a Part with its bytes into the ledger.
    async fn store_in_ledger(self, target: Target, content: Vec<u8>, crc64: Crc64) -> Result<Part> {
        let wants_md5 = target.origin == Origin::Client && self.md5_uploads.is_wanted_by(target.project);
        let mut md5 = if wants_md5 { self.continue_md5(target.upload).await? } else { None };
        if let Some(md5) = &mut md5 {
            md5.update(&content);
        }
        let bytes =
            ByteCount::try_from(content.len() as u64).map_err(|_| Error::Bug("a part is larger than a bigint"))?;
        let content = PartContent { bytes: content, crc64, md5: md5.as_ref().map(RunningMd5::link) };
        let new = NewPart { id: PartId::generate(), upload: target.upload, content: Some(content) };
        let stored = retry!(self, self.try_store_in_ledger(target.project, &new))?;
        let Some(created_at) = stored else { return Err(self.admission_error(target).await) };
        CrashPoint::PartKept.passed();
        Ok(Part { id: new.id, upload: new.upload, bytes, crc64, created_at, in_ledger: true })
    }

    /// Returns when the Part was inserted, by this attempt or by an earlier one whose response was lost.
    async fn try_store_in_ledger(&self, project: ProjectId, new: &NewPart) -> Result<Option<DateTime<Utc>>> {
        let Some(inserted) = parts::insert_if_pending(&self.db, project, new, &self.limits).await? else {
            return Ok(parts::find_stored(&self.db, new.id).await?.map(|it| it.created_at));
        };
        self.md5_uploads.set_wanted(project, inserted.wants_md5);
        Ok(Some(inserted.created_at))
    }
}

impl PartIngest {
    /// The number of bytes received so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Receives the next bytes. They are copied, since a slice of a network buffer may keep a much larger allocation
    /// alive. Not cancel-safe: after a cancelled write, the Part must be dropped.
    ///
    /// # Errors
    /// [`Error::PartTooLarge`], or when memory or disk space is insufficient, the ledger or the store fails, or the
    /// Upload has ended.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let limits = self.service.limits();
        let (limit, small) = (limits.part_bytes, limits.ledger_part_bytes.get());
        self.taken += bytes.len() as u64;
        if self.taken > limit.get() {
            return Err(Error::PartTooLarge(limit));
        }
        self.space.take(bytes.len())?;
        self.crc64.update(bytes);
        match &mut self.destination {
            Destination::Ledger { content, memory } if self.taken <= small => {
                if self.taken > memory.bytes() {
                    memory.grow(self.taken, self.expected.unwrap_or(small)).await?;
                }
                content.extend_from_slice(bytes);
            }
            Destination::Ledger { content, .. } => {
                let before = mem::take(content);
                let (target, expected, buffers) = (self.target, self.expected, Arc::default());
                let buffer = self.service.first_buffer(target, expected).await?;
                let mut object = self.service.run(move |it| it.begin_object(target, expected, buffer, buffers)).await?;
                object.write(&before).await?;
                object.write(bytes).await?;
                self.destination = Destination::Store(Box::new(object));
            }
            Destination::Store(object) => object.write(bytes).await?,
        }
        Ok(())
    }

    /// Checks that the Upload accepts Parts, unless the insertion of the Part's row has checked it. To be called before
    /// an invalid body is reported, so that the Upload's error takes precedence.
    ///
    /// # Errors
    /// When the Upload is unknown or has ended, or the ledger fails.
    pub async fn check_upload(&self) -> Result<()> {
        let target = self.target;
        match self.destination {
            Destination::Ledger { .. } => self.service.run(|it| async move { it.check_pending(target).await }).await,
            Destination::Store(_) => Ok(()),
        }
    }

    /// Finishes the Part. When this returns, its bytes are durable and its row is committed as stored. If the caller is
    /// cancelled, the Part may be stored all the same.
    ///
    /// # Errors
    /// [`Error::PartEmpty`], or when the ledger or the store fails, or the Upload is unknown, has ended or has the
    /// maximum number of Parts.
    pub async fn finish(self) -> Result<Part> {
        Ok(self.finish_with_buffers().await?.0)
    }

    /// Like [`Self::finish`]; also returns the buffers, for the next Part of the same body.
    pub(crate) async fn finish_with_buffers(self) -> Result<(Part, Option<Arc<PartBuffers>>)> {
        let limit = self.service.limits.part_bytes;
        let bytes = ByteCount::try_from(self.taken).map_err(|_| Error::PartTooLarge(limit))?;
        if bytes == ByteCount::ZERO {
            self.check_upload().await?;
            return Err(Error::PartEmpty);
        }
        let (target, crc64) = (self.target, self.crc64.finish());
        match self.destination {
            Destination::Store(object) => {
                object.finish(bytes, crc64).await.map(|(part, buffers)| (part, Some(buffers)))
            }
            Destination::Ledger { content, memory } => {
                let store = |it: Service| async move {
                    let stored = it.store_in_ledger(target, content, crc64).await;
                    drop(memory);
                    stored
                };
                Ok((self.service.run(store).await?, None))
            }
        }
    }
}
