//! Admission: whether an Upload accepts Parts, and the memory for a Part's first buffer.
//!
//! The decision is made by the statements that insert a Part or mark it as stored (`db/parts.rs`), so it takes into
//! account an Upload that ends concurrently. This module finds the reason for a rejection.

use windlass_types::{ProjectId, UploadId};

use crate::db::parts;
use crate::db::uploads::{self, Origin};
use crate::error::{Error, Result};
use crate::resources::part_buffers::{ChunkSize, PartBuffer};
use crate::service::Service;

/// The Upload that receives a body's Parts.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) project: ProjectId,
    pub(crate) upload: UploadId,
    pub(crate) origin: Origin,
}

impl Service {
    /// Why a Part was rejected: its Upload is unknown, has ended, or has the maximum number of Parts or too many
    /// bytes.
    pub(crate) async fn admission_error(&self, target: Target) -> Error {
        if let Err(error) = self.check_pending(target).await {
            return error;
        }
        match parts::may_have_more(&self.db, target.upload).await {
            Ok(true) => Error::TooManyBytes(target.upload),
            Ok(false) => Error::TooManyParts(target.upload),
            Err(error) => error.into(),
        }
    }

    /// Fails unless the Upload is pending.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], [`Error::NotPending`] or [`Error::Expired`], or when the ledger fails.
    pub(crate) async fn check_pending(&self, target: Target) -> Result<()> {
        let upload = uploads::find(&self.db, target.project, target.upload).await?;
        upload.ok_or(Error::NoSuchUpload(target.upload))?.into_pending()?;
        Ok(())
    }

    /// Waits for memory for the first buffer of an object. `expected` is the body's length, if it is known.
    pub(crate) async fn first_buffer(&self, target: Target, expected: Option<u64>) -> Result<PartBuffer> {
        let mut buffer = PartBuffer::empty(&self.memory, target.project);
        buffer.grow(self.chunk_size(expected)).await?;
        Ok(buffer)
    }

    /// The sizes of the chunks of an object. `expected` is the body's length, if it is known.
    pub(crate) fn chunk_size(&self, expected: Option<u64>) -> ChunkSize {
        ChunkSize::of(&self.blobs).within(expected.unwrap_or(u64::MAX))
    }
}
