//! How long a File lives after its creation (`expires_after`).

use serde::{Deserialize, Serialize};

use super::AnyPurpose;

/// The lifetime of a File: 3,600 to 2,592,000 seconds (an hour to 30 days).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct FileLifetime(i64);

/// The error for a number of seconds outside the bounds of [`FileLifetime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("seconds must be between 3600 (one hour) and 2592000 (30 days), but was {0}")]
pub struct LifetimeOutOfBounds(pub i64);

impl FileLifetime {
    const SHORTEST: i64 = 3_600;
    const LONGEST: i64 = 2_592_000;

    /// The lifetime of a File that was created without one: 30 days for the purpose `batch`, otherwise unlimited.
    pub fn default_of(purpose: AnyPurpose) -> Option<Self> {
        (purpose == AnyPurpose::Batch).then_some(Self(Self::LONGEST))
    }

    /// The lifetime in seconds.
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
