//! Schedules housekeeping: periodically, and again at once while there is more to do, or soon while disk space is low.

use std::error::Error;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::service::Service;

/// For so many times as long as a batch kept the ledger busy, it is left to the clients before the next:
/// nobody waits for the sweeper.
const LEISURE: u32 = 2;

/// The longest pause before the next pass while disk space is low.
const SHORT_OF_SPACE: Duration = Duration::from_secs(1);

/// Sweeps until told to stop; the batch in hand is finished first. Several processes started
/// together drift apart, since each waits up to a quarter longer or shorter than asked.
pub async fn run(service: Service, every: Duration, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let mut pause = every.mul_f64(jitter());
        // Runs in its own task, so that a panic ends the pass and not the service.
        match service.run_at_length(|it| async move { Ok(it.sweep().await) }).await {
            Ok(report) if report.more_to_do => {
                tracing::debug!(?report, "swept a batch");
                pause = (report.ledger_time * LEISURE).min(pause);
            }
            Ok(report) if report.is_idle() => {}
            Ok(report) => tracing::info!(?report, "swept"),
            Err(error) => tracing::warn!(error = &error as &dyn Error, "the sweep failed and will be tried again"),
        }
        if service.is_short_of_space() {
            stop.run_until_cancelled(tokio::time::sleep(pause.min(SHORT_OF_SPACE))).await;
        } else {
            let pause = tokio::time::timeout(pause, service.becomes_short_of_space());
            stop.run_until_cancelled(pause).await;
        }
    }
}

/// 0.75 to 1.25, from the random bits of a fresh id.
fn jitter() -> f64 {
    let random = uuid::Uuid::now_v7().as_bytes()[15];
    0.75 + f64::from(random) / 510.0
}
