//! The background task that reports, as metrics, what the ledger holds and what the sweep still has to do. A scrape
//! reads the gauges only, so that it never waits for the ledger.

use std::time::Duration;

use tokio::time::sleep;
use windlass_types::ErrorChain;

use super::background::BackgroundTask;
use super::sweeper::jitter;
use crate::db::backlog;
use crate::error::Result;
use crate::service::Service;

/// The pause between two reports, on average.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// The maximum number of rows that a statement reads.
const MAX_COUNTED: u32 = 100_000;

/// The maximum number of Parts among which the oldest garbage is looked for, of each kind.
const OLDEST_CANDIDATES: u32 = 1_000;

/// The background task that reports what the ledger holds.
pub(super) struct LedgerReporter {
    service: Service,
}

impl LedgerReporter {
    pub(super) fn new(service: Service) -> Self {
        Self { service }
    }
}

impl BackgroundTask for LedgerReporter {
    const NAME: &'static str = "reporter";

    async fn pass(&mut self) -> bool {
        let report = self.service.run(|it| async move { it.report_ledger().await }).await;
        if let Err(error) = &report {
            tracing::warn!(error = %ErrorChain(error), "the ledger could not be summed up for the metrics");
        }
        report.is_ok()
    }

    fn pause(&self) -> impl Future<Output = ()> + Send {
        sleep(REPORT_INTERVAL.mul_f64(jitter()))
    }
}

impl Service {
    /// Sets the gauges of the ledger. The statements run one after the other, on one connection at a time.
    async fn report_ledger(&self) -> Result<()> {
        let used = backlog::sum_used_bytes(&self.db).await?;
        let pending = backlog::sum_pending(&self.db, MAX_COUNTED).await?;
        let garbage = backlog::sum_garbage(&self.db, MAX_COUNTED).await?;
        let files_due = backlog::count_due_files(&self.db, MAX_COUNTED).await?;
        let age = backlog::find_age_of_oldest_garbage(&self.db, OLDEST_CANDIDATES).await?;
        let ready = (used - pending.bytes).max(0.0);
        for (state, bytes) in [("ready", ready), ("reserved", pending.bytes), ("deleting", garbage.bytes)] {
            metrics::gauge!("windlass_ledger_bytes", "state" => state).set(bytes);
        }
        for (item, due) in [("uploads", pending.due), ("files", files_due), ("parts", garbage.due)] {
            metrics::gauge!("windlass_sweep_items_due", "item" => item).set(due);
        }
        metrics::gauge!("windlass_oldest_garbage_age_seconds").set(age.unwrap_or_default().max(0.0));
        Ok(())
    }
}
