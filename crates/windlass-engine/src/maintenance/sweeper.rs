//! The background task that sweeps: periodically, but sooner while work is left or disk space is low.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use windlass_types::ErrorChain;

use super::background::BackgroundTask;
use crate::service::Service;

/// After a full batch, the pause is this many times as long as the ledger was busy with it. The sweep is not urgent, so
/// most of the ledger's time is left to clients.
const PAUSE_FACTOR: u32 = 2;

/// The maximum pause before the next pass while disk space is low.
const LOW_SPACE_PAUSE: Duration = Duration::from_secs(1);

/// The background task that sweeps. The interval varies by up to a quarter, so that processes that were started
/// together do not sweep at the same time.
pub(super) struct Sweeper {
    service: Service,
    interval: Duration,
    /// The pause after the last pass.
    pause: Duration,
}

impl Sweeper {
    pub(super) fn new(service: Service, interval: Duration) -> Self {
        Self { service, interval, pause: Duration::ZERO }
    }
}

impl BackgroundTask for Sweeper {
    const NAME: &'static str = "sweeper";

    async fn pass(&mut self) -> bool {
        self.pause = self.interval.mul_f64(jitter());
        // A separate task, so that a panic ends only this pass.
        let report = match self.service.run_without_timeout(|it| async move { Ok(it.sweep().await) }).await {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the sweep failed and will be retried");
                return false;
            }
        };
        if report.more_to_do {
            tracing::debug!(?report, "swept a batch");
            self.pause = self.pause.min(report.ledger_time * PAUSE_FACTOR);
        } else if !report.is_idle() {
            tracing::info!(?report, "swept");
        }
        report.failed_steps.is_empty()
    }

    async fn pause(&self) {
        if self.service.is_short_of_space() {
            sleep(self.pause.min(LOW_SPACE_PAUSE)).await;
        } else {
            timeout(self.pause, self.service.becomes_short_of_space()).await.ok();
        }
    }
}

/// A random factor from 0.75 to 1.25. The last byte of a version 7 UUID is random (RFC 9562, section 5.7).
pub(super) fn jitter() -> f64 {
    let random = uuid::Uuid::now_v7().as_bytes()[15];
    0.75 + f64::from(random) / 510.0
}
