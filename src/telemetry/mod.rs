//! What operators see: logs on standard error, for people or for programs, and metrics for Prometheus.
//! Standard output is for what a command was asked for.
//!
//! **Invariant: no output stops the service.** Whatever happens to standard error or standard output (nobody reads it, its
//! reader or its terminal has gone, its disk is full), lines are dropped and counted, and nothing waits for them but
//! the end of the process, for a moment.

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

/// The longest that an output is waited for where the process is about to end.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

const LINES_DROPPED: &str = "windlass_log_lines_dropped_total";

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Nothing where the operating system gives no thread: then every line is dropped.
static STDERR: OnceLock<Option<LineQueue>> = OnceLock::new();

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

/// Writes a message to standard error beside the log: a command's remark, or why it failed. Waits until it is
/// written, but not for long.
pub fn say(message: &str) {
    LogLine::push(format!("{message}\n").as_bytes());
    flush();
}

/// Waits until every line so far is on standard error, but not for long: to be called before the process ends.
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

/// Where an event is written to: each is one line, written by one call.
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

/// The metrics in Prometheus' text format; nothing where nobody counts.
pub fn metrics() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}

fn describe() {
    describe_counter!(
        LINES_DROPPED,
        "Log lines that could not be written to standard error, or found no room to wait."
    );
    // Shown from the start, so that its growth can be seen.
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
    describe_gauge!(
        "windlass_disk_available_bytes",
        "Bytes that are left on the disk of the store's directory or of the data directory."
    );
    describe_gauge!("windlass_bodies_waiting", "Request bodies that wait for memory.");
    describe_gauge!(
        "windlass_turns_waiting",
        "Requests that wait for their project's turn at a transaction, a long list of parts or reading stored bytes."
    );
    describe_gauge!("windlass_ready", "1 where the database and the store could be used by the last probe, else 0.");
    describe_gauge!(
        "windlass_objects_refusing_deletion",
        "Objects that are to go and could not be deleted so far, by the last sweep; at most 100,000 are counted."
    );
}
