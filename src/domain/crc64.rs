//! CRC-64/NVME: computed over every byte that passes, and combinable without reading again.

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64Nvme;

/// The checksum of a stored sequence of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crc64(u64);

/// A checksum under way.
pub struct Crc64Digest(Digest);

impl Crc64 {
    /// The checksum of no bytes.
    pub const EMPTY: Self = Self(0);

    /// The checksum of these bytes followed by `next_bytes` bytes whose checksum is `next`.
    #[must_use]
    pub fn followed_by(self, next: Self, next_bytes: u64) -> Self {
        Self(checksum_combine(ALGORITHM, self.0, next.0, next_bytes))
    }

    /// The same 64 bits as the ledger's `bigint`.
    pub fn to_ledger(self) -> i64 {
        self.0.cast_signed()
    }

    /// Reads the ledger's `bigint`.
    pub fn from_ledger(bits: i64) -> Self {
        Self(bits.cast_unsigned())
    }
}

impl fmt::Display for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Crc64Digest {
    /// Begins with no bytes.
    pub fn new() -> Self {
        Self(Digest::new(ALGORITHM))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of what was taken.
    pub fn finish(&self) -> Crc64 {
        Crc64(self.0.finalize())
    }
}

impl Default for Crc64Digest {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc(bytes: &[u8]) -> Crc64 {
        let mut digest = Crc64Digest::new();
        digest.update(bytes);
        digest.finish()
    }

    #[test]
    fn it_is_the_published_algorithm() {
        // The check value of the catalogue of parametrised CRC algorithms for CRC-64/NVME.
        assert_eq!(crc(b"123456789").to_string(), "ae8b14860a799888");
        assert_eq!(crc(b""), Crc64::EMPTY);
    }

    #[test]
    fn parts_combine_to_the_whole_in_any_division() {
        let whole = b"The file is longer than its parts.";
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(crc(head).followed_by(crc(tail), tail.len() as u64), crc(whole), "cut at {cut}");
        }
    }
}
