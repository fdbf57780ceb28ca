//! A File: the immutable result of a completed Upload.

use chrono::{DateTime, Utc};
use windlass_types::{AnyPurpose, ByteCount, Crc64, FileId, Filename, MimeType};

use super::Digests;

/// A File as stored in the ledger. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Id of the File.
    pub id: FileId,
    /// The name given by the client.
    pub filename: Filename,
    /// The purpose given by the client.
    pub purpose: AnyPurpose,
    /// The MIME type declared by the client.
    pub mime_type: MimeType,
    /// Its size in bytes.
    pub bytes: ByteCount,
    /// The checksum of its bytes.
    pub crc64: Crc64,
    /// The digests that the client sent, which were verified.
    pub digests: Digests,
    /// When its Upload was created (as in the contract), by the database's clock.
    pub created_at: DateTime<Utc>,
    /// When it expires; `None` if never.
    pub expires_at: Option<DateTime<Utc>>,
}
