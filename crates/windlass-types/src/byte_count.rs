//! A number of bytes that fits a Postgres `bigint`.

use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A number of bytes, from 0 to 2⁶³−1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
pub struct ByteCount(i64);

/// The error for a number that is negative or above 2⁶³−1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number of bytes between 0 and 9223372036854775807")]
pub struct NotAByteCount;

impl ByteCount {
    /// The size of an empty file.
    pub const ZERO: Self = Self(0);

    /// `n` bytes, for sizes known at compile time.
    pub const fn of(n: u32) -> Self {
        Self(n as i64)
    }

    /// Multiplies by `n`, saturating.
    #[must_use]
    pub const fn times(self, n: u32) -> Self {
        Self(self.0.saturating_mul(n as i64))
    }

    /// The number of bytes.
    pub fn get(self) -> u64 {
        self.0.unsigned_abs()
    }
}

impl From<ByteCount> for u64 {
    fn from(count: ByteCount) -> Self {
        count.get()
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

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = i64::deserialize(deserializer)?;
        Self::try_from(bytes).map_err(|_| de::Error::custom(format_args!("it must be 0 or more, but was {bytes}")))
    }
}

/// Saturates on overflow: the result then differs from any declared size.
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
    fn numbers_that_do_not_fit_a_bigint_are_rejected() {
        assert!(ByteCount::try_from(u64::MAX).is_err());
        assert!(ByteCount::try_from(-1_i64).is_err());
        assert_eq!(ByteCount::try_from(0_u64), Ok(ByteCount::ZERO));
    }
}
