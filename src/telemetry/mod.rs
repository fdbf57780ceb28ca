//! Observability: logs on standard error, as text or JSON, and metrics for Prometheus. Standard output is for the
//! results of commands.
//!
//! **Invariant: no output stops the service.** If standard error or standard output cannot be written (it is not read,
//! its reader or its terminal has gone, its disk is full), lines are dropped and counted. Only the exit of the process
//! waits for them, and only briefly.

mod line_queue;
mod panics;
pub mod stdout;

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use self::line_queue::{LineQueue, OnDrop};
use crate::config::LogFormat;

/// How long to wait for an output before the process exits.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

const LINES_DROPPED: &str = "windlass_log_lines_dropped_total";

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// actix logs what a client did wrong, such as a malformed head or a connection that ends early, as errors. A directive
/// of the setting for the same target overrides this one.
const NOT_OURS: &str = "actix_http=off";

/// `None` if the background thread could not be spawned: then every line is dropped.
static STDERR: OnceLock<Option<LineQueue>> = OnceLock::new();

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is invalid.
    #[error("the log filter is invalid")]
    Filter(#[from] ParseError),
    /// A metrics recorder is already installed.
    #[error("the metrics cannot be recorded")]
    Metrics(#[from] BuildError),
}

/// Sets up logging and metrics. `filter` is a level, or levels by module.
///
/// # Errors
/// When the filter is invalid, or a metrics recorder is already installed.
pub fn init(filter: &str, format: LogFormat) -> Result<(), Error> {
    let filter: EnvFilter = format!("{NOT_OURS},{filter}").parse()?;
    let handle = PrometheusBuilder::new().install_recorder()?;
    METRICS.get_or_init(|| handle);
    describe();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogLine);
    match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    panics::install();
    Ok(())
}

/// Writes a message to standard error outside of the log, such as a command's notice or the reason why it failed. Waits
/// briefly for it to be written.
pub fn say(message: &str) {
    LogLine::push(format!("{message}\n").as_bytes());
    flush();
}

/// Waits briefly for every line so far to be written to standard error. Call it before the process exits.
pub fn flush() {
    if let Some(queue) = stderr() {
        queue.flush(OUTPUT_PATIENCE);
    }
}

fn stderr() -> Option<&'static LineQueue> {
    let report = |lost| tracing::warn!(lost, "log lines could not be written and were dropped");
    let on_drop = OnDrop { count: count_dropped, report };
    STDERR.get_or_init(|| LineQueue::start("log", io::stderr(), on_drop).ok()).as_ref()
}

fn count_dropped() {
    counter!(LINES_DROPPED).increment(1);
}

/// The writer of log events: each event is one line, written in a single call.
struct LogLine;

impl LogLine {
    fn push(line: &[u8]) {
        match stderr() {
            Some(queue) => queue.push(line),
            None => count_dropped(),
        }
    }
}

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Self::push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Renders the metrics in Prometheus's text format; empty if no recorder is installed.
pub fn metrics() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}

fn describe() {
    describe_counter!(
        LINES_DROPPED,
        "Log lines dropped because standard error could not be written or the queue was full."
    );
    // Exported from the start, so that its first increase is visible.
    counter!(LINES_DROPPED).absolute(0);
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
    describe_counter!("windlass_sweep_steps_failed_total", "Steps of this process's sweeps that failed, by step.");
    describe_counter!(
        "windlass_postgres_restarts_total",
        "How often the embedded PostgreSQL was started again after it had ended by itself."
    );
    describe_counter!(
        "windlass_connections_cut_total",
        "Client connections that were closed because they exceeded a bound, by reason."
    );
    describe_gauge!("windlass_connections", "Open client connections.");
    describe_gauge!(
        "windlass_disk_available_bytes",
        "Bytes that are left on the disk of the store's directory or of the data directory."
    );
    describe_gauge!("windlass_bodies_waiting", "Request bodies waiting for memory.");
    describe_gauge!(
        "windlass_turns_waiting",
        "Requests waiting for their project's turn: for a transaction, a long list of parts, or reading back stored \
         bytes."
    );
    describe_gauge!("windlass_ready", "1 where the database and the store could be used by the last probe, else 0.");
    describe_gauge!(
        "windlass_objects_refusing_deletion",
        "Objects due for deletion that could not be deleted yet, as of the last sweep; at most 100,000 are counted."
    );
}
