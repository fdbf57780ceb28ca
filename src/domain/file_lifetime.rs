//! How long a File lives after it was created (`expires_after`).

use super::Purpose;

/// 3,600 to 2,592,000 seconds: an hour to thirty days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLifetime(i64);

/// A number of seconds outside the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("seconds must be between 3600 (one hour) and 2592000 (30 days), but was {0}")]
pub struct LifetimeOutOfBounds(pub i64);

impl FileLifetime {
    const SHORTEST: i64 = 3_600;
    const LONGEST: i64 = 2_592_000;

    /// The lifetime of a File whose creator gave none: 30 days for batch input, none for the rest.
    pub fn default_of(purpose: Purpose) -> Option<Self> {
        (purpose == Purpose::Batch).then_some(Self(Self::LONGEST))
    }

    /// In seconds.
    pub fn seconds(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for FileLifetime {
    type Error = LifetimeOutOfBounds;

    fn try_from(seconds: i64) -> Result<Self, LifetimeOutOfBounds> {
        if (Self::SHORTEST..=Self::LONGEST).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(LifetimeOutOfBounds(seconds))
        }
    }
}
