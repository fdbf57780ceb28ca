//! Memory that requests reserve as their bytes arrive, shared fairly between projects.
//!
//! A body reserves in steps, and keeps what it has while it waits for more. Two rules prevent deadlock between bodies,
//! and starvation between projects:
//!
//! - A step is granted only if it leaves free all that one body can need (the claim). Otherwise a body gets all that
//!   it can need at once, or waits. So whenever less than a claim is free, some body needs no more to make progress.
//! - No project holds more than its share: at least a quarter of the memory, and one claim, is left for the others.
//!   Memory that is given back goes to the waiting project that holds the least.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Error;
use crate::domain::ProjectId;

/// No memory became free in time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory became free in time")]
pub(super) struct NoMemory;

impl From<NoMemory> for Error {
    fn from(_: NoMemory) -> Self {
        Self::Busy
    }
}

/// A fixed number of bytes that can be reserved. Cloning it is cheap and shares them.
#[derive(Clone)]
pub(super) struct MemoryBudget(Arc<Shared>);

struct Shared {
    /// The most bytes that one request needs before it can give some back.
    claim: u64,
    /// The most bytes that one project holds.
    share: u64,
    /// How long a request waits.
    patience: Duration,
    state: Mutex<State>,
}

struct State {
    free: u64,
    held: HashMap<ProjectId, u64>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
}

struct Waiting {
    project: ProjectId,
    demand: Demand,
    granted: oneshot::Sender<u64>,
}

/// Bytes that a request wants on top of those that it holds.
#[derive(Clone, Copy)]
struct Demand {
    /// What it needs to take some more bytes of its body.
    step: u64,
    /// What it needs to be able to give some back.
    whole: u64,
}

/// Bytes that are reserved until this is dropped.
pub(super) struct Reserved {
    budget: MemoryBudget,
    project: ProjectId,
    bytes: u64,
}

impl MemoryBudget {
    /// `claim` is the most that one request needs before it can give some back.
    pub(super) fn new(bytes: u64, claim: u64, patience: Duration) -> Self {
        let claim = claim.min(bytes);
        let share = (bytes - claim.max(bytes / 4)).max(claim);
        let state = Mutex::new(State { free: bytes, held: HashMap::new(), waiting: Vec::new() });
        Self(Arc::new(Shared { claim, share, patience, state }))
    }

    /// Begins a reservation, of nothing yet.
    pub(super) fn nothing_for(&self, project: ProjectId) -> Reserved {
        Reserved { budget: self.clone(), project, bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held_by(&self, project: ProjectId) -> u64 {
        self.held.get(&project).copied().unwrap_or_default()
    }

    /// How much a project could reserve now.
    fn left_for(&self, project: ProjectId, limits: &Shared) -> u64 {
        self.free.min(limits.share.saturating_sub(self.held_by(project)))
    }

    fn grantable(&self, project: ProjectId, demand: Demand, limits: &Shared) -> Option<u64> {
        let left = self.left_for(project, limits);
        if demand.step + limits.claim <= left {
            Some(demand.step)
        } else {
            (demand.whole <= left).then_some(demand.whole)
        }
    }

    fn take(&mut self, project: ProjectId, bytes: u64) {
        self.free -= bytes;
        *self.held.entry(project).or_default() += bytes;
    }

    fn put_back(&mut self, project: ProjectId, bytes: u64, limits: &Shared) {
        self.free += bytes;
        let held = self.held_by(project) - bytes;
        if held == 0 {
            self.held.remove(&project)
        } else {
            self.held.insert(project, held)
        };
        self.serve(limits);
    }

    /// Grants what can be granted.
    fn serve(&mut self, limits: &Shared) {
        loop {
            let grantable = self.waiting.iter().enumerate().filter_map(|(at, it)| {
                let bytes = self.grantable(it.project, it.demand, limits)?;
                Some((self.held_by(it.project), at, bytes))
            });
            let Some((_, at, bytes)) = grantable.min_by_key(|(held, at, _)| (*held, *at)) else { return };
            let Waiting { project, granted, .. } = self.waiting.remove(at);
            if granted.send(bytes).is_ok() {
                self.take(project, bytes);
            }
        }
    }
}

impl Reserved {
    /// How many bytes are reserved.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows to so many bytes in all if that leaves a claim free. Returns whether it did.
    pub(super) fn try_grow(&mut self, to: u64) -> bool {
        let step = to.saturating_sub(self.bytes);
        let mut state = self.budget.lock();
        let is_free = step + self.budget.0.claim <= state.left_for(self.project, &self.budget.0);
        if is_free {
            state.take(self.project, step);
            self.bytes += step;
        }
        is_free
    }

    /// Grows to `to` bytes in all, or to `whole`, waiting for them if necessary.
    pub(super) async fn grow(&mut self, to: u64, whole: u64) -> Result<(), NoMemory> {
        let demand = Demand { step: to.saturating_sub(self.bytes), whole: whole.max(to).saturating_sub(self.bytes) };
        let granted = {
            let mut state = self.budget.lock();
            if let Some(bytes) = state.grantable(self.project, demand, &self.budget.0) {
                state.take(self.project, bytes);
                self.bytes += bytes;
                return Ok(());
            }
            let (granted, receiver) = oneshot::channel();
            state.waiting.push(Waiting { project: self.project, demand, granted });
            receiver
        };
        let patience = self.budget.0.patience;
        let mut wait = Wait::begin(self, granted);
        if let Ok(Ok(bytes)) = timeout(patience, &mut wait.granted).await {
            wait.reserved.bytes += bytes;
        }
        drop(wait);
        if self.bytes >= to { Ok(()) } else { Err(NoMemory) }
    }

    /// Takes over what another one has reserved in the same budget.
    pub(super) fn absorb(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.budget.0, &other.budget.0) && self.project == other.project);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Whether requests are waiting that could be served with the project's memory.
    pub(super) fn is_wanted(&self) -> bool {
        let state = self.budget.lock();
        !state.waiting.is_empty() && state.left_for(self.project, &self.budget.0) < self.budget.0.claim
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.lock().put_back(self.project, self.bytes, &self.budget.0);
        }
    }
}

/// A waiting request. When it is dropped, what was granted meanwhile is added to its reservation.
struct Wait<'r> {
    reserved: &'r mut Reserved,
    granted: oneshot::Receiver<u64>,
}

impl<'r> Wait<'r> {
    fn begin(reserved: &'r mut Reserved, granted: oneshot::Receiver<u64>) -> Self {
        metrics::gauge!("windlass_bodies_waiting").increment(1);
        Self { reserved, granted }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        metrics::gauge!("windlass_bodies_waiting").decrement(1);
        self.granted.close();
        match self.granted.try_recv() {
            Ok(bytes) => self.reserved.bytes += bytes,
            Err(_) => self.reserved.budget.lock().waiting.retain(|it| !it.granted.is_closed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const CLAIM: u64 = 100;

    fn budget(bytes: u64) -> MemoryBudget {
        MemoryBudget::new(bytes, CLAIM, Duration::from_hours(1))
    }

    /// A reservation of so many bytes, which must be free.
    fn reserve(budget: &MemoryBudget, project: ProjectId, bytes: u64) -> Reserved {
        let mut reserved = budget.nothing_for(project);
        reserved.grow(bytes, bytes).now_or_never().expect("it does not wait").unwrap();
        reserved
    }

    fn is_free(budget: &MemoryBudget, bytes: u64) -> bool {
        budget.lock().free == bytes
    }

    #[tokio::test]
    async fn what_one_project_holds_leaves_memory_for_another() {
        let (budget, [greedy, other]) = (budget(1000), [ProjectId::generate(), ProjectId::generate()]);
        let mut held = Vec::new();
        while let Some(reserved) = {
            let mut next = budget.nothing_for(greedy);
            next.grow(10, CLAIM).now_or_never().map(|it| it.map(|()| next))
        } {
            held.push(reserved.unwrap());
        }
        assert_eq!(budget.lock().held_by(greedy), 750);
        assert_eq!(reserve(&budget, other, 150).bytes(), 150);
        drop(held);
        assert!(is_free(&budget, 1000));
    }

    #[tokio::test]
    async fn steps_leave_a_claim_free_and_whoever_needs_it_gets_all_of_it() {
        let (budget, projects) = (budget(400), [ProjectId::generate(), ProjectId::generate()]);
        let (mut one, mut two) = (budget.nothing_for(projects[0]), budget.nothing_for(projects[1]));
        for step in 1..=9 {
            one.grow(step * 10, CLAIM).await.unwrap();
            two.grow(step * 10, CLAIM).await.unwrap();
        }
        assert_eq!((one.bytes(), two.bytes()), (90, 90));
        let third = reserve(&budget, ProjectId::generate(), 100);
        let mut fourth = budget.nothing_for(ProjectId::generate());
        assert!(!fourth.try_grow(30), "120 are free, of which a claim is kept");
        fourth.grow(30, CLAIM).await.unwrap();
        assert_eq!(fourth.bytes(), CLAIM, "all at once");
        let mut is_served = Box::pin(one.grow(CLAIM, CLAIM));
        assert_eq!((&mut is_served).now_or_never(), Some(Ok(())));
        drop(third);
    }

    #[tokio::test]
    async fn what_is_given_back_goes_to_the_project_that_holds_least() {
        let (budget, [many, few]) = (budget(400), [ProjectId::generate(), ProjectId::generate()]);
        let first = reserve(&budget, many, 100);
        let last = reserve(&budget, ProjectId::generate(), 300);
        let (mut earlier, mut later) = (budget.nothing_for(many), budget.nothing_for(few));
        let mut earlier = Box::pin(earlier.grow(200, 200));
        assert_eq!((&mut earlier).now_or_never(), None);
        let mut later = Box::pin(later.grow(200, 200));
        assert_eq!((&mut later).now_or_never(), None);
        drop(last);
        assert_eq!(later.await, Ok(()));
        assert_eq!((&mut earlier).now_or_never(), None);
        drop(first);
        assert_eq!(earlier.await, Ok(()));
    }

    #[tokio::test]
    async fn whoever_waits_too_long_or_goes_away_leaves_no_trace() {
        let project = ProjectId::generate();
        let budget = MemoryBudget::new(400, CLAIM, Duration::from_millis(1));
        let all = reserve(&budget, project, 300);
        let mut gone = budget.nothing_for(project);
        assert_eq!(gone.grow(10, 10).now_or_never(), None);
        let mut patient = budget.nothing_for(project);
        assert_eq!(patient.grow(10, 10).await, Err(NoMemory));
        assert_eq!(budget.lock().waiting.len(), 0);

        let mut granted = budget.nothing_for(project);
        let mut waiting = Box::pin(granted.grow(10, 10));
        assert_eq!((&mut waiting).now_or_never(), None);
        drop(all);
        drop(waiting);
        assert_eq!(granted.bytes(), 10, "what was granted in that moment is not lost");
        drop((gone, patient, granted));
        assert!(is_free(&budget, 400));
    }

    #[tokio::test]
    async fn bodies_that_grow_side_by_side_all_come_to_their_end() {
        let budget = budget(450);
        let project = ProjectId::generate();
        let bodies = (0..50).map(|_| {
            let mut reserved = budget.nothing_for(project);
            async move {
                for step in 1..=10 {
                    reserved.grow(step * 10, CLAIM).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let all = futures_util::future::join_all(bodies);
        timeout(Duration::from_mins(1), all).await.expect("they do not block each other");
        assert!(is_free(&budget, 450));
    }
}
