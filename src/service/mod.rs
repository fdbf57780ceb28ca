//! The operations of Windlass. The HTTP layer, the sweeper, the command line and the tests call them alike. Only here
//! do transactions begin and end.

mod attempts;
mod budgets;
mod callers;
mod completion;
mod content;
mod creations;
mod disk_space;
mod files;
mod forms;
mod fsck;
mod housekeeping;
mod intake;
mod jsonl;
mod keys;
mod lists;
mod md5_chain;
mod memory_budget;
mod objects;
mod readiness;
mod room;
mod store_link;
mod turns;
mod uploads;
mod wanted;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub use self::budgets::BodyMemory;
use self::callers::Callers;
pub use self::content::{ByteRange, Content};
use self::creations::Creations;
use self::disk_space::DiskSpace;
pub use self::disk_space::Volume;
pub use self::forms::FormIntake;
pub use self::fsck::{Finding, FsckOptions, FsckReport};
pub use self::housekeeping::SweepReport;
pub use self::intake::Intake;
pub use self::jsonl::FormJsonl;
pub use self::keys::{FirstKey, Keys};
pub use self::lists::{Batch, List, Listed};
use self::md5_chain::Chains;
use self::memory_budget::MemoryBudget;
pub use self::readiness::NotReady;
use self::readiness::Readiness;
use self::room::ChunkSize;
pub use self::store_link::{Sample, StoreLink, StoreMismatch};
pub use crate::blobs::Stretch;
use crate::blobs::{self, Blobs, ReadAhead};
use crate::db::{self, Db};
use crate::domain::{
    BadDeclaration, ByteCount, FileId, Limits, Md5, NotJsonl, PartId, PartsDoNotFit, Purpose, UploadId,
};

/// The share of the memory for bodies that is set aside for small ones: one sixteenth.
const SHARE_OF_SMALL: u64 = 16;

/// The maximum number of tasks. They include those whose clients have disconnected, while the ledger or a store does
/// not respond.
const MOST_TASKS: usize = 20_000;

/// The service. Cloning it is cheap and shares everything.
#[derive(Clone)]
pub struct Service {
    db: Db,
    blobs: Blobs,
    limits: Arc<Limits>,
    /// Where database and store work runs, apart from the threads that serve sockets.
    runtime: Handle,
    /// The work in progress on it.
    tasks: TaskTracker,
    /// The memory of bodies in transit.
    memory: MemoryBudget,
    /// That of small bodies, which do not wait behind large ones.
    memory_of_small: MemoryBudget,
    /// What projects take turns at.
    turns: turns::ByKind,
    /// How many more bodies that are read as a whole may wait for memory.
    waiting_bodies: Arc<Semaphore>,
    /// KiB of memory that responses which clients have not read yet may still take.
    sending: Arc<Semaphore>,
    /// The same for reading more than one chunk ahead.
    read_ahead: ReadAhead,
    /// How many batches of lists may still be read at the same time.
    list_readers: Arc<Semaphore>,
    callers: Callers,
    creations: Creations,
    chains: Chains,
    readiness: Readiness,
    space: DiskSpace,
}

/// What can go wrong, without a word about HTTP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The project has no Upload of that id.
    #[error("No such Upload object: {0}")]
    NoSuchUpload(UploadId),
    /// The project has no File of that id.
    #[error("No such File object: {0}")]
    NoSuchFile(FileId),
    /// The place where a page should begin is not in the list.
    #[error("'{0}' is not in this list; 'after' takes the id of the last object of the page before")]
    NoSuchCursor(String),
    /// The Upload was completed or cancelled before.
    #[error("upload '{upload}' is {status}, not pending; create a new upload")]
    NotPending {
        /// Which Upload.
        upload: UploadId,
        /// What it is instead.
        status: &'static str,
    },
    /// The Upload's hour has passed.
    #[error("upload '{0}' has expired; create a new upload before adding parts or completing it")]
    Expired(UploadId),
    /// The declaration does not keep to the limits.
    #[error(transparent)]
    Declaration(#[from] BadDeclaration),
    /// The Upload has as many Parts as it may have.
    #[error("upload '{0}' has {max} parts already, which is the most an upload can have", max = Limits::PARTS_PER_UPLOAD)]
    TooManyParts(UploadId),
    /// The body is larger than a Part may be.
    #[error("a part has at most {0} bytes, but this one is larger; send it as several parts")]
    PartTooLarge(ByteCount),
    /// The body has no bytes.
    #[error("a part has at least one byte, but this one is empty; an empty file is completed without parts")]
    PartEmpty,
    /// The body is larger than a File made in one request may be.
    #[error("a file sent in one request has at most {0} bytes, but this one is larger; use an upload with parts")]
    FileTooLarge(ByteCount),
    /// The body is larger than a File of its purpose made in one request may be.
    #[error(
        "a file for the purpose '{purpose}' sent in one request has at most {limit} bytes, but this one has {bytes}"
    )]
    PurposeTooLarge {
        /// What it is for.
        purpose: Purpose,
        /// What is allowed.
        limit: ByteCount,
        /// What was sent.
        bytes: ByteCount,
    },
    /// The listed Parts do not make the file.
    #[error(transparent)]
    PartsDoNotFit(#[from] PartsDoNotFit),
    /// The Upload is completed, but with another list.
    #[error("upload '{0}' is completed already, with other parts or in another order")]
    CompletedOtherwise(UploadId),
    /// The bytes have another MD5 than the client claims.
    #[error("the bytes of the listed parts have the md5 {actual}, but {claimed} was given")]
    WrongMd5 {
        /// What the client says.
        claimed: Md5,
        /// What it is.
        actual: Md5,
    },
    /// The file sent in one request is not JSON lines, which its purpose requires.
    #[error(transparent)]
    FileNotJsonl(NotJsonl),
    /// The same of the file that the listed Parts make.
    #[error(transparent)]
    PartsNotJsonl(NotJsonl),
    /// The key is unknown or revoked.
    #[error("the API key is not known")]
    UnknownKey,
    /// There is no such project or key to manage.
    #[error("{0}")]
    NoSuchKey(String),
    /// No memory or turn became free in time, or too many tasks are running.
    #[error("the service is overloaded")]
    Busy,
    /// Responses that clients have not read yet take all of the memory set aside for them.
    #[error("the service is sending as many responses as it has memory for")]
    BusySending,
    /// The service was not ready when it was last probed.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The store is not the one that belongs to the ledger.
    #[error(transparent)]
    StoreMismatch(#[from] StoreMismatch),
    /// The ledger failed.
    #[error("the ledger failed")]
    Db(#[from] db::Error),
    /// A disk does not have enough free space.
    #[error("the disk is full")]
    DiskFull,
    /// The store failed.
    #[error("the store failed")]
    Blobs(#[source] blobs::Error),
    /// A stored Part's bytes are not those that were stored.
    #[error("the bytes of {0} are damaged: their number or their checksum is another")]
    Damaged(PartId),
    /// A stored Part's bytes are not where they were stored.
    #[error("the bytes of {0} are missing")]
    Missing(PartId),
    /// A task of ours ended before its work did.
    #[error("the work was interrupted")]
    Interrupted,
    /// A task panicked, which is a bug and is logged. Unfinished work is left as if the process had crashed.
    #[error("the work panicked")]
    Panicked,
}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Self {
        if error.is_panic() { Self::Panicked } else { Self::Interrupted }
    }
}

impl From<blobs::Error> for Error {
    fn from(error: blobs::Error) -> Self {
        if !error.is_disk_full() {
            return Self::Blobs(error);
        }
        tracing::error!(error = &error as &dyn std::error::Error, "the store's disk is full");
        Self::DiskFull
    }
}

/// Everything in this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Service {
    /// Puts a service together. `runtime` will carry its database and store work.
    pub fn new(db: Db, blobs: Blobs, limits: Limits, runtime: Handle) -> Self {
        let (small, wait) = (limits.bodies_bytes() / SHARE_OF_SMALL, limits.buffer_wait);
        let claim = ChunkSize::of(&blobs).claim();
        let memory = MemoryBudget::new(limits.bodies_bytes() - small, claim, wait);
        let claim_of_small = limits.ledger_part_bytes.get() + intake::AROUND_BYTES;
        let memory_of_small = MemoryBudget::new(small, claim_of_small, wait);
        let budget = |bytes: u64| {
            let kib = usize::try_from(bytes / 1024).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)))
        };
        let [sending, read_ahead] = [limits.answers_bytes(), limits.read_ahead_bytes()].map(budget);
        let space = DiskSpace::watch(Vec::new(), &runtime);
        Self {
            turns: turns::ByKind::new(&db),
            db,
            blobs,
            limits: Arc::new(limits),
            runtime,
            space,
            tasks: TaskTracker::new(),
            memory,
            memory_of_small,
            waiting_bodies: Arc::new(Semaphore::new(budgets::MOST_WAITING)),
            sending,
            read_ahead,
            list_readers: Arc::new(Semaphore::new(lists::READ_AT_ONCE)),
            callers: Callers::default(),
            creations: Creations::default(),
            chains: Chains::default(),
            readiness: Readiness::default(),
        }
    }

    /// Makes the service keep some space free on the disks of these directories.
    #[must_use]
    pub fn with_disk_guard(self, volumes: Vec<Volume>) -> Self {
        Self { space: DiskSpace::watch(volumes, &self.runtime), ..self }
    }

    /// Whether a disk is low on space.
    pub fn is_short_of_space(&self) -> bool {
        self.space.is_short()
    }

    /// Waits until a disk is low on space.
    pub async fn becomes_short_of_space(&self) {
        self.space.becomes_short().await;
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Does some of the service's work to its end on its own runtime, even if the caller is cancelled meanwhile.
    /// Sockets of the pool and the store live there, too.
    ///
    /// # Errors
    /// Those of the work, that the ledger does not respond, or [`Error::Interrupted`] when the runtime is shutting
    /// down.
    pub async fn run<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let work = work(self.clone());
        self.run_at_length(|it| async move { it.patiently(work).await }).await
    }

    /// The same for work that may take its time, such as reading a file: it bounds itself.
    ///
    /// # Errors
    /// Those of the work, [`Error::Busy`] when too many tasks are running, [`Error::Panicked`], or
    /// [`Error::Interrupted`] when the runtime is shutting down.
    pub async fn run_at_length<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.tasks.len() >= MOST_TASKS {
            return Err(Error::Busy);
        }
        self.spawn(work(self.clone())).await.map_err(Error::from).flatten()
    }

    /// Waits until nothing is under way any more: what clients that went away or were cut off have
    /// left to be finished or given up. Whether it came to that within `patience`.
    pub async fn settle(&self, patience: Duration) -> bool {
        self.tasks.close();
        timeout(patience, self.tasks.wait()).await.is_ok()
    }

    fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn_on(task, &self.runtime)
    }
}
