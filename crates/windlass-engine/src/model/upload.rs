//! An Upload: the declaration of one File, whose bytes arrive as Parts. It is pending until it is completed or
//! cancelled, or expires.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use windlass_types::{AnyPurpose, ByteCount, Crc64, FileLifetime, Filename, MimeType, PartId, PartOrder, UploadId};

use super::{File, Limits, MimeTypeNotAccepted, NotJsonl, Part};

/// The properties of the finished File, as declared by the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSpec {
    /// The name of the File.
    pub filename: Filename,
    /// The purpose of the File.
    pub purpose: AnyPurpose,
    /// The size of the File in bytes.
    pub bytes: ByteCount,
    /// The MIME type of the File.
    pub mime_type: MimeType,
    /// How long the File lives; `None` for the default of its purpose.
    pub file_lifetime: Option<FileLifetime>,
}

/// A declaration that has been checked against the limits. An Upload can be created only from this.
#[derive(Debug, Clone)]
pub struct NewUpload(UploadSpec);

/// Why a declaration is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUploadSpec {
    /// The declared size exceeds the limit.
    #[error("an upload has at most {limit} bytes, but {declared} were declared")]
    TooLarge {
        /// The declared size.
        declared: ByteCount,
        /// The maximum size.
        limit: ByteCount,
    },
    /// The MIME type is not accepted for the purpose.
    #[error(transparent)]
    MimeType(#[from] MimeTypeNotAccepted),
    /// The name is not accepted for the purpose.
    #[error(transparent)]
    Filename(#[from] NotJsonl),
}

impl NewUpload {
    /// Checks a declaration against the limits.
    ///
    /// # Errors
    /// If the size exceeds the limit, or the name or the MIME type is not accepted for the purpose.
    pub fn new(spec: UploadSpec, limits: &Limits) -> Result<Self, BadUploadSpec> {
        if spec.bytes > limits.upload_bytes {
            return Err(BadUploadSpec::TooLarge { declared: spec.bytes, limit: limits.upload_bytes });
        }
        limits.jsonl_check.check_name(spec.purpose, &spec.filename)?;
        limits.mime_policy.check(spec.purpose, &spec.mime_type)?;
        Ok(Self(spec))
    }

    /// The same declaration with another lifetime of the File.
    #[must_use]
    pub fn with_file_lifetime(self, file_lifetime: Option<FileLifetime>) -> Self {
        Self(UploadSpec { file_lifetime, ..self.0 })
    }

    /// The declaration.
    pub fn spec(&self) -> &UploadSpec {
        &self.0
    }

    /// Returns the declaration, consuming `self`.
    pub fn into_spec(self) -> UploadSpec {
        self.0
    }
}

/// An Upload as stored in the ledger.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Id of the Upload.
    pub id: UploadId,
    /// The declaration of the File.
    pub spec: UploadSpec,
    /// Its state.
    pub state: UploadState,
    /// When it was created, by the database's clock.
    pub created_at: DateTime<Utc>,
    /// When it expires if it is still pending.
    pub expires_at: DateTime<Utc>,
}

/// The state of an Upload. The last three are final.
#[derive(Debug, Clone)]
pub enum UploadState {
    /// It accepts Parts.
    Pending,
    /// It was completed as this File; `None` if the File no longer exists.
    Completed(Option<File>),
    /// It was cancelled by the client.
    Cancelled,
    /// It expired.
    Expired,
}

impl UploadState {
    /// The name in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed(_) => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// An Upload that was pending when it was read under its row lock. Every transition requires one.
#[derive(Debug)]
pub struct PendingUpload(Upload);

/// An Upload that has already ended.
#[derive(Debug, Clone)]
pub struct NotPending(pub Upload);

/// Why an Upload cannot be completed with a list of Parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartsDoNotFit {
    /// The Upload has no such Part, or it is not stored yet.
    #[error("upload '{upload}' has no finished part '{part}'; list the ids that adding its parts returned")]
    Unknown {
        /// Id of the Upload.
        upload: UploadId,
        /// The listed id.
        part: PartId,
    },
    /// The Parts do not add up to the declared size.
    #[error("the parts listed add up to {listed} bytes, but the upload was created with {declared} bytes")]
    WrongSize {
        /// The total size of the listed Parts.
        listed: ByteCount,
        /// The declared size.
        declared: ByteCount,
    },
}

/// The Parts of a File in order, which add up to the declared size: proof that an Upload may be completed.
#[derive(Debug)]
pub struct CompletionPlan {
    upload: Upload,
    parts: Vec<Part>,
    crc64: Crc64,
}

impl Upload {
    /// Proves that the Upload is pending.
    ///
    /// # Errors
    /// If the Upload has ended; the error contains it.
    pub fn into_pending(self) -> Result<PendingUpload, Box<NotPending>> {
        match self.state {
            UploadState::Pending => Ok(PendingUpload(self)),
            UploadState::Completed(_) | UploadState::Cancelled | UploadState::Expired => {
                Err(Box::new(NotPending(self)))
            }
        }
    }
}

impl PendingUpload {
    /// The Upload.
    pub fn upload(&self) -> &Upload {
        &self.0
    }

    /// Plans the completion with the listed Parts, in the client's order.
    ///
    /// # Errors
    /// If a listed Part is not stored, or the Parts do not add up to the declared size.
    pub fn assemble(self, order: &PartOrder, stored: Vec<Part>) -> Result<CompletionPlan, PartsDoNotFit> {
        let parts = in_order(&self.0, order, stored)?;
        let crc64 = parts.iter().fold(Crc64::EMPTY, |crc, part| crc.followed_by(part.crc64, part.bytes.get()));
        Ok(CompletionPlan { upload: self.0, parts, crc64 })
    }
}

/// The listed Parts in order, if all are stored and add up to the declared size.
///
/// # Errors
/// Otherwise; the error names the missing Part, or both sizes.
pub fn in_order(upload: &Upload, order: &PartOrder, stored: Vec<Part>) -> Result<Vec<Part>, PartsDoNotFit> {
    let mut by_id: HashMap<PartId, Part> = stored.into_iter().map(|part| (part.id, part)).collect();
    let parts = order
        .ids()
        .iter()
        .map(|&part| by_id.remove(&part).ok_or(PartsDoNotFit::Unknown { upload: upload.id, part }))
        .collect::<Result<Vec<_>, _>>()?;
    let listed = parts.iter().map(|part| part.bytes).sum();
    let declared = upload.spec.bytes;
    if listed == declared { Ok(parts) } else { Err(PartsDoNotFit::WrongSize { listed, declared }) }
}

impl CompletionPlan {
    /// The Upload that will be completed.
    pub fn upload(&self) -> &Upload {
        &self.upload
    }

    /// The manifest: the Parts in file order, with the offset of each.
    pub fn manifest(&self) -> impl Iterator<Item = (PartId, ByteCount)> {
        let mut next = ByteCount::ZERO;
        self.parts.iter().map(move |part| {
            let begins = next;
            next = [begins, part.bytes].into_iter().sum();
            (part.id, begins)
        })
    }

    /// The checksum of the whole file, combined from its Parts'.
    pub fn crc64(&self) -> Crc64 {
        self.crc64
    }

    /// How long the File will live; `None` if forever.
    pub fn file_lifetime(&self) -> Option<FileLifetime> {
        let spec = &self.upload.spec;
        spec.file_lifetime.or_else(|| FileLifetime::default_of(spec.purpose))
    }
}
