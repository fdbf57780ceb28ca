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
use crate::db;
use crate::db::parts::{self, NewPart, PartContent};
use crate::db::uploads::Origin;
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::ingest::admission::Target;
use crate::ingest::object_writer::{End, PartObjectWriter};
use crate::ingest::once::{Once, OnceIngest, OnceRequest, Outcome};
use crate::model::{Fingerprint, Part};
use crate::resources::SMALL_BODY_OVERHEAD;
use crate::resources::disk_space::SpaceClaim;
use crate::resources::fair_queue::Precedence;
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
    /// The idempotent request, if it has a key.
    once: Option<Box<OnceIngest<Part>>>,
    _in_flight: InFlight,
}

enum Destination {
    /// The ledger, unless the body turns out to be too large.
    Ledger { content: Vec<u8>, memory: MemoryReservation },
    /// The store.
    Store(Box<PartObjectWriter>),
    /// Nowhere: the request is repeated, and its content is only compared.
    Nowhere,
}

impl Service {
    /// Begins a Part of a pending Upload. Unless the body is small, the Part's row is inserted before the body is read.
    /// `expected` is the declared length of the body, if any; the HTTP layer never passes on more bytes than that. `once`
    /// is the idempotency key, if there is one.
    ///
    /// # Errors
    /// [`Error::Overloaded`]; when memory or disk space is insufficient, the ledger fails or the store does not belong to
    /// it, or, unless the body is small, the Upload is unknown, has ended or has the maximum number of Parts.
    pub async fn begin_part(
        &self,
        project: ProjectId,
        upload: UploadId,
        expected: Option<u64>,
        once: Option<Once<Part>>,
    ) -> Result<PartIngest> {
        self.admit(&self.queues.statements, project, Precedence::UnderWay)?;
        let target = Target { project, upload, origin: Origin::Client };
        let Some(once) = once else { return self.begin_ingest(target, expected, None).await };
        let once = self.begin_once(project, once).await?;
        let part = if once.is_answered() {
            let (service, space) = (self.clone(), self.space.claim_nothing());
            let (taken, crc64, destination) = (0, Crc64Digest::new(), Destination::Nowhere);
            let in_flight = InFlight::begin("windlass_parts_in_flight");
            PartIngest {
                service,
                target,
                expected,
                taken,
                crc64,
                space,
                destination,
                once: None,
                _in_flight: in_flight,
            }
        } else {
            self.begin_ingest(target, expected, None).await?
        };
        Ok(PartIngest { once: Some(Box::new(once)), ..part })
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
            let begin = move |it: Self| it.begin_object(target, expected, buffer, buffers);
            Destination::Store(Box::new(self.run_in_turn(target.project, Precedence::UnderWay, begin).await?))
        };
        Ok(PartIngest {
            service: self.clone(),
            target,
            expected,
            taken: 0,
            crc64: Crc64Digest::new(),
            space,
            destination,
            once: None,
            _in_flight: InFlight::begin("windlass_parts_in_flight"),
        })
    }

    /// Inserts a Part with its bytes into the ledger.
    async fn store_in_ledger(
        self,
        target: Target,
        content: Vec<u8>,
        crc64: Crc64,
        once: Option<OnceRequest<Part>>,
    ) -> Result<Part> {
        let wants_md5 = target.origin == Origin::Client && self.md5_uploads.is_wanted_by(target.project);
        let mut md5 = if wants_md5 { self.continue_md5(target.upload).await? } else { None };
        if let Some(md5) = &mut md5 {
            md5.update(&content);
        }
        let bytes =
            ByteCount::try_from(content.len() as u64).map_err(|_| Error::Bug("a part is larger than a bigint"))?;
        let content = PartContent { bytes: content, crc64, md5: md5.as_ref().map(RunningMd5::link) };
        let new = NewPart { id: PartId::generate(), upload: target.upload, content: Some(content) };
        let part = |created_at| Part { id: new.id, upload: new.upload, bytes, crc64, created_at, in_ledger: true };
        let stored = match &once {
            None => retry!(self, self.try_store_in_ledger(target.project, &new))?,
            Some(once) => retry!(self, self.try_store_in_ledger_once(target.project, &new, once, part))?,
        };
        let Some(created_at) = stored else { return Err(self.admission_error(target).await) };
        CrashPoint::PartKept.passed();
        Ok(part(created_at))
    }

    /// Returns when the Part was inserted, by this attempt or by an earlier one whose response was lost.
    async fn try_store_in_ledger(&self, project: ProjectId, new: &NewPart) -> Result<Option<DateTime<Utc>>> {
        let Some(inserted) = parts::insert_if_pending(&self.db, project, new, &self.limits).await? else {
            return Ok(parts::find_stored(&self.db, new.id).await?.map(|it| it.created_at));
        };
        self.md5_uploads.set_wanted(project, inserted.wants_md5);
        Ok(Some(inserted.created_at))
    }

    /// Like [`Self::try_store_in_ledger`], for an idempotent request. `part` is the Part, given when it was inserted.
    async fn try_store_in_ledger_once(
        &self,
        project: ProjectId,
        new: &NewPart,
        once: &OnceRequest<Part>,
        part: impl Fn(DateTime<Utc>) -> Part,
    ) -> Result<Option<DateTime<Utc>>> {
        let (_permit, mut tx) = self.begin(project).await?;
        let Some(inserted) = parts::insert_if_pending(&mut tx, project, new, &self.limits).await? else {
            return Ok(parts::find_stored(&mut tx, new.id).await?.map(|it| it.created_at));
        };
        self.record_answer(&mut tx, project, once, new.id.uuid(), &part(inserted.created_at)).await?;
        db::commit(tx).await?;
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
        if let Some(once) = &mut self.once {
            once.update(bytes);
        }
        if let Destination::Nowhere = self.destination {
            return Ok(());
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
                let begin = move |it: Service| it.begin_object(target, expected, buffer, buffers);
                let mut object = self.service.run_in_turn(target.project, Precedence::UnderWay, begin).await?;
                object.write(&before).await?;
                object.write(bytes).await?;
                self.destination = Destination::Store(Box::new(object));
            }
            Destination::Store(object) => object.write(bytes).await?,
            Destination::Nowhere => {}
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
            Destination::Store(_) | Destination::Nowhere => Ok(()),
        }
    }

    /// Finishes the Part. When this returns, its bytes are durable and its row is committed as stored. If the caller is
    /// cancelled, the Part may be stored all the same.
    ///
    /// # Errors
    /// [`Error::PartEmpty`], [`Error::KeyReused`], or when the ledger or the store fails, or the Upload is unknown, has
    /// ended or has the maximum number of Parts.
    pub async fn finish(mut self) -> Result<Outcome<Part>> {
        let Some(once) = self.once.take() else {
            return Ok(Outcome::Created(self.finish_with_buffers(None).await?.0));
        };
        let mut once = once.finish(|content| Fingerprint::of_part(self.target.upload, content))?;
        if let Some(repeated) = once.repeated()? {
            return Ok(repeated);
        }
        let created = self.finish_with_buffers(Some(once.clone())).await;
        once.outcome(created.map(|it| it.0))
    }

    /// Finishes the Part; also returns the buffers, for the next Part of the same body.
    pub(crate) async fn finish_with_buffers(
        self,
        once: Option<OnceRequest<Part>>,
    ) -> Result<(Part, Option<Arc<PartBuffers>>)> {
        let limit = self.service.limits.part_bytes;
        let bytes = ByteCount::try_from(self.taken).map_err(|_| Error::PartTooLarge(limit))?;
        if bytes == ByteCount::ZERO {
            self.check_upload().await?;
            return Err(Error::PartEmpty);
        }
        let (target, crc64) = (self.target, self.crc64.finish());
        match self.destination {
            Destination::Store(object) => {
                object.finish(End { bytes, crc64, once }).await.map(|(part, buffers)| (part, Some(buffers)))
            }
            Destination::Ledger { content, memory } => {
                let is_once = once.is_some();
                let store = |it: Service| async move {
                    let stored = it.store_in_ledger(target, content, crc64, once).await;
                    drop(memory);
                    stored
                };
                // An idempotent request waits for its turn for a transaction, and must not hold two.
                let stored = if is_once {
                    self.service.run(store).await?
                } else {
                    self.service.run_in_turn(target.project, Precedence::UnderWay, store).await?
                };
                Ok((stored, None))
            }
            Destination::Nowhere => Err(Error::Bug("a repeated part is not stored")),
        }
    }
}
