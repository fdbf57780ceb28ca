//! Fair scheduling of scarce resources, such as the ledger's transactions: projects take turns in rotation, however
//! many requests each of them has waiting, and no project has all the turns at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Error, Result, Service};
use crate::db::{Db, Tx};
use crate::domain::ProjectId;

/// The maximum number of concurrent read-backs, and of those of one project: a store that is slow for some of them does
/// not block others.
const READ_BACKS: (usize, usize) = (16, 4);

/// What projects take turns at.
#[derive(Clone)]
pub(super) struct ByKind {
    /// Connections for transactions.
    transactions: Turns,
    /// Long lists of Parts.
    pub(super) long_lists: Turns,
    /// Reading stored bytes again.
    pub(super) read_backs: Turns,
    /// Computing checksums of what was read.
    pub(super) checksums: Turns,
}

impl ByKind {
    pub(super) fn new(db: &Db) -> Self {
        let transactions = db.transactions_at_once();
        // CPU-bound work leaves half of the processors to other requests.
        let processors = thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        Self {
            transactions: Turns::new(transactions, transactions.saturating_sub(1)),
            long_lists: Turns::new(processors + 1, processors),
            read_backs: Turns::new(READ_BACKS.0, READ_BACKS.1),
            checksums: Turns::new(processors + 1, processors),
        }
    }
}

impl Service {
    /// Begins a transaction of a project when it is its turn. The turn must be held until the transaction has ended.
    pub(super) async fn begin(&self, project: ProjectId) -> Result<(Tx, Turn)> {
        let turn = self.in_turn(&self.turns.transactions, project).await?;
        Ok((self.db.begin().await?, turn))
    }

    /// Waits for a turn, with a timeout.
    pub(super) async fn in_turn(&self, turns: &Turns, project: ProjectId) -> Result<Turn> {
        timeout(self.limits.buffer_wait, turns.take(project)).await.map_err(|_| Error::Busy)
    }
}

/// A fixed number of turns. Cloning it is cheap and shares them.
#[derive(Clone)]
pub(super) struct Turns {
    /// The most that one project has at a time.
    each: usize,
    state: Arc<Mutex<State>>,
}

struct State {
    free: usize,
    /// How many turns were begun so far.
    begun: u64,
    /// Those that have a turn or wait for one.
    projects: HashMap<ProjectId, Line>,
}

#[derive(Default)]
struct Line {
    running: usize,
    /// When it was last this project's turn.
    last: u64,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A turn, until it is dropped.
pub(super) struct Turn {
    turns: Turns,
    project: ProjectId,
}

impl Turns {
    /// So many at a time, and at most `each` for one project.
    pub(super) fn new(count: usize, each: usize) -> Self {
        let state = State { free: count.max(1), begun: 0, projects: HashMap::new() };
        Self { each: each.max(1), state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a turn.
    pub(super) async fn take(&self, project: ProjectId) -> Turn {
        let (granted, mut turn) = oneshot::channel();
        self.lock().projects.entry(project).or_default().waiting.push_back(granted);
        self.serve();
        if let Ok(turn) = turn.try_recv() {
            return turn;
        }
        let _counted = Counted::begin();
        turn.await.expect("a request stays queued until it is served or cancelled")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the turns that can begin. The turn of a request that was cancelled ends at once.
    fn serve(&self) {
        loop {
            let Some((project, granted)) = self.lock().next(self.each) else { return };
            granted.send(Turn { turns: self.clone(), project }).ok();
        }
    }
}

impl State {
    /// The next request: of the project with the fewest turns, and of these the one whose last turn is longest ago.
    fn next(&mut self, each: usize) -> Option<(ProjectId, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        self.projects.retain(|_, line| {
            line.waiting.retain(|it| !it.is_closed());
            line.running > 0 || !line.waiting.is_empty()
        });
        let may_run = self.projects.iter_mut().filter(|(_, it)| it.running < each && !it.waiting.is_empty());
        let (project, line) = may_run.min_by_key(|(_, it)| (it.running, it.last))?;
        let granted = line.waiting.pop_front()?;
        self.free -= 1;
        self.begun += 1;
        (line.running, line.last) = (line.running + 1, self.begun);
        Some((*project, granted))
    }

    fn end(&mut self, project: ProjectId) {
        self.free += 1;
        if let Some(line) = self.projects.get_mut(&project) {
            line.running -= 1;
        }
    }
}

/// Counts a waiting request in the metrics.
struct Counted;

impl Counted {
    fn begin() -> Self {
        metrics::gauge!("windlass_turns_waiting").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("windlass_turns_waiting").decrement(1);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().end(self.project);
        self.turns.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;

    /// Takes a turn that is free.
    fn take(turns: &Turns, project: ProjectId) -> Turn {
        turns.take(project).now_or_never().expect("a turn is free")
    }

    /// Waits for a turn.
    fn wait(turns: &Turns, project: ProjectId) -> BoxFuture<'static, Turn> {
        let turns = turns.clone();
        let mut waiting = async move { turns.take(project).await }.boxed();
        assert!((&mut waiting).now_or_never().is_none(), "no turn is free");
        waiting
    }

    /// The requests that have their turn now, with their indexes.
    fn served(requests: &mut [Option<BoxFuture<'static, Turn>>]) -> Vec<(usize, Turn)> {
        let mut served = Vec::new();
        for (place, request) in requests.iter_mut().enumerate() {
            if let Some(turn) = request.as_mut().and_then(FutureExt::now_or_never) {
                *request = None;
                served.push((place, turn));
            }
        }
        served
    }

    #[test]
    fn however_many_wait_of_one_project_another_one_comes_next() {
        let (turns, [many, few]) = (Turns::new(2, 2), [ProjectId::generate(), ProjectId::generate()]);
        let running = [take(&turns, many), take(&turns, many)];
        let mut requests: Vec<_> = [many; 20].into_iter().chain([few; 2]).map(|it| Some(wait(&turns, it))).collect();
        let [first, second] = running;
        drop(first);
        let next = served(&mut requests);
        assert_eq!(next.iter().map(|it| it.0).collect::<Vec<_>>(), [20]);
        drop(second);
        let after = served(&mut requests);
        assert_eq!(after.iter().map(|it| it.0).collect::<Vec<_>>(), [0], "each has one");
        drop(after);
        let last = served(&mut requests);
        assert_eq!(last.iter().map(|it| it.0).collect::<Vec<_>>(), [1]);
        drop(next);
        assert_eq!(served(&mut requests)[0].0, 21);
    }

    #[test]
    fn one_project_cannot_have_all_turns() {
        let (turns, [greedy, other]) = (Turns::new(3, 2), [ProjectId::generate(), ProjectId::generate()]);
        let running = [take(&turns, greedy), take(&turns, greedy)];
        let waiting = wait(&turns, greedy);
        let others = take(&turns, other);
        drop(running);
        assert!(waiting.now_or_never().is_some());
        drop(others);
    }

    #[test]
    fn requests_that_go_away_leave_their_turns_to_others() {
        let (turns, project) = (Turns::new(1, 1), ProjectId::generate());
        let running = take(&turns, project);
        let [gone, granted, patient] = std::array::from_fn(|_| wait(&turns, project));
        drop(gone);
        drop(running);
        drop(granted);
        drop(patient.now_or_never().expect("it is its turn"));
        drop(take(&turns, project));
        assert!(turns.lock().next(1).is_none());
        assert!(turns.lock().projects.is_empty());
    }
}
