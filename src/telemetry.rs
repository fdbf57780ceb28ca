//! What operators see: logs on standard error, for people or for programs, and metrics for Prometheus.
//! Standard output is for answers.

use std::io;
use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::LogFormat;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Why it does not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is none.
    #[error("what to log cannot be understood")]
    Filter(#[from] ParseError),
    /// There is a recorder already.
    #[error("the metrics cannot be recorded")]
    Metrics(#[from] BuildError),
}

/// Begins to log and to count. `filter` is a level, or levels by module.
///
/// # Errors
/// When the filter cannot be read.
pub fn init(filter: &str, format: LogFormat) -> Result<(), Error> {
    let filter: EnvFilter = filter.parse()?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    let handle = PrometheusBuilder::new().install_recorder()?;
    METRICS.get_or_init(|| handle);
    describe();
    Ok(())
}

/// The metrics in Prometheus' text format; nothing where nobody counts.
pub fn metrics() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}

fn describe() {
    describe_counter!(
        "windlass_objects_unreadable_total",
        "Objects of files that were missing, damaged or not to be read."
    );
    describe_counter!("windlass_uploads_expired_total", "Uploads that this process expired.");
    describe_counter!("windlass_files_expired_total", "Files that this process expired.");
    describe_counter!("windlass_objects_deleted_total", "Objects that this process deleted.");
    describe_counter!(
        "windlass_object_deletions_failed_total",
        "Objects that this process could not delete; each try counts."
    );
    describe_gauge!("windlass_ready", "1 where the database and the store could be used by the last probe, else 0.");
    describe_gauge!(
        "windlass_objects_refusing_deletion",
        "Objects that are to go and could not be deleted so far, by the last sweep."
    );
}
