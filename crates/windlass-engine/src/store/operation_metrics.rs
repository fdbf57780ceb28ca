//! Metrics and spans of store operations: how many there were, with which outcome, and how long they took.

use std::time::Instant;

use super::Result;
use crate::spans;

/// Runs an operation and records it under a name.
pub(super) async fn recorded<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let began = Instant::now();
    let result = spans::recorded(spans::store(operation), work).await;
    record(operation, began, 1, u64::from(result.is_err()));
    result
}

/// Records an operation on `count` objects that began at this time, and failed for some of them.
pub(super) fn record(operation: &'static str, began: Instant, count: u64, failed: u64) {
    let add = |outcome, count| {
        let labels = [("operation", operation), ("outcome", outcome)];
        metrics::counter!("windlass_store_operations_total", &labels).increment(count);
    };
    add("ok", count.saturating_sub(failed));
    add("failed", failed);
    metrics::histogram!("windlass_store_operation_duration_seconds", "operation" => operation).record(began.elapsed());
}
