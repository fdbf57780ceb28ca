//! A number of bytes that Postgres can store.

use std::fmt;
use std::iter::Sum;

/// 0 to 2⁶³−1 bytes: a `bigint` by construction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct ByteCount(i64);

/// A number that is negative or above 2⁶³−1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number of bytes between 0 and 9223372036854775807")]
pub struct NotAByteCount;

impl ByteCount {
    /// No bytes at all: the size of an empty file.
    pub const ZERO: Self = Self(0);

    /// `n` bytes, for sizes known when the program is compiled.
    pub const fn of(n: u32) -> Self {
        Self(n as i64)
    }

    /// `n` times as many, saturating.
    #[must_use]
    pub const fn times(self, n: u32) -> Self {
        Self(self.0.saturating_mul(n as i64))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// The sum, or nothing where it would not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl TryFrom<u64> for ByteCount {
    type Error = NotAByteCount;

    fn try_from(bytes: u64) -> Result<Self, NotAByteCount> {
        i64::try_from(bytes).map(Self).map_err(|_| NotAByteCount)
    }
}

impl TryFrom<i64> for ByteCount {
    type Error = NotAByteCount;

    fn try_from(bytes: i64) -> Result<Self, NotAByteCount> {
        if bytes < 0 { Err(NotAByteCount) } else { Ok(Self(bytes)) }
    }
}

/// Saturates: a sum that does not fit equals no declared size.
impl Sum for ByteCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        Self(counts.fold(0, |total, it| total.saturating_add(it.0)))
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bigint_cannot_hold_is_refused() {
        assert!(ByteCount::try_from(u64::MAX).is_err());
        assert!(ByteCount::try_from(-1_i64).is_err());
        assert_eq!(ByteCount::try_from(0_u64), Ok(ByteCount::ZERO));
    }
}
