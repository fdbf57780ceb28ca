//! A File: the finished thing, with a name, a purpose and perhaps an expiry.

use chrono::{DateTime, Utc};

use super::{ByteCount, Crc64, FileId, Filename, Md5, MimeType, Purpose};

/// A File as the ledger has it. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name in the API.
    pub id: FileId,
    /// The name its client gave.
    pub filename: Filename,
    /// What it is for.
    pub purpose: Purpose,
    /// The type its client declared.
    pub mime_type: MimeType,
    /// Its size.
    pub bytes: ByteCount,
    /// The checksum of its bytes.
    pub crc64: Crc64,
    /// The MD5 that its client sent and that was verified.
    pub md5: Option<Md5>,
    /// When its Upload was created (as in the contract), by the database's clock.
    pub created_at: DateTime<Utc>,
    /// When it expires, if ever.
    pub expires_at: Option<DateTime<Utc>>,
}
