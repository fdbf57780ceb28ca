//! A bounded queue of spans for a collector that may be slow or down. Ending a span never blocks: a thread exports the
//! queued spans in batches, and a span that does not fit into the queue or cannot be exported is dropped and counted.

use std::fmt;
use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::counter;
use opentelemetry::Context;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use windlass_types::ErrorChain;

use super::SPANS_DROPPED;
use super::span_names::translated;

/// The maximum number of queued spans, and of those in one request to the collector.
const QUEUED: usize = 4096;
const BATCH: usize = 512;

/// How long a batch that is not full waits for more spans.
const LINGER: Duration = Duration::from_secs(1);

/// A bounded queue of spans, exported by a background thread.
pub(super) struct SpanQueue {
    spans: mpsc::Sender<SpanData>,
    stopping: CancellationToken,
    /// Closed once the thread has exported everything.
    ended: Mutex<Receiver<()>>,
}

impl SpanQueue {
    /// Starts the thread that exports.
    ///
    /// # Errors
    /// When the thread cannot be spawned.
    pub fn start(exporter: impl SpanExporter + 'static) -> io::Result<Self> {
        let (spans, queued) = mpsc::channel(QUEUED);
        let (running, ended) = sync_channel(0);
        let stopping = CancellationToken::new();
        let exporting = Exporting { queued, exporter, stopping: stopping.clone(), is_failing: false };
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || run(&runtime, exporting, running);
        thread::Builder::new().name("traces".to_owned()).spawn(work)?;
        Ok(Self { spans, stopping, ended: Mutex::new(ended) })
    }
}

fn run(runtime: &runtime::Runtime, exporting: Exporting<impl SpanExporter>, running: SyncSender<()>) {
    runtime.block_on(exporting.run());
    drop(running);
}

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpanQueue")
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if let Some(span) = translated(span)
            && self.spans.try_send(span).is_err()
        {
            counter!(SPANS_DROPPED).increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// Exports what is queued, for at most `timeout`. No span is accepted from then on.
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.stopping.cancel();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(timeout) {
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Err(OTelSdkError::Timeout(timeout)),
            Ok(()) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

/// The state of the thread.
struct Exporting<E> {
    queued: mpsc::Receiver<SpanData>,
    exporter: E,
    stopping: CancellationToken,
    /// Whether the last export failed: only changes are logged.
    is_failing: bool,
}

impl<E: SpanExporter> Exporting<E> {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.next(&mut batch).await {
            let spans = mem::replace(&mut batch, Vec::with_capacity(BATCH));
            let count = spans.len() as u64;
            let exported = self.exporter.export(spans).await;
            if exported.is_err() {
                counter!(SPANS_DROPPED).increment(count);
            }
            match &exported {
                Err(error) if !self.is_failing => {
                    tracing::warn!(error = %ErrorChain(error), "traces cannot be exported, and are dropped");
                }
                Ok(()) if self.is_failing => tracing::info!("traces are exported again"),
                Err(_) | Ok(()) => {}
            }
            self.is_failing = exported.is_err();
        }
    }

    /// Collects the next batch. Returns false once the queue is closed and empty.
    async fn next(&mut self, batch: &mut Vec<SpanData>) -> bool {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => self.queued.close(),
            _ = self.queued.recv_many(batch, BATCH) => {}
        }
        if batch.is_empty() {
            return self.queued.recv_many(batch, BATCH).await > 0;
        }
        if batch.len() < BATCH {
            self.stopping.run_until_cancelled(sleep(LINGER)).await;
        }
        while batch.len() < BATCH
            && let Ok(span) = self.queued.try_recv()
        {
            batch.push(span);
        }
        true
    }
}
