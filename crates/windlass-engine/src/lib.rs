//! The engine of Windlass, without HTTP: Uploads, Parts and Files. Their rows are in Postgres (the *ledger*), their
//! bytes in a *store* (a directory or a bucket).
//!
//! ```no_run
//! use windlass_engine::{Outcome, Service};
//! use windlass_engine::db::Db;
//! use windlass_engine::model::{Limits, NewUpload, UploadSpec};
//! use windlass_engine::store::{BlobStore, IfMissing, Location, Variables};
//! use windlass_types::{ByteCount, MimeType, PartOrder, ProjectId, AnyPurpose};
//!
//! # async fn example(project: ProjectId) -> Result<(), Box<dyn std::error::Error>> {
//! let db = Db::connect("postgres://localhost/windlass", 8, std::time::Duration::ZERO).await?;
//! let store = Location::Directory("/var/lib/windlass/objects".into());
//! let store = BlobStore::open(&store, &Variables::default(), IfMissing::Make).await?;
//! let service = Service::new(db, store, Limits::default(), tokio::runtime::Handle::current());
//!
//! let spec = UploadSpec {
//!     filename: "a.bin".parse()?,
//!     purpose: AnyPurpose::UserData,
//!     bytes: ByteCount::of(5),
//!     mime_type: MimeType::octet_stream(),
//!     file_lifetime: None,
//! };
//! let upload = service.create_upload(project, NewUpload::new(spec, service.limits())?).await?;
//! let mut part = service.begin_part(project, upload.id, Some(5), None).await?;
//! part.write(b"hello").await?;
//! let Outcome::Created(part) = part.finish().await? else { return Ok(()) };
//! service.complete_upload(project, upload.id, PartOrder::try_from(vec![part.id])?, None).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//!
//! A layer imports only from layers below it, and each external technology is used in one place only
//! (`tests/it/tidy.rs` checks both).
//!
//! ```text
//! maintenance   the sweep, probes, fsck, the link between ledger and store
//! operations    use cases: create, complete, cancel, list, delete, keys; they and maintenance own the transactions
//! ingest, read  the write path (admission, Parts in the ledger, objects) and the read path (manifest, content)
//! service       the handle: the state that operations share, and the runtime they run on
//! resources     what requests wait for (memory, disk space, fair queues), caches and other state of the process
//! error         every way an operation can fail
//! db, store     sqlx, mostly one statement per function; object_store and the file system
//! model         values and the state machine of an Upload; no I/O and no clock
//! ```
//!
//! `failpoints` names the steps after which tests kill the process; `spawn` spawns tasks in the caller's span; `spans`
//! has the spans of traces; `retry` retries operations with an unknown outcome.
//!
//! # How a Part is written
//!
//! 1. `ingest::part_ingest` chooses by the request's `Content-Length`. A body of at most `ledger_part_bytes`, plus 1
//!    KiB for the form around it, is collected in memory and inserted into the ledger with its row, by one statement:
//!    it is `stored` with that commit.
//! 2. Any other body becomes an object, including one without a declared length and one whose content turns out to
//!    exceed `ledger_part_bytes`. `ingest::object_writer` commits a row in state `receiving`; only then are bytes
//!    written, in chunks from at most two buffers (`resources::part_buffers`), by a task that outlives the handler.
//! 3. When the store has acknowledged the whole object, the row becomes `stored`, with size and CRC-64.
//! 4. If anything fails, the row becomes `garbage`. If the process dies, the row stays `receiving`, and becomes garbage
//!    when its Upload ends. `maintenance::sweep` deletes the object, then the row.
//!
//! # How an Upload is completed
//!
//! 1. If an `md5` was sent, it is compared before anything is locked. Parts that `ingest::md5_chain` does not cover are
//!    read back: those after the first Part that arrived out of order or overlapped another, and all of them if the
//!    project's previous completion had no `md5`. JSON lines are checked likewise, if that is configured.
//! 2. `operations::completion` locks the Upload's row (`db::uploads::lock`) and checks that the listed Parts are stored
//!    and add up to the declared size. A list of more than 1,000 Parts is read and checked before the lock instead:
//!    stored Parts of a pending Upload do not change.
//! 3. One statement (`db::files::complete_upload`) inserts the File, whose row holds the manifest (the ids of the Parts
//!    and their offsets), ends the Upload, records whether the project uses `md5`, and marks up to `discard_batch`
//!    other Parts, stored or being received, as garbage. A row of `unfinished_discard` queues the rest for the sweep.
//!    No bytes move.
//!
//! # The ledger
//!
//! Postgres is the source of truth; the store holds bytes under names that only the ledger records. The tables are
//! `store`, `project`, `api_key`, `upload`, `part`, `file`, `unfinished_discard`, `url_secret`, `used_url` and
//! `usage_counter`, `idempotency_key`, `audit_event`; the rules between them are checks and triggers in `migrations/`, and
//! `tests/it/sql/` tests each of them.
//!
//! - A row of `part` either belongs to an object in the store, or has the Part's bytes in `content`; the row alone
//!   decides, not the current settings. An object's row is `receiving` (committed before the first byte), `stored`
//!   (once the store has the whole object durably) or `garbage` (with the time from which it may be deleted), and is
//!   deleted after the object. A row with its bytes is `stored` from the start.
//! - An Upload is `pending`, then exactly one of `completed`, `cancelled`, `expired`.
//! - A File has the id of its Upload with another prefix, so an Upload cannot have two.
//! - `POST /v1/files` creates an internal Upload, so all bytes take the same write path.
//!
//! # Invariants
//!
//! **Invariant: no object without its row, no stored row without its bytes**, which are in one place: an object, or the
//! row. A file and its directory are synced before the row is `stored`.
//!
//! **Invariant: a ledger and a store are used only with each other.** Both hold the same identity
//! (`maintenance/store_link.rs`); otherwise the service does not start, rejects writes, and deletes nothing.
//!
//! **Invariant: no transaction and no pooled connection is held** while a body is read, or an object is read, written
//! or deleted.
//!
//! **Invariant: an Upload ends once.** Parts are inserted and marked as stored under a share lock of its row, and it is
//! ended under an exclusive one; the schema rejects anything else, even manual changes.
//!
//! **Invariant: completion moves no bytes**, and writes no row of a listed Part.
//!
//! **Invariant: a commit in progress is never cancelled.** Operations run on the service's runtime: a client that
//! disconnects cancels the handler but not the operation, and a shutdown waits for it.
//!
//! **Invariant: memory is bounded.** Bytes are copied once, into at most two buffers per body (those of a body that
//! turns out to be too large for the ledger once more). A body reserves memory for them as its bytes arrive
//! (`resources/memory_budget.rs`); if none is free, it waits for a limited time, and is then rejected. Whole buffers are
//! written to a disk directly, bypassing the page cache. Unread responses have a separate budget: a reader of a bucket
//! holds one chunk, and more while memory is available (`store/read_ahead.rs`), a list one batch
//! (`operations/lists.rs`).
//!
//! **Invariant: no project starves another.** The memory for bodies, the transactions and the capacity for reading back
//! are never all used by one project; waiting requests are served in rotation by project
//! (`resources/memory_budget.rs`, `resources/fair_queue.rs`).
//!
//! **Invariant: an unknown outcome is determined, not guessed.** A commit whose outcome is reported to a client is
//! idempotent, and is retried until the ledger returns its outcome or the timeout has passed (`retry.rs`).
//!
//! **Invariant: no project exceeds its quotas.** The statement or transaction that reserves space for an Upload checks
//! them under a lock of the project's row; triggers count whatever changes an Upload or a File (`db/quotas.rs`).
//!
//! **Invariant: an idempotency key creates once.** The response to a request with a key is recorded in the transaction
//! that creates its object (`ingest/once.rs`), so there are both or neither, and one of concurrent requests wins.
//!
//! **Invariant: nothing is answered that is not recorded.** If there is an audit trail, the events of a request are
//! committed before its response is sent, including the first byte of a download (`operations/audit.rs`).
//!
//! **Invariant: expiry is decided by the database's clock.** Statements compare with `now()`, so replicas agree, and an
//! Upload past its lifetime is expired for all of them at once, swept or not.
//!
//! **Invariant: the sweep is stateless.** Every pass depends only on the ledger ([`Service::sweep`]), and any number of
//! processes may sweep at the same time.

pub mod db;
mod error;
pub mod failpoints;
mod ingest;
mod maintenance;
pub mod model;
mod operations;
mod read;
mod resources;
mod retry;
mod service;
mod spans;
mod spawn;
pub mod store;

pub use self::db::quotas::ProjectUsage;
pub use self::error::{Error, NotReady, Result, StoreMismatch};
pub use self::ingest::once::{Once, Outcome};
pub use self::ingest::part_ingest::PartIngest;
pub use self::maintenance::fsck::{Finding, FsckOptions, FsckReport};
pub use self::maintenance::store_link::{Sample, StoreLink};
pub use self::maintenance::sweep::SweepReport;
pub use self::operations::audit::{AuditExport, Moment};
pub use self::operations::file_upload::FileUpload;
pub use self::operations::jsonl_check::JsonlValidation;
pub use self::operations::keys::{FirstKey, Keys};
pub use self::operations::lists::{Batch, List, ListItem};
pub use self::operations::signed_urls::{NewUrl, UploadUrl, rotate_url_secret};
pub use self::read::content_stream::{ByteRange, ContentStream};
pub use self::resources::disk_space::Volume;
pub use self::resources::request_memory::BodyMemory;
pub use self::resources::task_status::TaskStatus;
pub use self::service::Service;
pub use self::spans::TARGET as SPANS;
pub use self::store::FileSlice;
