//! Every number that bounds something, with its default from the contract.

use std::time::Duration;

use super::{ByteCount, JsonlCheck, MimePolicy};

/// The bounds that an operator may set and a test may shrink.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest Part: 64 MiB, since the SDK's parts are exactly that.
    pub part_bytes: ByteCount,
    /// The largest Part that is kept in the ledger, up to [`Limits::LEDGER_PART_BYTES`]; larger ones are objects.
    pub ledger_part_bytes: ByteCount,
    /// The largest Upload that may be declared: 8 GiB.
    pub upload_bytes: ByteCount,
    /// The largest body of `POST /v1/files`: 512 MiB.
    pub file_bytes: ByteCount,
    /// The largest batch file through `POST /v1/files`: 200 MiB.
    pub batch_file_bytes: ByteCount,
    /// How long an Upload stays pending.
    pub upload_lifetime: Duration,
    /// Which MIME types a purpose takes.
    pub mime_policy: MimePolicy,
    /// What is checked of files whose purpose takes JSON lines.
    pub jsonl_check: JsonlCheck,
    /// The longest pause inside a body before it counts as stalled.
    pub body_idle: Duration,
    /// The longest time one body may take as a whole.
    pub body_deadline: Duration,
    /// The minimum average rate at which a body must arrive and a response must be read, in bytes per second.
    pub min_rate: ByteCount,
    /// How long the ledger may take over anything before it counts as away.
    pub ledger_patience: Duration,
    /// How long stored bytes that nobody wants any more are kept: for those who are reading them, and for
    /// a backup whose ledger still names them.
    pub deletion_grace: Duration,
    /// How long an ended Upload or a deleted File is remembered once its bytes are gone.
    pub memory: Duration,
    /// The most rows that one step of the sweeper takes at once.
    pub sweep_batch: u16,
    /// The maximum number of Parts that a transaction marks as garbage; the sweeper marks the rest in such batches.
    pub discard_batch: u16,
    /// The memory that the program may take while bodies are on their way.
    pub buffer_bytes: ByteCount,
    /// How long a body waits for that memory before it is turned away with 503.
    pub buffer_wait: Duration,
}

impl Limits {
    /// The most Parts that one Upload may hold and one completion may list.
    pub const PARTS_PER_UPLOAD: usize = 10_000;
    /// The largest Part that the schema lets into the ledger.
    pub const LEDGER_PART_BYTES: u64 = 64 * 1024;
    /// The longest page of a list, and the default.
    pub const PAGE: u16 = 10_000;
    /// The largest JSON body: a completion of 10,000 part ids has 0.4 MB.
    pub const JSON_BYTES: usize = 1024 * 1024;
    /// The maximum number of values in a JSON body: each takes much more memory than its text.
    pub const JSON_VALUES: usize = 32 * 1024;
    /// This much of a JSON body is not counted in the memory for bodies, so that small ones do not wait.
    pub const FREE_BODY_BYTES: usize = 8 * 1024;
    /// What a multipart body may hold beside the content: boundaries, headers, small fields.
    pub const FORM_OVERHEAD_BYTES: u64 = 1024 * 1024;
    /// The largest text field of a form.
    pub const FORM_TEXT_BYTES: usize = 8 * 1024;
    /// How long an object that its writer gave up is left alone: the store may still be at it.
    pub const ABANDONED_GRACE: Duration = Duration::from_mins(1);
    /// How long the store may take over the last bytes of a body, retries included.
    pub const STORE_PATIENCE: Duration = Duration::from_mins(10);

    /// How much of that memory bodies get: a fifth is for all else, connections that wait among it.
    pub fn bodies_bytes(&self) -> u64 {
        self.buffer_bytes.get() / 5 * 4
    }

    /// The memory, in addition, for responses that clients have not read yet: a chunk for each reader of a bucket or of
    /// Parts in the ledger, and lists.
    pub fn answers_bytes(&self) -> u64 {
        self.buffer_bytes.get() / 16 * 3
    }

    /// The memory, in addition, for reading more than one chunk ahead from a bucket. It is a separate budget, so that
    /// what was read ahead for clients that stop reading does not block others.
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
            upload_lifetime: Duration::from_hours(1),
            mime_policy: MimePolicy::Contract,
            jsonl_check: JsonlCheck::Name,
            body_idle: Duration::from_secs(30),
            body_deadline: Duration::from_hours(1),
            min_rate: ByteCount::of(1024),
            ledger_patience: Duration::from_secs(30),
            deletion_grace: Duration::from_hours(1),
            memory: Duration::from_hours(168),
            sweep_batch: 100,
            discard_batch: 1000,
            buffer_bytes: ByteCount::of(256 * 1024 * 1024),
            buffer_wait: Duration::from_secs(20),
        }
    }
}
