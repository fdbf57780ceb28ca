//! The write path: from a body, through a checksum, to where its Part is kept.
//!
//! A small body is taken as a whole, and inserted into the ledger with its Part's row, by one statement: it is as
//! durable as the ledger, and the store is not used. Any other has its row first, and is written to the store as it
//! arrives (`service/objects.rs`).

use std::mem;
use std::sync::Arc;

use super::disk_space::Allowance;
use super::md5_chain::LinkUnderWay;
use super::memory_budget::Reserved;
use super::objects::ObjectIntake;
use super::room::{Room, Rooms};
use super::{Error, Result, Service};
use crate::crash::CrashPoint;
use crate::db::contents::{self, NewPart};
use crate::db::uploads::Origin;
use crate::db::{parts, uploads};
use crate::domain::{ByteCount, Crc64, Crc64Digest, Md5Link, Part, PartId, ProjectId, UploadId};

/// What a form usually has around one small field: its boundary twice, a name, a type. A body with more goes into the
/// store.
pub(super) const AROUND_BYTES: u64 = 1024;

/// The first reservation of a small body.
const FIRST_BYTES: u64 = 1024;

/// What the Parts of a body are for.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) project: ProjectId,
    pub(super) upload: UploadId,
    pub(super) origin: Origin,
}

/// A Part being received. Dropped before [`Intake::finish`], it leaves nothing behind.
pub struct Intake {
    service: Service,
    target: Target,
    /// The length that the body declares, if it does.
    expected: Option<u64>,
    taken: u64,
    crc64: Crc64Digest,
    space: Allowance,
    way: Way,
}

enum Way {
    /// Into the ledger, unless it turns out to be too large.
    Ledger { content: Vec<u8>, memory: Reserved },
    /// Into the store.
    Store(Box<ObjectIntake>),
}

impl Service {
    /// Begins a Part of a pending Upload. Unless the body is small, its row is written before any of it is read.
    /// `expected` is the length that the body declares, if it does; the HTTP layer passes on no more bytes than that.
    ///
    /// # Errors
    /// When the Upload is unknown, has ended or is full, as far as that is checked already, or when memory or disk
    /// space is insufficient.
    pub async fn begin_part(&self, project: ProjectId, upload: UploadId, expected: Option<u64>) -> Result<Intake> {
        self.begin_intake(Target { project, upload, origin: Origin::Client }, expected, None).await
    }

    /// The same for any kind of Upload. `kept` is the memory of the previous Part of the same body.
    pub(super) async fn begin_intake(
        &self,
        target: Target,
        expected: Option<u64>,
        kept: Option<Arc<Rooms>>,
    ) -> Result<Intake> {
        self.check_store()?;
        let space = self.space.admit(expected.unwrap_or(0).min(self.limits.part_bytes.get()))?;
        let small = self.limits.ledger_part_bytes.get();
        let way = if let Some(most) = expected.filter(|it| small > 0 && *it <= small + AROUND_BYTES) {
            let mut memory = self.memory_of_small.nothing_for(target.project);
            memory.grow(most.min(FIRST_BYTES), most).await?;
            Way::Ledger { content: Vec::new(), memory }
        } else {
            let room = match kept {
                Some(_) => Room::empty(&self.memory, target.project),
                None => self.first_room(target, expected).await?,
            };
            let rooms = kept.unwrap_or_default();
            Way::Store(Box::new(self.run(move |it| it.begin_object(target, expected, room, rooms)).await?))
        };
        Ok(Intake { service: self.clone(), target, expected, taken: 0, crc64: Crc64Digest::new(), space, way })
    }

    /// Why a Part could not be begun or counted.
    pub(super) async fn why_no_part(&self, target: Target) -> Error {
        self.is_pending(target).await.err().unwrap_or(Error::TooManyParts(target.upload))
    }

    async fn is_pending(&self, target: Target) -> Result<()> {
        let upload = uploads::find(&self.db, target.project, target.upload).await?;
        upload.ok_or(Error::NoSuchUpload(target.upload))?.into_pending()?;
        Ok(())
    }

    /// Writes a Part into the ledger.
    async fn keep(self, target: Target, content: Vec<u8>, crc64: Crc64) -> Result<Part> {
        let wants_md5 = target.origin == Origin::Client && self.chains.are_wanted_by(target.project);
        let mut md5 = if wants_md5 { self.continue_md5(target.upload).await? } else { None };
        if let Some(md5) = &mut md5 {
            md5.update(&content);
        }
        let link = md5.as_ref().map(LinkUnderWay::link);
        let new = NewPart { id: PartId::generate(), upload: target.upload, content, crc64 };
        let mut attempts = self.attempts();
        loop {
            match self.try_keep(target.project, &new, link.as_ref()).await {
                Ok(Some(part)) => {
                    CrashPoint::PartKept.passed();
                    return Ok(part);
                }
                Ok(None) => return Err(self.why_no_part(target).await),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    /// The Part as it is stored now: by this attempt, or by an earlier one whose response was lost.
    async fn try_keep(&self, project: ProjectId, new: &NewPart, md5: Option<&Md5Link>) -> Result<Option<Part>> {
        let Some(begun) = contents::insert_if_pending(&self.db, project, new, md5).await? else {
            return parts::find_stored(&self.db, new.id).await.map_err(Error::from);
        };
        self.chains.learn(project, begun.wants_md5);
        let bytes = ByteCount::try_from(new.content.len() as u64).map_err(|_| Error::Interrupted)?;
        let NewPart { id, upload, crc64, .. } = *new;
        Ok(Some(Part { id, upload, bytes, crc64, created_at: begun.created_at, in_ledger: true }))
    }
}

impl Intake {
    /// How many bytes it has taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next bytes, copying them: a slice of a network buffer may pin far more than itself.
    ///
    /// # Errors
    /// When they are more than the limit, or the store failed meanwhile.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let limits = self.service.limits();
        let (limit, small) = (limits.part_bytes, limits.ledger_part_bytes.get());
        self.taken += bytes.len() as u64;
        if self.taken > limit.get() {
            return Err(Error::PartTooLarge(limit));
        }
        self.space.take(bytes.len())?;
        self.crc64.update(bytes);
        match &mut self.way {
            Way::Ledger { content, memory } if self.taken <= small => {
                if self.taken > memory.bytes() {
                    memory.grow(self.taken, self.expected.unwrap_or(small)).await?;
                }
                content.extend_from_slice(bytes);
            }
            Way::Ledger { content, .. } => {
                let before = mem::take(content);
                let (target, expected, rooms) = (self.target, self.expected, Arc::default());
                let room = self.service.first_room(target, expected).await?;
                let mut object = self.service.run(move |it| it.begin_object(target, expected, room, rooms)).await?;
                object.write(&before).await?;
                object.write(bytes).await?;
                self.way = Way::Store(Box::new(object));
            }
            Way::Store(object) => object.write(bytes).await?,
        }
        Ok(())
    }

    /// Whether the Upload still takes Parts, if that was not checked in the beginning. Clients get this error first,
    /// even if the body is invalid as well.
    ///
    /// # Errors
    /// When the Upload is unknown or has ended.
    pub async fn check_upload(&self) -> Result<()> {
        let target = self.target;
        match self.way {
            Way::Ledger { .. } => self.service.run(|it| async move { it.is_pending(target).await }).await,
            Way::Store(_) => Ok(()),
        }
    }

    /// Finishes the Part. When this returns, it is stored, counted and durable.
    ///
    /// # Errors
    /// When it is empty, the store failed, or its Upload is unknown or has ended meanwhile.
    pub async fn finish(self) -> Result<Part> {
        Ok(self.finish_and_keep().await?.0)
    }

    /// The same; also returns the reserved memory, for the next Part of the same body.
    pub(super) async fn finish_and_keep(self) -> Result<(Part, Option<Arc<Rooms>>)> {
        let limit = self.service.limits.part_bytes;
        let bytes = ByteCount::try_from(self.taken).map_err(|_| Error::PartTooLarge(limit))?;
        if bytes == ByteCount::ZERO {
            self.check_upload().await?;
            return Err(Error::PartEmpty);
        }
        let (target, crc64) = (self.target, self.crc64.finish());
        match self.way {
            Way::Store(object) => object.finish(bytes, crc64).await.map(|(part, rooms)| (part, Some(rooms))),
            Way::Ledger { content, memory } => {
                let keep = |it: Service| async move {
                    let kept = it.keep(target, content, crc64).await;
                    drop(memory);
                    kept
                };
                Ok((self.service.run(keep).await?, None))
            }
        }
    }
}
