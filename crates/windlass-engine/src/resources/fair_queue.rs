//! Fair scheduling of scarce resources, such as the ledger's transactions: permits go to projects in rotation, however
//! many requests each of them has waiting, and no project holds all permits at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;
use tracing::Span;
use windlass_types::ProjectId;

use crate::db::Db;
use crate::spans;

/// The maximum number of concurrent read-backs in total and per project: slow ones do not block other projects.
const READ_BACKS: (usize, usize) = (16, 4);

/// The resources that projects compete for.
#[derive(Clone)]
pub(crate) struct FairQueues {
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
        let transactions = db.transactions_at_once();
        // CPU-bound work leaves half of the processors to other requests.
        let processors = thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        Self {
            transactions: FairQueue::new(transactions, transactions.saturating_sub(1)),
            long_lists: FairQueue::new(processors + 1, processors),
            read_backs: FairQueue::new(READ_BACKS.0, READ_BACKS.1),
            checksums: FairQueue::new(processors + 1, processors),
        }
    }
}

/// A fixed number of permits, and the requests that wait for one. Clones share them.
#[derive(Clone)]
pub(crate) struct FairQueue {
    /// The maximum number of permits of one project.
    per_project: usize,
    state: Arc<Mutex<State>>,
}

struct State {
    free: usize,
    /// The number of permits granted so far.
    granted: u64,
    /// The projects that hold permits or wait for one.
    projects: HashMap<ProjectId, ProjectQueue>,
}

#[derive(Default)]
struct ProjectQueue {
    /// The number of permits that the project holds.
    held: usize,
    /// The value of [`State::granted`] after the project's latest permit.
    last: u64,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// A permit. It is released on drop.
pub(crate) struct Permit {
    queue: FairQueue,
    project: ProjectId,
}

impl FairQueue {
    /// A queue with `count` permits in total, and at most `per_project` for each project; at least one of each.
    pub(crate) fn new(count: usize, per_project: usize) -> Self {
        let state = State { free: count.max(1), granted: 0, projects: HashMap::new() };
        Self { per_project: per_project.max(1), state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a permit. Cancel-safe: a cancelled request leaves the queue.
    pub(crate) async fn acquire(&self, project: ProjectId) -> Permit {
        let (sender, mut permit) = oneshot::channel();
        self.lock().projects.entry(project).or_default().waiting.push_back(sender);
        self.serve();
        if let Ok(permit) = permit.try_recv() {
            return permit;
        }
        let _counted = Counted::begin();
        permit.await.expect("a request stays queued until it is served or cancelled")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants as many permits as possible. A permit for a cancelled request is released at once.
    fn serve(&self) {
        loop {
            let Some((project, sender)) = self.lock().next(self.per_project) else { return };
            sender.send(Permit { queue: self.clone(), project }).ok();
        }
    }
}

impl State {
    /// Removes the next request: that of the project with the fewest permits, and of several such projects, of the one
    /// whose latest permit was granted the longest ago.
    fn next(&mut self, per_project: usize) -> Option<(ProjectId, oneshot::Sender<Permit>)> {
        if self.free == 0 {
            return None;
        }
        self.projects.retain(|_, queue| {
            queue.waiting.retain(|it| !it.is_closed());
            queue.held > 0 || !queue.waiting.is_empty()
        });
        let eligible = self.projects.iter_mut().filter(|(_, it)| it.held < per_project && !it.waiting.is_empty());
        let (project, queue) = eligible.min_by_key(|(_, it)| (it.held, it.last))?;
        let sender = queue.waiting.pop_front()?;
        self.free -= 1;
        self.granted += 1;
        (queue.held, queue.last) = (queue.held + 1, self.granted);
        Some((*project, sender))
    }

    fn release(&mut self, project: ProjectId) {
        self.free += 1;
        if let Some(queue) = self.projects.get_mut(&project) {
            queue.held -= 1;
        }
    }
}

/// Counts a waiting request in the metrics.
struct Counted {
    _span: Span,
}

impl Counted {
    fn begin() -> Self {
        metrics::gauge!("windlass_turns_waiting").increment(1);
        Self { _span: spans::wait("turn") }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("windlass_turns_waiting").decrement(1);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.queue.lock().release(self.project);
        self.queue.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;

    /// Acquires a permit, which must be free.
    fn acquire(queue: &FairQueue, project: ProjectId) -> Permit {
        queue.acquire(project).now_or_never().expect("a permit is free")
    }

    /// Begins to wait for a permit; none may be free.
    fn wait(queue: &FairQueue, project: ProjectId) -> BoxFuture<'static, Permit> {
        let queue = queue.clone();
        let mut waiting = async move { queue.acquire(project).await }.boxed();
        assert!((&mut waiting).now_or_never().is_none(), "no permit is free");
        waiting
    }

    /// The permits granted to waiting requests, with the requests' indexes.
    fn served(requests: &mut [Option<BoxFuture<'static, Permit>>]) -> Vec<(usize, Permit)> {
        let mut served = Vec::new();
        for (index, request) in requests.iter_mut().enumerate() {
            if let Some(permit) = request.as_mut().and_then(FutureExt::now_or_never) {
                *request = None;
                served.push((index, permit));
            }
        }
        served
    }

    #[test]
    fn a_project_with_many_waiting_requests_does_not_delay_another() {
        let (queue, [many, few]) = (FairQueue::new(2, 2), [ProjectId::generate(), ProjectId::generate()]);
        let held = [acquire(&queue, many), acquire(&queue, many)];
        let mut requests: Vec<_> = [many; 20].into_iter().chain([few; 2]).map(|it| Some(wait(&queue, it))).collect();
        let [first, second] = held;
        drop(first);
        let next = served(&mut requests);
        assert_eq!(next.iter().map(|it| it.0).collect::<Vec<_>>(), [20]);
        drop(second);
        let after = served(&mut requests);
        assert_eq!(after.iter().map(|it| it.0).collect::<Vec<_>>(), [0], "each project holds one");
        drop(after);
        let last = served(&mut requests);
        assert_eq!(last.iter().map(|it| it.0).collect::<Vec<_>>(), [1]);
        drop(next);
        assert_eq!(served(&mut requests)[0].0, 21);
    }

    #[test]
    fn one_project_cannot_hold_all_permits() {
        let (queue, [greedy, other]) = (FairQueue::new(3, 2), [ProjectId::generate(), ProjectId::generate()]);
        let held = [acquire(&queue, greedy), acquire(&queue, greedy)];
        let waiting = wait(&queue, greedy);
        let others = acquire(&queue, other);
        drop(held);
        assert!(waiting.now_or_never().is_some());
        drop(others);
    }

    #[test]
    fn cancelled_requests_pass_their_permits_on() {
        let (queue, project) = (FairQueue::new(1, 1), ProjectId::generate());
        let held = acquire(&queue, project);
        let [cancelled, granted, waiting] = std::array::from_fn(|_| wait(&queue, project));
        drop(cancelled);
        drop(held);
        drop(granted);
        drop(waiting.now_or_never().expect("a permit is free"));
        drop(acquire(&queue, project));
        assert!(queue.lock().next(1).is_none());
        assert!(queue.lock().projects.is_empty());
    }
}
