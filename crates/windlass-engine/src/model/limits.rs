//! Limits on sizes, times and memory, with their defaults.

use std::time::Duration;

use windlass_types::ByteCount;

use super::{FileExpiry, JsonlCheck, MimePolicy, ProjectLimits};

/// The limits that an operator can configure, and tests can lower.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The maximum size of a Part: 64 MiB, which is exactly the size of the SDK's parts.
    pub part_bytes: ByteCount,
    /// The maximum size of a Part that is stored in the ledger, at most [`Limits::LEDGER_PART_BYTES`]. Larger ones are
    /// objects.
    pub ledger_part_bytes: ByteCount,
    /// The maximum declared size of an Upload: 8 GiB.
    pub upload_bytes: ByteCount,
    /// The maximum size of a file sent to `POST /v1/files`: 512 MiB.
    pub file_bytes: ByteCount,
    /// The maximum size of a file with the purpose `batch` sent to `POST /v1/files`: 200 MiB.
    pub batch_file_bytes: ByteCount,
    /// How much a project may use, unless it has limits of its own.
    pub project: ProjectLimits,
    /// How long Files live, unless their project has rules of its own.
    pub file_expiry: FileExpiry,
    /// How long an Upload stays pending.
    pub upload_lifetime: Duration,
    /// Which MIME types are accepted for a purpose.
    pub mime_policy: MimePolicy,
    /// What is checked of files whose purpose accepts only JSON lines.
    pub jsonl_check: JsonlCheck,
    /// The longest pause within a body, after which it counts as stalled.
    pub body_idle: Duration,
    /// The maximum time to receive a body.
    pub body_deadline: Duration,
    /// The minimum average rate at which a body must arrive and a response must be read, in bytes per second.
    pub min_rate: ByteCount,
    /// The timeout of a database operation.
    pub db_timeout: Duration,
    /// How long the bytes of discarded Parts are kept: for downloads in progress, and for a backup of the ledger that
    /// still references them.
    pub deletion_grace: Duration,
    /// How long the rows of ended Uploads and deleted Files are kept, or longer if their bytes are not deleted by then.
    pub tombstone_retention: Duration,
    /// How long events of the audit trail are kept; `None` if there is no audit trail.
    pub audit_retention: Option<Duration>,
    /// The maximum number of rows per batch of the sweeper.
    pub sweep_batch: u16,
    /// The maximum number of Parts that a transaction marks as garbage; the sweeper marks the rest in such batches.
    pub discard_batch: u16,
    /// The memory that the process may use while bodies arrive.
    pub buffer_bytes: ByteCount,
    /// How long a body waits for that memory, and a request that is under way for its project's turn, before it is
    /// rejected with 503.
    pub queue_timeout: Duration,
    /// How long a new request waits for its project's turn. One that would wait longer is rejected at once.
    pub max_queue_wait: Duration,
}

impl Limits {
    /// The maximum size of a Part in the ledger, which the schema enforces.
    pub const LEDGER_PART_BYTES: u64 = 64 * 1024;
    /// The maximum size of a JSON body. A completion with 10,000 part ids is 0.4 MB.
    pub const JSON_BYTES: usize = 1024 * 1024;
    /// The maximum number of values in a JSON body: each uses much more memory than its text.
    pub const JSON_VALUES: usize = 32 * 1024;
    /// How much of a JSON body is not counted in the memory for bodies, so that small ones do not wait.
    pub const FREE_BODY_BYTES: usize = 8 * 1024;
    /// The maximum size of a multipart body without the file's content: boundaries, headers, small fields.
    pub const FORM_OVERHEAD_BYTES: u64 = 1024 * 1024;
    /// The maximum size of a text field in a form.
    pub const FORM_TEXT_BYTES: usize = 8 * 1024;
    /// How long to wait before an abandoned object is deleted: the store may still be processing a write.
    pub const ABANDONED_GRACE: Duration = Duration::from_mins(1);
    /// The maximum time that the store may take for the last bytes of a body, including retries.
    pub const STORE_PATIENCE: Duration = Duration::from_mins(10);

    /// In a project with a limit of bytes, an Upload accepts no further Parts while its stored ones have more than twice
    /// its declared size plus this: enough for Parts that are sent again, but not for storing more than is counted.
    pub fn excess_bytes(&self) -> u64 {
        self.part_bytes.get().saturating_mul(8)
    }

    /// The part of `buffer_bytes` for bodies. The remaining fifth is for everything else, such as waiting connections.
    pub fn bodies_bytes(&self) -> u64 {
        self.buffer_bytes.get() / 5 * 4
    }

    /// The additional memory for responses that clients have not read yet: a chunk for each reader of a bucket or of
    /// Parts in the ledger, and lists.
    pub fn response_bytes(&self) -> u64 {
        self.buffer_bytes.get() / 16 * 3
    }

    /// The additional memory for reading more than one chunk ahead from a bucket. It is a separate budget, so that data
    /// read ahead for clients that stop reading does not block others.
    pub fn read_ahead_bytes(&self) -> u64 {
        self.buffer_bytes.get() / 8
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            part_bytes: ByteCount::of(64 * 1024 * 1024),
            ledger_part_bytes: ByteCount::of(4096),
            upload_bytes: ByteCount::of(1024 * 1024 * 1024).times(8),
            file_bytes: ByteCount::of(512 * 1024 * 1024),
            batch_file_bytes: ByteCount::of(200 * 1024 * 1024),
            project: ProjectLimits::default(),
            file_expiry: FileExpiry::default(),
            upload_lifetime: Duration::from_hours(1),
            mime_policy: MimePolicy::Contract,
            jsonl_check: JsonlCheck::Name,
            body_idle: Duration::from_secs(30),
            body_deadline: Duration::from_hours(1),
            min_rate: ByteCount::of(1024),
            db_timeout: Duration::from_secs(30),
            deletion_grace: Duration::from_hours(1),
            tombstone_retention: Duration::from_hours(168),
            audit_retention: None,
            sweep_batch: 100,
            discard_batch: 1000,
            buffer_bytes: ByteCount::of(256 * 1024 * 1024),
            queue_timeout: Duration::from_secs(20),
            max_queue_wait: Duration::from_secs(5),
        }
    }
}
