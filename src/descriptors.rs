//! File descriptor limit of this process, and the share of it that client connections may use.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::ConnectionLimits;

/// Default maximum number of connections; each uses a few kilobytes of memory.
const DEFAULT_MAX: usize = 16 * 1024;

/// Descriptors reserved for the database, the store, files, and connections that are being closed.
const RESERVED: usize = 192;

/// Raises the soft limit of file descriptors to the hard limit, and lowers the maximum number of connections so that a
/// quarter of the descriptors, and at least 192, are left for the database, the store and files.
pub fn bound(limits: &ConnectionLimits) -> ConnectionLimits {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let is_raised = current != maximum && setrlimit(Resource::Nofile, raised).is_ok();
    let descriptors = if is_raised { maximum } else { current };
    let descriptors = descriptors.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX));
    let possible = (descriptors / 4 * 3).min(descriptors.saturating_sub(RESERVED)).max(1);
    let max = limits.max.map_or(possible.min(DEFAULT_MAX), |it| it.min(possible));
    if limits.max.is_some_and(|it| it > max) {
        tracing::warn!(
            max,
            descriptors,
            "WINDLASS_MAX_CONNECTIONS exceeds what the file descriptor limit allows and was lowered"
        );
    }
    tracing::info!(max, descriptors, "connection and file descriptor limits");
    ConnectionLimits { max: Some(max), ..limits.clone() }
}
