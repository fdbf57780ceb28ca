//! The engine's handle: the state that operations share, and the runtime that they run on.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use windlass_types::{ProjectId, ProjectName};

use crate::db::{self, Db, Tx};
use crate::error::{Error, NotReady, Result};
use crate::model::{AuditEvent, KeyHash, KeyRecord, Limits, ProjectRules, UrlSecrets};
use crate::resources::batch_queue::BatchQueue;
use crate::resources::create_queue::CreateQueues;
use crate::resources::disk_space::{DiskSpace, Volume};
use crate::resources::fair_queue::{FairQueue, FairQueues, Permit, Precedence};
use crate::resources::md5_uploads::Md5Uploads;
use crate::resources::memory_budget::MemoryBudget;
use crate::resources::part_buffers::ChunkSize;
use crate::resources::readiness::Readiness;
use crate::resources::request_memory::{BodyMemory, reserve};
use crate::resources::short_cache::ShortCache;
use crate::resources::task_status::TaskStatuses;
use crate::resources::{LISTS_AT_ONCE, MAX_WAITING_BODIES, SMALL_BODY_OVERHEAD};
use crate::retry::Retry;
use crate::store::{BlobStore, ReadAhead};

/// One sixteenth of the memory for bodies is reserved for small ones.
const SMALL_BODY_DIVISOR: u64 = 16;

/// The maximum number of tasks. They include tasks whose clients have disconnected while the ledger or the store does
/// not respond.
const MAX_TASKS: usize = 20_000;

/// The service. Clones are cheap and share all state.
#[derive(Clone)]
pub struct Service {
    pub(crate) db: Db,
    pub(crate) blobs: BlobStore,
    pub(crate) limits: Arc<Limits>,
    /// Runs database and store operations, apart from the threads that serve sockets.
    pub(crate) runtime: Handle,
    /// The tasks running on it.
    pub(crate) tasks: TaskTracker,
    /// The memory for bodies, except small ones.
    pub(crate) memory: MemoryBudget,
    /// The memory for small bodies. It is separate, so that they do not wait behind large ones.
    pub(crate) small_body_memory: MemoryBudget,
    pub(crate) queues: FairQueues,
    /// A permit for each body read as a whole that may wait for memory.
    pub(crate) waiting_bodies: Arc<Semaphore>,
    /// The memory for unread responses: a permit per KiB.
    pub(crate) response_memory: Arc<Semaphore>,
    /// The memory for reading more than one chunk ahead: a permit per KiB.
    pub(crate) read_ahead: ReadAhead,
    /// A permit for each batch of a list that may be in memory.
    pub(crate) list_readers: Arc<Semaphore>,
    pub(crate) key_cache: ShortCache<KeyHash, Arc<KeyRecord>>,
    pub(crate) project_cache: ShortCache<ProjectName, ProjectId>,
    pub(crate) project_rules_cache: ShortCache<ProjectId, Arc<ProjectRules>>,
    pub(crate) url_secret_cache: ShortCache<(), Arc<UrlSecrets>>,
    pub(crate) create_queues: CreateQueues,
    /// Events of the audit trail, by request.
    pub(crate) audit_queue: BatchQueue<Vec<AuditEvent>, ()>,
    pub(crate) md5_uploads: Md5Uploads,
    pub(crate) readiness: Readiness,
    pub(crate) space: DiskSpace,
    pub(crate) task_statuses: TaskStatuses,
}

impl Service {
    /// Creates a service whose database and store operations run on `runtime`. The store must belong to the ledger, see
    /// [`Self::verify_or_link_store`].
    pub fn new(db: Db, blobs: BlobStore, limits: Limits, runtime: Handle) -> Self {
        let (small, wait) = (limits.bodies_bytes() / SMALL_BODY_DIVISOR, limits.queue_timeout);
        let claim = ChunkSize::of(&blobs).claim();
        let memory = MemoryBudget::new(limits.bodies_bytes() - small, claim, wait);
        let small_claim = limits.ledger_part_bytes.get() + SMALL_BODY_OVERHEAD;
        let small_body_memory = MemoryBudget::new(small, small_claim, wait);
        let kib_permits = |bytes: u64| {
            let kib = usize::try_from(bytes / 1024).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)))
        };
        let [response_memory, read_ahead] = [limits.response_bytes(), limits.read_ahead_bytes()].map(kib_permits);
        let space = DiskSpace::watch(Vec::new(), &runtime);
        Self {
            queues: FairQueues::new(&db),
            db,
            blobs,
            limits: Arc::new(limits),
            runtime,
            space,
            tasks: TaskTracker::new(),
            memory,
            small_body_memory,
            waiting_bodies: Arc::new(Semaphore::new(MAX_WAITING_BODIES)),
            response_memory,
            read_ahead,
            list_readers: Arc::new(Semaphore::new(LISTS_AT_ONCE)),
            key_cache: ShortCache::default(),
            project_cache: ShortCache::default(),
            project_rules_cache: ShortCache::default(),
            url_secret_cache: ShortCache::default(),
            create_queues: CreateQueues::default(),
            audit_queue: BatchQueue::default(),
            md5_uploads: Md5Uploads::default(),
            readiness: Readiness::default(),
            task_statuses: TaskStatuses::default(),
        }
    }

    /// Monitors the disks of these directories, and rejects new bytes that would not leave enough free space.
    #[must_use]
    pub fn with_disk_guard(self, volumes: Vec<Volume>) -> Self {
        Self { space: DiskSpace::watch(volumes, &self.runtime), ..self }
    }

    /// Whether a disk is low on space.
    pub fn is_short_of_space(&self) -> bool {
        self.space.is_low()
    }

    /// Waits until a disk is low on space. Cancel-safe.
    pub async fn becomes_short_of_space(&self) {
        self.space.becomes_low().await;
    }

    /// The reasons for which the service is not ready; empty if it is. Those of the ledger and the store are from the
    /// last probe, which ran a few seconds ago.
    pub fn not_ready(&self) -> Vec<NotReady> {
        self.readiness.causes()
    }

    /// From now on, the service is not ready, so that a load balancer sends no more requests. It still answers them.
    pub fn begin_shutdown(&self) {
        self.readiness.stop();
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Runs an operation on the service's runtime, with the database timeout. It runs to its end even if the caller is
    /// cancelled. The sockets of the pool and the store belong to the same runtime.
    ///
    /// # Errors
    /// Those of the operation and of [`Self::run_without_timeout`], or [`db::Error::Silent`] on timeout.
    pub(crate) async fn run<T, F>(&self, operation: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let running = operation(self.clone());
        self.run_without_timeout(|it| async move { it.with_db_timeout(running).await }).await
    }

    /// Like [`Self::run`], for an operation that may take long, such as reading a file, and applies its own timeouts.
    ///
    /// # Errors
    /// Those of the operation, [`Error::Busy`] if too many tasks are running, [`Error::Panicked`], or
    /// [`Error::ShuttingDown`] if the runtime is shutting down.
    pub(crate) async fn run_without_timeout<T, F>(&self, operation: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.tasks.len() >= MAX_TASKS {
            return Err(Error::Busy);
        }
        self.spawn(operation(self.clone())).await.map_err(Error::from).flatten()
    }

    /// Waits for all running tasks, including those whose clients have disconnected. Returns whether they ended within
    /// `patience`.
    pub async fn wait_for_tasks(&self, patience: Duration) -> bool {
        self.tasks.close();
        timeout(patience, self.tasks.wait()).await.is_ok()
    }

    /// Applies the database timeout; returns [`db::Error::Silent`] on expiry.
    pub(crate) async fn with_db_timeout<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T>
    where
        Error: From<E>,
    {
        timeout(self.limits.db_timeout, work).await.map_err(|_| db::Error::Silent)?.map_err(Error::from)
    }

    /// Retries for at most half of the database timeout, so that the timeout of the whole operation fires last.
    pub(crate) fn retries(&self) -> Retry {
        Retry::within(self.limits.db_timeout / 2)
    }

    /// An empty reservation for a body that is read as a whole.
    pub fn body_memory(&self, project: ProjectId) -> BodyMemory {
        let held = self.memory.reservation_for(project);
        BodyMemory::new(held, Arc::clone(&self.waiting_bodies), self.limits.queue_timeout)
    }

    /// Reserves memory for the unread part of a response, but at most the whole budget.
    ///
    /// # Errors
    /// [`Error::BusySending`] if none became available in time.
    pub(crate) async fn reserve_to_send(&self, kib: u64) -> Result<OwnedSemaphorePermit> {
        let kib = u32::try_from(kib.min(self.limits.response_bytes() / 1024)).unwrap_or(u32::MAX);
        reserve(&self.response_memory, kib, self.limits.queue_timeout).await?.ok_or(Error::BusySending)
    }

    /// Like [`Self::reserve_to_send`], without waiting.
    pub(crate) fn try_reserve_to_send(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.response_memory).try_acquire_many_owned(kib).ok()
    }

    /// Waits for a permit of the project, then begins a transaction. The permit must be held until the transaction has
    /// ended; variables bound in this order are dropped in reverse, the transaction first.
    pub(crate) async fn begin(&self, project: ProjectId) -> Result<(Permit, Tx)> {
        let permit = self.turn(&self.queues.transactions, project, Precedence::UnderWay).await?;
        Ok((permit, self.db.begin().await?))
    }

    /// Like [`Self::run`], for single statements: waits for the project's turn before. The future is boxed because it
    /// contains the operation while it waits.
    ///
    /// # Errors
    /// Those of [`Self::run`] and [`Self::turn`].
    pub(crate) fn run_in_turn<T, F>(
        &self,
        project: ProjectId,
        precedence: Precedence,
        operation: impl FnOnce(Self) -> F,
    ) -> Pin<Box<impl Future<Output = Result<T>>>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Box::pin(async move {
            let permit = self.turn(&self.queues.statements, project, precedence).await?;
            let run = |it| {
                let running = operation(it);
                async move {
                    let _permit = permit;
                    running.await
                }
            };
            self.run(run).await
        })
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if the request is new and would wait for longer than it may, or does; [`Error::Busy`] if it
    /// is under way and none became available in time.
    pub(crate) async fn turn(&self, queue: &FairQueue, project: ProjectId, precedence: Precedence) -> Result<Permit> {
        let limits = &self.limits;
        match precedence {
            Precedence::UnderWay => {
                let permit = timeout(limits.queue_timeout, queue.acquire(project, precedence)).await;
                permit.map_err(|_| Error::Busy)
            }
            Precedence::New => {
                self.admit(queue, project, precedence)?;
                let limit = limits.max_queue_wait.min(limits.queue_timeout);
                let permit = timeout(limit, queue.acquire(project, precedence)).await;
                permit.map_err(|_| Error::Overloaded { wait: limit, limit })
            }
        }
    }

    /// Fails if a request that arrives now would wait for longer than a new one may.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(crate) fn admit(&self, queue: &FairQueue, project: ProjectId, precedence: Precedence) -> Result<()> {
        self.refuse_beyond(queue.expected_wait(project, precedence))
    }

    /// Fails if this is longer than a new request may wait.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(crate) fn refuse_beyond(&self, wait: Duration) -> Result<()> {
        let limit = self.limits.max_queue_wait;
        if wait > limit { Err(Error::Overloaded { wait, limit }) } else { Ok(()) }
    }

    /// Spawns a tracked task on the service's runtime, in the caller's span.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn_on(task.in_current_span(), &self.runtime)
    }
}
