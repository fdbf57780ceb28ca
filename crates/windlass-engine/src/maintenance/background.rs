//! Drives the background tasks: each repeats its pass until the process stops.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::ledger_reporter::LedgerReporter;
use super::prober::Prober;
use super::sweeper::Sweeper;
use crate::resources::task_status::TaskStatus;
use crate::service::Service;

/// A task that repeats a pass. To add one, implement this and spawn it in [`Service::run_background_tasks`].
pub(super) trait BackgroundTask: Send + 'static {
    /// The name in [`Service::background_tasks`] and in metrics.
    const NAME: &'static str;

    /// Runs a pass, and logs a failure. Returns whether it succeeded.
    fn pass(&mut self) -> impl Future<Output = bool> + Send;

    /// Waits until the next pass is due. Cancel-safe.
    fn pause(&self) -> impl Future<Output = ()> + Send;
}

impl Service {
    /// Runs the sweeper, about every `sweep_interval`, the readiness probes and the reports of the ledger, until `stop`
    /// is cancelled; passes in progress are finished first. If one of the tasks panics, `stop` is cancelled.
    ///
    /// # Errors
    /// When one of the tasks panicked.
    pub async fn run_background_tasks(
        self,
        sweep_interval: Duration,
        stop: CancellationToken,
    ) -> Result<(), JoinError> {
        let sweeper = self.clone().drive(Sweeper::new(self.clone(), sweep_interval), stop.clone());
        let prober = self.clone().drive(Prober::new(self.clone()), stop.clone());
        let reporter = self.clone().drive(LedgerReporter::new(self), stop);
        tokio::try_join!(tokio::spawn(sweeper), tokio::spawn(prober), tokio::spawn(reporter)).map(drop)
    }

    /// The status of each background task that has begun a pass, by name.
    pub fn background_tasks(&self) -> BTreeMap<&'static str, TaskStatus> {
        self.task_statuses.all()
    }

    async fn drive<T: BackgroundTask>(self, mut task: T, stop: CancellationToken) {
        let _stop_guard = stop.clone().drop_guard();
        while !stop.is_cancelled() {
            self.task_statuses.begin(T::NAME);
            let succeeded = task.pass().await;
            self.task_statuses.end(T::NAME, succeeded);
            stop.run_until_cancelled(task.pause()).await;
        }
    }
}
