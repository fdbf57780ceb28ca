//! An Upload: an intent to make one File. Pending, then exactly one of completed, cancelled, expired.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{
    ByteCount, Crc64, File, FileLifetime, Filename, Limits, MimeType, MimeTypeNotAccepted, NotJsonl, Part, PartId,
    PartOrder, Purpose, UploadId,
};

/// What the finished file is to be, as the client declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Its name.
    pub filename: Filename,
    /// What it is for.
    pub purpose: Purpose,
    /// Its whole size.
    pub bytes: ByteCount,
    /// Its type.
    pub mime_type: MimeType,
    /// How long the File lives; without it, as long as its purpose's default.
    pub file_lifetime: Option<FileLifetime>,
}

/// A declaration that keeps to the limits: the only argument that creates an Upload.
#[derive(Debug, Clone)]
pub struct NewUpload(Declaration);

/// Why a declaration is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDeclaration {
    /// It is larger than an Upload may be.
    #[error("an upload has at most {limit} bytes, but {declared} were declared")]
    TooLarge {
        /// What was declared.
        declared: ByteCount,
        /// What is allowed.
        limit: ByteCount,
    },
    /// Its type does not suit its purpose.
    #[error(transparent)]
    MimeType(#[from] MimeTypeNotAccepted),
    /// Its name does not suit its purpose.
    #[error(transparent)]
    Filename(#[from] NotJsonl),
}

impl NewUpload {
    /// Checks a declaration against the limits.
    ///
    /// # Errors
    /// When it is too large, or its name or its MIME type does not suit its purpose.
    pub fn new(declaration: Declaration, limits: &Limits) -> Result<Self, BadDeclaration> {
        if declaration.bytes > limits.upload_bytes {
            return Err(BadDeclaration::TooLarge { declared: declaration.bytes, limit: limits.upload_bytes });
        }
        limits.jsonl_check.check_name(declaration.purpose, &declaration.filename)?;
        limits.mime_policy.check(declaration.purpose, &declaration.mime_type)?;
        Ok(Self(declaration))
    }

    /// What was declared.
    pub fn declaration(&self) -> &Declaration {
        &self.0
    }

    /// The same, taken out.
    pub fn into_declaration(self) -> Declaration {
        self.0
    }
}

/// An Upload as the ledger has it.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its name.
    pub id: UploadId,
    /// What it is to become.
    pub declaration: Declaration,
    /// Its state.
    pub status: UploadStatus,
    /// When it was created, by the database's clock.
    pub created_at: DateTime<Utc>,
    /// When it stops being pending.
    pub expires_at: DateTime<Utc>,
}

/// The state of an Upload. The last three are final.
#[derive(Debug, Clone)]
pub enum UploadStatus {
    /// It takes Parts.
    Pending,
    /// It became this File; `None` if that has been deleted since.
    Completed(Option<File>),
    /// A client cancelled it.
    Cancelled,
    /// It expired.
    Expired,
}

impl UploadStatus {
    /// The name on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed(_) => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// An Upload that was pending when it was read under its row lock: every transition takes one.
#[derive(Debug)]
pub struct PendingUpload(Upload);

/// An Upload that has ended already, and how.
#[derive(Debug, Clone)]
pub struct NotPending(pub Upload);

/// Why a list of Parts does not make the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartsDoNotFit {
    /// The Upload has no such Part, or it is not stored yet.
    #[error("upload '{upload}' has no finished part '{part}'; list the ids that adding its parts returned")]
    Unknown {
        /// The Upload that was to be completed.
        upload: UploadId,
        /// The id that was listed.
        part: PartId,
    },
    /// They add up to another size.
    #[error("the parts listed add up to {listed} bytes, but the upload was created with {declared} bytes")]
    WrongSize {
        /// The sum of the listed Parts.
        listed: ByteCount,
        /// What the Upload was created with.
        declared: ByteCount,
    },
}

/// Parts in their order, that add up: the proof that an Upload may be completed.
#[derive(Debug)]
pub struct Assembly {
    upload: Upload,
    parts: Vec<Part>,
    crc64: Crc64,
}

impl Upload {
    /// The proof that it is pending.
    ///
    /// # Errors
    /// Hands the Upload back when it has ended.
    pub fn into_pending(self) -> Result<PendingUpload, Box<NotPending>> {
        match self.status {
            UploadStatus::Pending => Ok(PendingUpload(self)),
            UploadStatus::Completed(_) | UploadStatus::Cancelled | UploadStatus::Expired => {
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

    /// Puts those of the stored Parts that are listed into the client's order.
    ///
    /// # Errors
    /// When a listed Part is not among the stored ones, or their sum is not what was declared.
    pub fn assemble(self, order: &PartOrder, stored: Vec<Part>) -> Result<Assembly, PartsDoNotFit> {
        let parts = in_order(&self.0, order, stored)?;
        let crc64 = parts.iter().fold(Crc64::EMPTY, |crc, part| crc.followed_by(part.crc64, part.bytes.get()));
        Ok(Assembly { upload: self.0, parts, crc64 })
    }
}

/// The listed Parts in their order, when all are there and add up to the declared size.
///
/// # Errors
/// Says which Part is missing, or both sizes.
pub fn in_order(upload: &Upload, order: &PartOrder, stored: Vec<Part>) -> Result<Vec<Part>, PartsDoNotFit> {
    let mut by_id: HashMap<PartId, Part> = stored.into_iter().map(|part| (part.id, part)).collect();
    let parts = order
        .ids()
        .iter()
        .map(|&part| by_id.remove(&part).ok_or(PartsDoNotFit::Unknown { upload: upload.id, part }))
        .collect::<Result<Vec<_>, _>>()?;
    let listed = parts.iter().map(|part| part.bytes).sum();
    let declared = upload.declaration.bytes;
    if listed == declared { Ok(parts) } else { Err(PartsDoNotFit::WrongSize { listed, declared }) }
}

impl Assembly {
    /// The Upload that will be completed.
    pub fn upload(&self) -> &Upload {
        &self.upload
    }

    /// The manifest: Parts in the file's order, and where each begins.
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

    /// How long the File will live, unless forever.
    pub fn file_lifetime(&self) -> Option<FileLifetime> {
        let declaration = &self.upload.declaration;
        declaration.file_lifetime.or_else(|| FileLifetime::default_of(declaration.purpose))
    }
}
