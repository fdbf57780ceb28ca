//! A Part: a piece of an Upload's bytes, immutable once stored. A small Part is in the ledger, any other is one object.

use chrono::{DateTime, Utc};
use windlass_types::{ByteCount, Crc64, PartId, UploadId};

/// A stored Part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Id of the Part, from which the name of its object is derived.
    pub id: PartId,
    /// The Upload it belongs to.
    pub upload: UploadId,
    /// Its size in bytes, never 0.
    pub bytes: ByteCount,
    /// The checksum of its bytes.
    pub crc64: Crc64,
    /// When its row was inserted, by the database's clock.
    pub created_at: DateTime<Utc>,
    /// Whether its bytes are in its row; otherwise they are in an object.
    pub in_ledger: bool,
}
