//! How long a signed URL is valid (`expires_in`).

use serde::{Deserialize, Serialize};

/// The lifetime of a signed URL: 1 to 604,800 seconds (seven days); 900 (15 minutes) by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct UrlLifetime(i64);

/// The error for a number of seconds outside the bounds of [`UrlLifetime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("seconds must be between 1 and 604800 (seven days), but was {0}")]
pub struct UrlLifetimeOutOfBounds(pub i64);

impl UrlLifetime {
    /// The maximum, in seconds.
    pub const MAX_SECONDS: i64 = 604_800;

    /// The lifetime in seconds.
    pub fn seconds(self) -> i64 {
        self.0
    }
}

impl Default for UrlLifetime {
    fn default() -> Self {
        Self(900)
    }
}

impl TryFrom<i64> for UrlLifetime {
    type Error = UrlLifetimeOutOfBounds;

    fn try_from(seconds: i64) -> Result<Self, UrlLifetimeOutOfBounds> {
        if (1..=Self::MAX_SECONDS).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(UrlLifetimeOutOfBounds(seconds))
        }
    }
}
