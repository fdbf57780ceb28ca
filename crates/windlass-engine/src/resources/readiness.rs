//! Whether the service is ready: the outcome of the last probe of the ledger and the store, and whether it is shutting
//! down.

use tokio::sync::watch;

use crate::error::{NotReady, Result};

/// The outcome of the last probe. Clones share it.
#[derive(Clone)]
pub(crate) struct Readiness(watch::Sender<State>);

#[derive(Default)]
struct State {
    is_stopping: bool,
    failures: Vec<NotReady>,
}

impl Default for Readiness {
    /// Ready: the ledger and the store are verified before the service starts.
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

impl Readiness {
    /// The reasons for which the service is not ready; empty if it is. Those of the ledger and the store are from the
    /// last probe, which ran a few seconds ago.
    pub(crate) fn causes(&self) -> Vec<NotReady> {
        let state = self.0.borrow();
        state.is_stopping.then_some(NotReady::ShuttingDown).into_iter().chain(state.failures.iter().cloned()).collect()
    }

    /// Rejects a write while the store does not belong to the ledger. Other failures are left to the write itself.
    pub(crate) fn check_store(&self) -> Result<()> {
        let state = self.0.borrow();
        let mismatch = state.failures.iter().find_map(|it| match it {
            NotReady::StoreMismatch(it) => Some(it.clone()),
            NotReady::Database | NotReady::Schema | NotReady::Store | NotReady::ShuttingDown => None,
        });
        mismatch.map_or(Ok(()), |it| Err(it.into()))
    }

    /// Records the outcome of a probe, and returns the previous one.
    pub(crate) fn replace(&self, failures: Vec<NotReady>) -> Vec<NotReady> {
        let mut last = failures;
        self.0.send_modify(|it| std::mem::swap(&mut it.failures, &mut last));
        self.publish();
        last
    }

    /// Records that the service is shutting down.
    pub(crate) fn stop(&self) {
        self.0.send_modify(|it| it.is_stopping = true);
        self.publish();
    }

    fn publish(&self) {
        metrics::gauge!("windlass_ready").set(u32::from(self.causes().is_empty()));
    }
}
