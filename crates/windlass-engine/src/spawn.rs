//! Spawns tasks and blocking work in the caller's span, so that their log lines have the fields of the request.

use tokio::task::{self, JoinHandle};
use tracing::{Instrument as _, Span};

/// Spawns a task on the current runtime.
pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task.in_current_span())
}

/// Runs work on a thread that may block.
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let span = Span::current();
    task::spawn_blocking(move || span.in_scope(work))
}
