//! Settings of quotas, rates and lifetimes of files: the defaults of projects and keys that have none of their own.

use clap::Args;
use windlass_engine::model::{FileExpiry, ProjectLimits, PurposeLifetimes};
use windlass_types::ByteCount;

use super::values::{MOST_BYTES, count, size};
use crate::http::RateLimits;

/// Defaults of projects and keys.
#[derive(Debug, Args)]
pub struct QuotaOptions {
    /// The maximum size of a project's files and pending uploads together; if not set, unlimited. `windlass projects
    /// set` changes it for a project, as with the following ones.
    #[arg(long, global = true, env = "WINDLASS_PROJECT_MAX_BYTES", value_parser = size(0..=MOST_BYTES))]
    project_max_bytes: Option<ByteCount>,
    /// The maximum number of a project's pending uploads; if not set, unlimited.
    #[arg(long, global = true, env = "WINDLASS_PROJECT_MAX_PENDING_UPLOADS", value_parser = count(0))]
    project_max_pending_uploads: Option<u64>,
    /// The maximum number of a project's files and pending uploads together; if not set, unlimited.
    #[arg(long, global = true, env = "WINDLASS_PROJECT_MAX_FILES", value_parser = count(0))]
    project_max_files: Option<u64>,
    /// How long files live that are created without `expires_after`, by purpose: `batch=7d,*=30d`, where `*` is every
    /// other purpose. If not set, 30 days for `batch`, and forever for others.
    #[arg(long, global = true, env = "WINDLASS_PROJECT_FILE_LIFETIMES")]
    project_file_lifetimes: Option<PurposeLifetimes>,
    /// The longest lifetime of files, by purpose. A longer `expires_after` is refused, and no file lives forever.
    #[arg(long, global = true, env = "WINDLASS_PROJECT_MAX_FILE_LIFETIMES")]
    project_max_file_lifetimes: Option<PurposeLifetimes>,
    /// The maximum number of requests per second with one key, in each process; if not set, unlimited. `windlass keys
    /// set` changes it for a key, as with the following one.
    #[arg(long, global = true, env = "WINDLASS_KEY_MAX_REQUESTS_PER_SECOND", value_parser = count(1))]
    key_max_requests_per_second: Option<u64>,
    /// The maximum number of bytes per second that requests with one key may send and receive, in each process; if not
    /// set, unlimited.
    #[arg(long, global = true, env = "WINDLASS_KEY_MAX_BYTES_PER_SECOND", value_parser = size(1..=MOST_BYTES))]
    key_max_bytes_per_second: Option<ByteCount>,
    /// The maximum number of wrong keys per minute from one address; 0 for no maximum. The address is that of the
    /// connection: behind a proxy, the proxy's. Keys that were valid within the last day are not affected.
    #[arg(long, global = true, env = "WINDLASS_MAX_WRONG_KEYS_PER_MINUTE", default_value_t = 100, value_parser = count(0))]
    max_wrong_keys_per_minute: u64,
}

impl QuotaOptions {
    /// The limits of projects.
    pub fn project_limits(&self) -> ProjectLimits {
        ProjectLimits {
            bytes: self.project_max_bytes.map(ByteCount::get),
            pending_uploads: self.project_max_pending_uploads,
            files: self.project_max_files,
        }
    }

    /// How long files live.
    pub fn file_expiry(&self) -> FileExpiry {
        FileExpiry {
            default: self.project_file_lifetimes.clone().unwrap_or_default(),
            longest: self.project_max_file_lifetimes.clone().unwrap_or_default(),
        }
    }

    /// The rates of keys.
    pub fn rates(&self) -> RateLimits {
        RateLimits {
            requests: self.key_max_requests_per_second,
            bytes: self.key_max_bytes_per_second.map(ByteCount::get),
        }
    }

    /// The wrong keys per minute and address; `None` is unlimited.
    pub fn wrong_keys_per_minute(&self) -> Option<u64> {
        Some(self.max_wrong_keys_per_minute).filter(|it| *it > 0)
    }
}
