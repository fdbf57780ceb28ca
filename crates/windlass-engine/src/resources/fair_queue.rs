//! Fair scheduling of scarce resources, such as the ledger's connections: permits go to projects in rotation, however
//! many requests each of them has waiting, and within a project first to what is under way. A queue also predicts how
//! long a new request would wait, so that it can be refused at once instead.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use windlass_types::ProjectId;

use crate::db::Db;
use crate::resources::in_flight::InFlight;
use crate::resources::recent_average::RecentAverage;
use crate::spans;

/// The maximum number of concurrent read-backs in total and per project: slow ones do not block other projects.
const READ_BACKS: (usize, usize) = (16, 4);

/// Connections for statements that need no turn: authentication and batches of new Uploads.
const SPARE_STATEMENTS: usize = 1;

/// A project leaves one in this many permits for statements to other projects.
const STATEMENTS_PER_SPARE: usize = 8;

/// The resources that projects compete for.
#[derive(Clone)]
pub(crate) struct FairQueues {
    /// Single statements, limited by the connections of their pool.
    pub(crate) statements: FairQueue,
    /// Transactions, limited by the connections of their pool.
    pub(crate) transactions: FairQueue,
    /// Processing long lists of Parts.
    pub(crate) long_lists: FairQueue,
    /// Reading stored Parts back, to verify their MD5 or their lines.
    pub(crate) read_backs: FairQueue,
    /// CPU-bound processing of bytes that were read back.
    pub(crate) checksums: FairQueue,
}

impl FairQueues {
    pub(crate) fn new(db: &Db) -> Self {
        let statements = db.statements_at_once().saturating_sub(SPARE_STATEMENTS);
        let left_to_others = (statements / STATEMENTS_PER_SPARE).max(usize::from(statements > 2));
        let transactions = db.transactions_at_once();
        // CPU-bound work leaves half of the processors to other requests.
        let processors = thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        Self {
            statements: FairQueue::new(statements, statements - left_to_others),
            transactions: FairQueue::new(transactions, transactions.saturating_sub(1)),
            long_lists: FairQueue::new(processors + 1, processors),
            read_backs: FairQueue::new(READ_BACKS.0, READ_BACKS.1),
            checksums: FairQueue::new(processors + 1, processors),
        }
    }
}

/// Whether a request goes before the new requests of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precedence {
    /// It continues or ends what was begun: it goes before new requests.
    UnderWay,
    /// It begins something.
    New,
}

/// A fixed number of permits, and the requests that wait for one. Clones share them.
#[derive(Clone)]
pub(crate) struct FairQueue {
    /// The number of permits.
    count: usize,
    /// The maximum number of permits of one project.
    per_project: usize,
    state: Arc<Mutex<State>>,
}

struct State {
    free: usize,
    /// Twice the number of permits granted so far.
    granted: u64,
    /// When the last one was granted.
    granted_at: Instant,
    /// For how long permits are held.
    held_for: RecentAverage,
    /// The projects that hold permits or wait for one.
    projects: HashMap<ProjectId, ProjectQueue>,
}

#[derive(Default)]
struct ProjectQueue {
    /// The number of permits that the project holds.
    held: usize,
    /// The value of [`State::granted`] after the project's latest permit. For one that has neither held a permit nor
    /// waited for one lately, it is as if its latest permit were the last but one of all.
    last: u64,
    /// The waiting requests, those under way and new ones.
    waiting: [VecDeque<Waiting>; 2],
}

struct Waiting {
    since: Instant,
    permit: oneshot::Sender<Permit>,
}

/// A permit. It is released on drop.
pub(crate) struct Permit {
    queue: FairQueue,
    project: ProjectId,
    since: Instant,
}

impl FairQueue {
    /// A queue with `count` permits in total, and at most `per_project` for each project; at least one of each.
    pub(crate) fn new(count: usize, per_project: usize) -> Self {
        let count = count.max(1);
        let (granted_at, held_for) = (Instant::now(), RecentAverage::default());
        let state = State { free: count, granted: 0, granted_at, held_for, projects: HashMap::new() };
        Self { count, per_project: per_project.clamp(1, count), state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a permit. Cancel-safe: a cancelled request leaves the queue.
    pub(crate) async fn acquire(&self, project: ProjectId, precedence: Precedence) -> Permit {
        let (sender, mut permit) = oneshot::channel();
        let waiting = Waiting { since: Instant::now(), permit: sender };
        self.lock().add(project, precedence, waiting);
        self.serve();
        if let Ok(permit) = permit.try_recv() {
            return permit;
        }
        let (_counted, _span) = (InFlight::begin("windlass_turns_waiting"), spans::wait("turn"));
        permit.await.expect("a request stays queued until it is served or cancelled")
    }

    /// How long a request of the project that arrives now will probably wait. Zero if a permit is free.
    ///
    /// It is the longest of three predictions: from the permits that will be granted before, given how long one is held on
    /// average; from how long the first of the project's waiting requests has waited; and from how long no permit was
    /// granted, while none is free.
    pub(crate) fn expected_wait(&self, project: ProjectId, precedence: Precedence) -> Duration {
        let state = self.lock();
        let own = state.projects.get(&project);
        let ahead = own.map_or(0, |it| it.ahead_of(precedence).count());
        if ahead == 0 && state.free > 0 && own.is_none_or(|it| it.held < self.per_project) {
            return Duration::ZERO;
        }
        // In rotation, each other project gets as many permits first as this one, if that many of its requests wait.
        let others = state.projects.iter().filter(|(id, _)| **id != project);
        let others: usize = others.map(|(_, it)| it.ahead_of(Precedence::New).count().min(ahead + 1)).sum();
        let permits = if others == 0 { self.per_project } else { self.count };
        let permits_before = u32::try_from(ahead + others + 1).unwrap_or(u32::MAX);
        let by_length = state.held_for.get() * permits_before / u32::try_from(permits).unwrap_or(u32::MAX);
        let first = own.and_then(|it| it.ahead_of(precedence).map(|it| it.since).min());
        let stuck = if state.free == 0 { state.granted_at.elapsed() } else { Duration::ZERO };
        by_length.max(first.map_or(Duration::ZERO, |it| it.elapsed())).max(stuck)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants as many permits as possible. A permit for a cancelled request is released at once.
    fn serve(&self) {
        loop {
            let Some((project, sender)) = self.lock().next(self.per_project) else { return };
            sender.send(Permit { queue: self.clone(), project, since: Instant::now() }).ok();
        }
    }
}

impl ProjectQueue {
    /// The waiting requests that a new one would wait for.
    fn ahead_of(&self, precedence: Precedence) -> impl Iterator<Item = &Waiting> {
        self.waiting[..=precedence as usize].iter().flatten().filter(|it| !it.permit.is_closed())
    }

    fn waits_since(&self) -> Option<Instant> {
        self.waiting.iter().flatten().map(|it| it.since).min()
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|it| !it.is_empty())
    }
}

impl State {
    fn add(&mut self, project: ProjectId, precedence: Precedence, waiting: Waiting) {
        let last = self.granted.saturating_sub(1);
        let new = || ProjectQueue { last, ..ProjectQueue::default() };
        let lane = &mut self.projects.entry(project).or_insert_with(new).waiting[precedence as usize];
        // Those of disconnected clients, which would pile up while nothing is granted.
        while lane.front().is_some_and(|it| it.permit.is_closed()) {
            lane.pop_front();
        }
        lane.push_back(waiting);
    }

    /// Removes the next request: that of the project with the fewest permits, of several such projects, of the one whose
    /// latest permit was granted the longest ago, and then of the one that has waited the longest.
    fn next(&mut self, per_project: usize) -> Option<(ProjectId, oneshot::Sender<Permit>)> {
        if self.free == 0 {
            return None;
        }
        self.projects.retain(|_, queue| {
            queue.waiting.iter_mut().for_each(|it| it.retain(|it| !it.permit.is_closed()));
            queue.held > 0 || queue.is_waiting()
        });
        let eligible = self.projects.iter_mut().filter(|(_, it)| it.held < per_project && it.is_waiting());
        let (project, queue) = eligible.min_by_key(|(_, it)| (it.held, it.last, it.waits_since()))?;
        let next = queue.waiting.iter_mut().find_map(VecDeque::pop_front)?;
        self.free -= 1;
        // By two, so that a project that did not wait before has its place between this permit and the previous one.
        self.granted += 2;
        self.granted_at = Instant::now();
        (queue.held, queue.last) = (queue.held + 1, self.granted);
        Some((*project, next.permit))
    }

    fn release(&mut self, project: ProjectId, held_for: Duration) {
        self.free += 1;
        self.held_for.record(held_for);
        if let Some(queue) = self.projects.get_mut(&project) {
            queue.held -= 1;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.queue.lock().release(self.project, self.since.elapsed());
        self.queue.serve();
    }
}

#[cfg(test)]
mod tests;
