//! The metrics: their recorder, their descriptions, and their text for Prometheus. docs/metrics.md lists them, and the
//! grammar of their names.

use std::sync::OnceLock;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Upper bounds of the buckets of durations, in seconds.
const DURATIONS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Counters without labels. They are exported from the start, so that their first increase is visible.
const COUNTERS: &[(&str, &str)] = &[
    (super::LINES_DROPPED, "Log lines dropped because standard error could not be written or the queue was full."),
    (super::SPANS_DROPPED, "Spans of traces dropped because the collector did not take them or the queue was full."),
    ("windlass_uploads_expired_total", "Uploads that this process expired."),
    ("windlass_files_expired_total", "Files that this process expired."),
    ("windlass_objects_deleted_total", "Objects that this process deleted."),
    ("windlass_object_deletions_failed_total", "Failed attempts of this process to delete an object."),
    ("windlass_audit_events_lost_total", "Events that this process could not add to the audit trail."),
    ("windlass_postgres_restarts_total", "Restarts of the embedded PostgreSQL after an unexpected exit."),
];

/// Counters with labels.
const LABELED_COUNTERS: &[(&str, &str)] = &[
    ("windlass_http_requests_total", "Requests by method, route and status (aborted: the client disconnected)."),
    ("windlass_refusals_total", "Requests that were answered with an error, by reason."),
    ("windlass_http_request_body_bytes_total", "Bytes of request bodies that were read."),
    ("windlass_http_response_body_bytes_total", "Bytes of response bodies that were sent."),
    ("windlass_store_operations_total", "Operations on objects of the store, by outcome."),
    (
        "windlass_objects_unreadable_total",
        "Failed reads of Files: an object was missing or damaged, or the store failed.",
    ),
    ("windlass_sweep_steps_failed_total", "Steps of this process's sweeps that failed, by step."),
    ("windlass_background_passes_total", "Passes of the background tasks, by task and outcome."),
    ("windlass_connections_cut_total", "Client connections closed because they exceeded a limit, by reason."),
];

/// Gauges of what is in progress. They are exported from the start, as 0.
const IN_PROGRESS: &[(&str, &str)] = &[
    ("windlass_http_requests_in_flight", "Requests that have begun, and whose response has not been sent."),
    ("windlass_parts_in_flight", "Parts that are being received."),
    ("windlass_reads_in_flight", "Files and Parts that are being read, mostly by downloads."),
    ("windlass_connections", "Open client connections."),
    ("windlass_bodies_waiting", "Request bodies waiting for memory."),
    (
        "windlass_turns_waiting",
        "Requests queued for their project's share of transactions, long lists of parts, or reads of stored bytes.",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    ("windlass_body_memory_bytes", "Memory for request bodies: used, and the limit."),
    ("windlass_database_connections", "Connections of each pool: open, idle, and awaited by a request."),
    ("windlass_disk_available_bytes", "Free bytes on the disk of the store's directory or of the data directory."),
    (
        "windlass_ledger_bytes",
        "Bytes in the ledger: of files (ready), of pending uploads (reserved), of garbage (deleting).",
    ),
    ("windlass_sweep_items_due", "Items that the sweep is due to process; at most 100,000 of each are counted."),
    ("windlass_oldest_garbage_age_seconds", "Time since the oldest garbage was discarded; 0 if there is none."),
    ("windlass_postgres_up", "1 if the embedded PostgreSQL accepts connections, else 0."),
    ("windlass_ready", "1 if the last probe could use the database and the store, else 0."),
    (
        "windlass_objects_refusing_deletion",
        "Objects due for deletion that could not be deleted yet, as of the last sweep; at most 100,000 are counted.",
    ),
    (
        "windlass_background_last_success_timestamp_seconds",
        "Unix time of the last successful pass of each background task.",
    ),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("windlass_http_request_duration_seconds", "Time from the head of a request to the end of its response."),
    ("windlass_store_operation_duration_seconds", "Duration of an operation on objects of the store."),
    ("windlass_database_checkout_duration_seconds", "Time until a connection to the database was available."),
];

/// Installs the recorder.
///
/// # Errors
/// When a recorder is already installed.
pub(super) fn install() -> Result<(), BuildError> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), DURATIONS)?;
    let handle = builder.install_recorder()?;
    RECORDER.get_or_init(|| handle);
    for (name, help) in COUNTERS {
        describe_counter!(*name, *help);
        counter!(*name).absolute(0);
    }
    for reason in ["missing", "damaged", "store"] {
        counter!("windlass_objects_unreadable_total", "reason" => reason).absolute(0);
    }
    for (name, help) in IN_PROGRESS {
        describe_gauge!(*name, *help);
        gauge!(*name).increment(0);
    }
    for (name, help) in LABELED_COUNTERS {
        describe_counter!(*name, *help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(*name, *help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(*name, *help);
    }
    Ok(())
}

/// Renders the metrics in Prometheus's text format; empty if no recorder is installed.
pub fn render() -> String {
    RECORDER.get().map(PrometheusHandle::render).unwrap_or_default()
}
