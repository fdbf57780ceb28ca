//! CRC-64/NVME checksums, which can be combined without reading the data again.

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64Nvme;

/// The polynomial in reflected form: the lowest power is in the highest bit, as in all values in this file.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

/// x to the power of 2⁰, 2¹, 2² and so on, modulo the polynomial: enough for the number of bits of any file.
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

/// The CRC-64/NVME of a sequence of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crc64(u64);

/// A checksum computation in progress.
pub struct Crc64Digest(Digest);

impl Crc64 {
    /// The checksum of no bytes.
    pub const EMPTY: Self = Self(0);

    /// The checksum of these bytes followed by `next_bytes` bytes with the checksum `next`: this checksum times
    /// x^(8 · `next_bytes`), plus `next`.
    #[must_use]
    pub fn followed_by(self, next: Self, next_bytes: u64) -> Self {
        let bits = POWERS_OF_X[3..].iter().enumerate().filter(|(k, _)| next_bytes >> k & 1 == 1);
        Self(bits.fold(self.0, |crc, (_, power)| product(crc, *power)) ^ next.0)
    }

    /// The same 64 bits as a `bigint` for the ledger.
    pub fn to_ledger(self) -> i64 {
        self.0.cast_signed()
    }

    /// The checksum from the ledger's `bigint`.
    pub fn from_ledger(bits: i64) -> Self {
        Self(bits.cast_unsigned())
    }
}

impl fmt::Display for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Crc64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Crc64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_hex = text.len() == 16 && text.bytes().all(|it| it.is_ascii_hexdigit());
        let bits = is_hex.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        bits.map(Self).ok_or_else(|| de::Error::custom("a CRC-64/NVME is 16 hexadecimal digits"))
    }
}

impl Crc64Digest {
    /// Starts a computation.
    pub fn new() -> Self {
        Self(Digest::new(ALGORITHM))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
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
    fn the_published_check_value_is_reproduced() {
        // The check value for CRC-64/NVME in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc(b"123456789").to_string(), "ae8b14860a799888");
        assert_eq!(crc(b""), Crc64::EMPTY);
    }

    #[test]
    fn checksums_of_two_parts_combine_wherever_the_data_is_split() {
        let whole = b"The file is longer than its parts.";
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(crc(head).followed_by(crc(tail), tail.len() as u64), crc(whole), "cut at {cut}");
        }
    }

    #[test]
    fn combining_agrees_with_the_library_for_any_length() {
        for bits in 0..63 {
            for bytes in [1_u64 << bits, (1 << bits) - 1, (1 << bits) | 0x5_a5a5] {
                let (a, b) = (0x0123_4567_89ab_cdef_u64.rotate_left(bits), u64::MAX / (u64::from(bits) + 3));
                let expected = crc_fast::checksum_combine(ALGORITHM, a, b, bytes);
                assert_eq!(Crc64(a).followed_by(Crc64(b), bytes), Crc64(expected), "{bytes} bytes");
            }
        }
    }
}
