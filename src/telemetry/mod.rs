//! Observability: logs on standard error, as text or JSON, metrics for Prometheus, and traces for OpenTelemetry.
//! Standard output is for the results of commands.
//!
//! **Invariant: a blocked or failing output does not stop the service.** If standard error or standard output cannot be
//! written (a full pipe, a closed pipe or terminal, a full disk), lines are dropped and counted. Only the exit of the
//! process waits for them, for at most a second.

mod line_queue;
pub mod metrics;
mod panics;
mod span_names;
mod span_queue;
pub mod stdout;
pub mod traces;

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::Duration;

use ::metrics::counter;
use metrics_exporter_prometheus::BuildError;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use self::line_queue::{LineQueue, OnDrop};
use crate::config::{LogFormat, Traces};

/// The timeout for flushing an output.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// The timeout for exporting the last spans.
const TRACES_PATIENCE: Duration = Duration::from_secs(1);

const LINES_DROPPED: &str = "windlass_log_lines_dropped_total";

const SPANS_DROPPED: &str = "windlass_trace_spans_dropped_total";

/// actix logs the errors of clients, such as a malformed head or an aborted connection, at the level `error`. A
/// directive in the setting for the same target overrides this one.
const DEFAULT_DIRECTIVES: &str = "actix_http=off";

/// `None` if the background thread could not be spawned: then every line is dropped.
static STDERR: OnceLock<Option<LineQueue>> = OnceLock::new();

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is invalid.
    #[error("the log filter is invalid")]
    Filter(#[from] ParseError),
    /// The metrics recorder could not be installed.
    #[error("the metrics recorder cannot be installed")]
    Metrics(#[from] BuildError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] traces::Error),
}

/// Sets up logging, metrics, the panic hook, and traces if they are on. `filter` is a level, or levels by module.
///
/// # Errors
/// When the filter is invalid, a metrics recorder is already installed, or traces cannot be exported.
pub fn init(filter: &str, format: LogFormat, traces: Option<&Traces>) -> Result<(), Error> {
    let filter: EnvFilter = format!("{DEFAULT_DIRECTIVES},{filter}").parse()?;
    metrics::install()?;
    let traces = traces.map(traces::layer).transpose()?;
    let lines = tracing_subscriber::fmt::layer().with_writer(|| LogLine);
    let logs = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Registry::default().with(logs.with_filter(filter)).with(traces).init();
    panics::install();
    Ok(())
}

/// Writes a message to standard error that is not a log event, such as the notice or the error of a command. Blocks
/// until it is written, for at most a second.
pub fn say(message: &str) {
    LogLine::push(format!("{message}\n").as_bytes());
    flush();
}

/// Ends the traces, and blocks until every line so far is written to standard error, for at most a second each. To be
/// called before the process exits.
pub fn end() {
    traces::flush(TRACES_PATIENCE);
    flush();
}

/// Blocks until every line so far is written to standard error, for at most a second.
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
