//! Quotas of projects, what projects use of them, and rates of keys.

use std::fmt;
use std::str::FromStr;

use super::FileExpiry;

/// The resources whose use by a project can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Bytes of Files, and bytes that pending Uploads have declared or reserved.
    Bytes,
    /// Pending Uploads, without those of `POST /v1/files`.
    PendingUploads,
    /// Files, together with all pending Uploads, each of which may become one.
    Files,
}

impl Quota {
    /// The name in the ledger and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::PendingUploads => "pending_uploads",
            Self::Files => "files",
        }
    }
}

/// The error for a text that is not a [`Quota`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the name of a quota")]
pub struct NotAQuota;

impl FromStr for Quota {
    type Err = NotAQuota;

    fn from_str(text: &str) -> Result<Self, NotAQuota> {
        [Self::Bytes, Self::PendingUploads, Self::Files].into_iter().find(|it| it.as_str() == text).ok_or(NotAQuota)
    }
}

/// What was to be created exceeds a quota of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the project uses {used} of {limit} {}", quota.as_str())]
pub struct QuotaExceeded {
    /// The quota.
    pub quota: Quota,
    /// How much the project uses.
    pub used: u64,
    /// How much it may use.
    pub limit: u64,
}

/// How much a project may use; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProjectLimits {
    /// See [`Quota::Bytes`].
    pub bytes: Option<u64>,
    /// See [`Quota::PendingUploads`].
    pub pending_uploads: Option<u64>,
    /// See [`Quota::Files`].
    pub files: Option<u64>,
}

impl ProjectLimits {
    /// Whether there is no limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// What applies to new objects of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRules {
    /// How long its Files live.
    pub file_expiry: FileExpiry,
    /// Whether it has a limit.
    pub is_limited: bool,
}

/// What a project uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// See [`Quota::Bytes`].
    pub bytes: u64,
    /// See [`Quota::PendingUploads`].
    pub pending_uploads: u64,
    /// Files that exist, or have expired and are not swept yet.
    pub files: u64,
    /// How much it may use.
    pub limits: ProjectLimits,
}

/// A limit as it is set for a project or a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitSetting {
    /// The default of the service's settings.
    #[default]
    Default,
    /// No limit, whatever the default is.
    Unlimited,
    /// This limit.
    Most(u64),
}

impl LimitSetting {
    /// The value of [`Self::Unlimited`] in the ledger.
    const UNLIMITED: i64 = i64::MAX;

    /// Converts a column of the ledger.
    pub fn from_ledger(column: Option<i64>) -> Self {
        match column {
            None => Self::Default,
            Some(Self::UNLIMITED) => Self::Unlimited,
            Some(most) => Self::Most(most.unsigned_abs()),
        }
    }

    /// The column in the ledger.
    pub fn to_ledger(self) -> Option<i64> {
        match self {
            Self::Default => None,
            Self::Unlimited => Some(Self::UNLIMITED),
            Self::Most(most) => Some(ledger_limit(most)),
        }
    }

    /// The limit in force, given the default.
    pub fn or(self, default: Option<u64>) -> Option<u64> {
        match self {
            Self::Default => default,
            Self::Unlimited => None,
            Self::Most(most) => Some(most),
        }
    }
}

/// A limit as a `bigint`; one that is larger is unlimited.
pub fn ledger_limit(most: u64) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

impl fmt::Display for LimitSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Unlimited => f.write_str("unlimited"),
            Self::Most(most) => most.fmt(f),
        }
    }
}

/// The rates of a key, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyRates {
    /// Requests.
    pub requests: LimitSetting,
    /// Bytes of bodies, in both directions.
    pub bytes: LimitSetting,
}

/// Changes of a project; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct ProjectChange {
    /// The limit on bytes.
    pub bytes: Option<LimitSetting>,
    /// The limit on pending Uploads.
    pub pending_uploads: Option<LimitSetting>,
    /// The limit on Files.
    pub files: Option<LimitSetting>,
    /// The default lifetimes of its Files.
    pub default_lifetimes: Option<super::PurposeLifetimes>,
    /// The longest lifetimes of its Files.
    pub longest_lifetimes: Option<super::PurposeLifetimes>,
}

/// Changes of a key; `None` leaves a value as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyChange {
    /// The maximum number of requests per second.
    pub requests: Option<LimitSetting>,
    /// The maximum number of bytes per second.
    pub bytes: Option<LimitSetting>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_ledger_is_the_same_when_it_is_read() {
        for setting in [LimitSetting::Default, LimitSetting::Unlimited, LimitSetting::Most(0), LimitSetting::Most(7)] {
            assert_eq!(LimitSetting::from_ledger(setting.to_ledger()), setting);
        }
        assert_eq!(LimitSetting::Most(u64::MAX).to_ledger(), LimitSetting::Unlimited.to_ledger());
    }

    #[test]
    fn only_a_limit_that_is_not_set_is_the_default() {
        for (setting, in_force) in
            [(LimitSetting::Default, Some(5)), (LimitSetting::Unlimited, None), (LimitSetting::Most(0), Some(0))]
        {
            assert_eq!(setting.or(Some(5)), in_force);
        }
    }
}
