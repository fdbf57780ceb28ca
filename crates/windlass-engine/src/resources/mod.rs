//! Resources shared by requests (memory, disk space, fair queues) and state kept by the process.

pub(crate) mod batch_queue;
pub(crate) mod create_queue;
pub(crate) mod disk_space;
pub(crate) mod fair_queue;
pub(crate) mod in_flight;
pub(crate) mod md5_uploads;
pub(crate) mod memory_budget;
pub(crate) mod part_buffers;
pub(crate) mod readiness;
pub(crate) mod recent_average;
pub(crate) mod request_memory;
pub(crate) mod short_cache;
pub(crate) mod task_status;

/// The usual overhead of a form around one small field, in bytes: two boundaries and a header. Together with the
/// maximum size of a Part in the ledger, this bounds the length of a body that is collected in memory; a larger one is
/// written to an object.
pub(crate) const SMALL_BODY_OVERHEAD: u64 = 1024;

/// The maximum number of bodies read as a whole that may wait for memory. Further ones are rejected at once, because
/// the connection of a waiting body has already buffered several hundred KiB of it.
pub(crate) const MAX_WAITING_BODIES: usize = 64;

/// The maximum number of list batches in memory at once: each holds its rows until they have been serialized.
pub(crate) const LISTS_AT_ONCE: usize = 8;
