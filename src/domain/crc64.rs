//! CRC-64/NVME: computed over every byte that passes, and combinable without reading again.

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64Nvme;

/// Its polynomial, the lowest power in the highest bit, as in every number here.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

/// x to the power of 2⁰, 2¹, 2² and so on, modulo the polynomial: as many as the bits of any file have.
const POWERS_OF_X: [u64; 67] = {
    let mut powers = [1 << 62; 67];
    let mut k = 1;
    while k < powers.len() {
        powers[k] = product(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// a · b modulo the polynomial.
const fn product(a: u64, mut b: u64) -> u64 {
    let (mut product, mut bit) = (0, 1 << 63);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
        bit >>= 1;
    }
    product
}

/// The checksum of a stored sequence of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crc64(u64);

/// A checksum under way.
pub struct Crc64Digest(Digest);

impl Crc64 {
    /// The checksum of no bytes.
    pub const EMPTY: Self = Self(0);

    /// The checksum of these bytes followed by `next_bytes` bytes whose checksum is `next`: this one
    /// times x to the power of their bits, plus the other.
    #[must_use]
    pub fn followed_by(self, next: Self, next_bytes: u64) -> Self {
        let bits = POWERS_OF_X[3..].iter().enumerate().filter(|(k, _)| next_bytes >> k & 1 == 1);
        Self(bits.fold(self.0, |crc, (_, power)| product(crc, *power)) ^ next.0)
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

    #[test]
    fn parts_of_any_length_combine_as_the_library_has_it() {
        for bits in 0..63 {
            for bytes in [1_u64 << bits, (1 << bits) - 1, (1 << bits) | 0x5_a5a5] {
                let (a, b) = (0x0123_4567_89ab_cdef_u64.rotate_left(bits), u64::MAX / (u64::from(bits) + 3));
                let expected = crc_fast::checksum_combine(ALGORITHM, a, b, bytes);
                assert_eq!(Crc64(a).followed_by(Crc64(b), bytes), Crc64(expected), "{bytes} bytes");
            }
        }
    }
}
