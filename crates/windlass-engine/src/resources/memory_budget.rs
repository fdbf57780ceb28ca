//! A memory budget from which requests reserve as their bytes arrive, shared fairly between projects.
//!
//! A body reserves memory in steps, and holds what it has while it waits for more. Two rules prevent deadlock between
//! bodies and starvation of projects:
//!
//! - A step is granted only if one claim, the maximum that a body needs to make progress, stays free. Otherwise the
//!   body gets its whole claim at once, or waits. So whenever less than a claim is free, some body holds its whole
//!   claim and makes progress.
//! - No project holds more than its share: a quarter of the memory, but at least one claim, is left for the others.
//!   Released memory goes to the waiting project that holds the least.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Span;
use windlass_types::ProjectId;

use crate::error::Error;
use crate::spans;

/// No memory became free in time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory became free in time")]
pub(crate) struct NoMemory;

impl From<NoMemory> for Error {
    fn from(_: NoMemory) -> Self {
        Self::Busy
    }
}

/// A fixed number of bytes that can be reserved. Clones share them.
#[derive(Clone)]
pub(crate) struct MemoryBudget(Arc<Shared>);

struct Shared {
    /// The maximum number of bytes that one request needs before it can release some.
    claim: u64,
    /// All bytes, free or held.
    bytes: u64,
    /// The maximum number of bytes that one project holds.
    share: u64,
    /// The maximum time that a request waits.
    max_wait: Duration,
    state: Mutex<State>,
}

struct State {
    free: u64,
    held: HashMap<ProjectId, u64>,
    /// In the order of arrival.
    waiting: Vec<Waiting>,
}

struct Waiting {
    project: ProjectId,
    demand: Demand,
    granted: oneshot::Sender<u64>,
}

/// The bytes that a request needs in addition to those that it holds.
#[derive(Clone, Copy)]
struct Demand {
    /// To receive the next bytes of its body.
    step: u64,
    /// To make progress without any further reservation.
    whole: u64,
}

/// Reserved bytes. They are released on drop.
pub(crate) struct MemoryReservation {
    budget: MemoryBudget,
    project: ProjectId,
    bytes: u64,
}

impl MemoryBudget {
    /// A budget of `bytes`. `claim` is the maximum that one request needs before it can release some; a request waits
    /// for at most `max_wait`.
    pub(crate) fn new(bytes: u64, claim: u64, max_wait: Duration) -> Self {
        let claim = claim.min(bytes);
        let share = (bytes - claim.max(bytes / 4)).max(claim);
        let state = Mutex::new(State { free: bytes, held: HashMap::new(), waiting: Vec::new() });
        Self(Arc::new(Shared { claim, bytes, share, max_wait, state }))
    }

    /// An empty reservation of a project.
    pub(crate) fn reservation_for(&self, project: ProjectId) -> MemoryReservation {
        MemoryReservation { budget: self.clone(), project, bytes: 0 }
    }

    /// The number of bytes that are held, and the number of all bytes.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.0.bytes - self.lock().free, self.0.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held_by(&self, project: ProjectId) -> u64 {
        self.held.get(&project).copied().unwrap_or_default()
    }

    /// How many bytes a project could reserve now.
    fn left_for(&self, project: ProjectId, limits: &Shared) -> u64 {
        self.free.min(limits.share.saturating_sub(self.held_by(project)))
    }

    /// How many bytes a demand would be granted now; `None` if it has to wait.
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

    fn release(&mut self, project: ProjectId, bytes: u64, limits: &Shared) {
        self.free += bytes;
        let held = self.held_by(project) - bytes;
        if held == 0 {
            self.held.remove(&project)
        } else {
            self.held.insert(project, held)
        };
        self.serve(limits);
    }

    /// Grants waiting demands as far as possible.
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

impl MemoryReservation {
    /// The number of reserved bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows to `to` bytes in total if that leaves a claim free. Returns whether it did.
    pub(crate) fn try_grow(&mut self, to: u64) -> bool {
        let step = to.saturating_sub(self.bytes);
        let mut state = self.budget.lock();
        let is_free = step + self.budget.0.claim <= state.left_for(self.project, &self.budget.0);
        if is_free {
            state.take(self.project, step);
            self.bytes += step;
        }
        is_free
    }

    /// Grows to `to` bytes in total, or at once to `whole`, and waits for them if necessary. Cancel-safe: bytes granted
    /// to a cancelled call belong to the reservation.
    ///
    /// # Errors
    /// [`NoMemory`] if they did not become free in time.
    pub(crate) async fn grow(&mut self, to: u64, whole: u64) -> Result<(), NoMemory> {
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
        let max_wait = self.budget.0.max_wait;
        let mut wait = Wait::begin(self, granted);
        if let Ok(Ok(bytes)) = timeout(max_wait, &mut wait.granted).await {
            wait.reserved.bytes += bytes;
        }
        drop(wait);
        if self.bytes >= to { Ok(()) } else { Err(NoMemory) }
    }

    /// Takes over the bytes of another reservation of the same project and budget.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.budget.0, &other.budget.0) && self.project == other.project);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Whether requests are waiting, and the project could not reserve another claim: it should then release memory
    /// that it does not need.
    pub(crate) fn is_contended(&self) -> bool {
        let state = self.budget.lock();
        !state.waiting.is_empty() && state.left_for(self.project, &self.budget.0) < self.budget.0.claim
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.lock().release(self.project, self.bytes, &self.budget.0);
        }
    }
}

/// A waiting request. On drop, bytes granted in the meantime are added to its reservation.
struct Wait<'r> {
    reserved: &'r mut MemoryReservation,
    granted: oneshot::Receiver<u64>,
    _span: Span,
}

impl<'r> Wait<'r> {
    fn begin(reserved: &'r mut MemoryReservation, granted: oneshot::Receiver<u64>) -> Self {
        metrics::gauge!("windlass_bodies_waiting").increment(1);
        Self { reserved, granted, _span: spans::wait("memory") }
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

    /// Reserves this many bytes, which must be free.
    fn reserve(budget: &MemoryBudget, project: ProjectId, bytes: u64) -> MemoryReservation {
        let mut reserved = budget.reservation_for(project);
        reserved.grow(bytes, bytes).now_or_never().expect("it does not wait").unwrap();
        reserved
    }

    fn is_free(budget: &MemoryBudget, bytes: u64) -> bool {
        budget.lock().free == bytes
    }

    #[tokio::test]
    async fn one_project_cannot_hold_all_memory() {
        let (budget, [greedy, other]) = (budget(1000), [ProjectId::generate(), ProjectId::generate()]);
        let mut held = Vec::new();
        while let Some(reserved) = {
            let mut next = budget.reservation_for(greedy);
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
    async fn a_step_leaves_one_claim_free_or_grants_the_whole_claim() {
        let (budget, projects) = (budget(400), [ProjectId::generate(), ProjectId::generate()]);
        let (mut one, mut two) = (budget.reservation_for(projects[0]), budget.reservation_for(projects[1]));
        for step in 1..=9 {
            one.grow(step * 10, CLAIM).await.unwrap();
            two.grow(step * 10, CLAIM).await.unwrap();
        }
        assert_eq!((one.bytes(), two.bytes()), (90, 90));
        let third = reserve(&budget, ProjectId::generate(), 100);
        let mut fourth = budget.reservation_for(ProjectId::generate());
        assert!(!fourth.try_grow(30), "120 are free, but a claim must stay free");
        fourth.grow(30, CLAIM).await.unwrap();
        assert_eq!(fourth.bytes(), CLAIM, "the whole claim at once");
        let mut is_served = Box::pin(one.grow(CLAIM, CLAIM));
        assert_eq!((&mut is_served).now_or_never(), Some(Ok(())));
        drop(third);
    }

    #[tokio::test]
    async fn released_memory_goes_to_the_project_that_holds_the_least() {
        let (budget, [many, few]) = (budget(400), [ProjectId::generate(), ProjectId::generate()]);
        let first = reserve(&budget, many, 100);
        let last = reserve(&budget, ProjectId::generate(), 300);
        let (mut earlier, mut later) = (budget.reservation_for(many), budget.reservation_for(few));
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
    async fn timed_out_and_cancelled_requests_leave_the_queue() {
        let project = ProjectId::generate();
        let budget = MemoryBudget::new(400, CLAIM, Duration::from_millis(1));
        let all = reserve(&budget, project, 300);
        let mut gone = budget.reservation_for(project);
        assert_eq!(gone.grow(10, 10).now_or_never(), None);
        let mut patient = budget.reservation_for(project);
        assert_eq!(patient.grow(10, 10).await, Err(NoMemory));
        assert_eq!(budget.lock().waiting.len(), 0);

        let mut granted = budget.reservation_for(project);
        let mut waiting = Box::pin(granted.grow(10, 10));
        assert_eq!((&mut waiting).now_or_never(), None);
        drop(all);
        drop(waiting);
        assert_eq!(granted.bytes(), 10, "bytes granted to a cancelled request are kept");
        drop((gone, patient, granted));
        assert!(is_free(&budget, 400));
    }

    #[tokio::test]
    async fn concurrently_growing_bodies_do_not_deadlock() {
        let budget = budget(450);
        let project = ProjectId::generate();
        let bodies = (0..50).map(|_| {
            let mut reserved = budget.reservation_for(project);
            async move {
                for step in 1..=10 {
                    reserved.grow(step * 10, CLAIM).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let all = futures_util::future::join_all(bodies);
        timeout(Duration::from_mins(1), all).await.expect("the bodies deadlocked");
        assert!(is_free(&budget, 450));
    }
}
