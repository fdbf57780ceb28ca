//! Traces for OpenTelemetry, sent to a collector with OTLP over HTTP. They are off unless an endpoint is set: then there
//! is no layer, and no span of the engine is created.
//!
//! **Invariant: a collector that is slow or down delays nothing.** Spans that it does not take are dropped and counted
//! (`span_queue.rs`); only the exit of the process waits for it, for at most a second.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanExporter as _};
use reqwest::redirect::Policy;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::span_names::{REQUEST, STATUS};
use super::span_queue::SpanQueue;
use crate::config::Traces;

/// The timeout of a request to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Set while traces are on.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client cannot be set up.
    #[error("the client for OTEL_EXPORTER_OTLP_ENDPOINT cannot be set up")]
    Client(#[from] reqwest::Error),
    /// The exporter rejects its configuration.
    #[error("the exporter for OTEL_EXPORTER_OTLP_ENDPOINT cannot be set up")]
    Exporter(#[from] ExporterBuildError),
    /// The thread cannot be spawned.
    #[error("the thread that exports traces cannot be started")]
    Thread(#[from] io::Error),
}

/// Starts the export, and returns the layer that creates the spans.
///
/// # Errors
/// When the client or the thread cannot be set up.
pub(super) fn layer<S>(settings: &Traces) -> Result<impl Layer<S> + use<S>, Error>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    let client = reqwest::Client::builder().timeout(EXPORT_TIMEOUT).redirect(Policy::none()).build()?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.traces())
        .with_headers(settings.headers.reveal())
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).with_attribute(version).build();
    exporter.set_resource(&resource);
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio.get())));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(SpanQueue::start(exporter)?)
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("windlass");
    PROVIDER.get_or_init(|| provider);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    Ok(layer.with_filter(filter_fn(is_exported)))
}

/// Whether these are spans of an operation, or of what it does.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let is_request = metadata.is_span() && metadata.name() == REQUEST && metadata.target().starts_with("windlass::");
    is_request || metadata.target() == windlass_engine::SPANS
}

/// Exports what is queued, for at most `within`.
pub(super) fn flush(within: Duration) {
    if let Some(provider) = PROVIDER.get() {
        provider.shutdown_with_timeout(within).ok();
    }
}

/// Makes the span of a request part of the trace that its headers name, or of a new one, and records the trace's id.
pub fn join(span: &Span, headers: &HeaderMap) {
    if PROVIDER.get().is_none() {
        return;
    }
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Parent::of(headers));
    span.set_parent(parent).ok();
    let context = span.context();
    let context = context.span().span_context().clone();
    if context.is_valid() {
        span.record("trace_id", tracing::field::display(context.trace_id()));
    }
}

/// Records the status of a response in the span of its request.
pub fn respond(span: &Span, status: StatusCode) {
    if PROVIDER.get().is_some() {
        span.set_attribute(STATUS, i64::from(status.as_u16()));
        if status.is_server_error() {
            span.set_attribute("error.type", status.as_str().to_owned());
        }
    }
}

/// The maximum length of `tracestate`, in bytes: what W3C's Trace Context requires to be propagated. A longer one is
/// ignored, since every span has a copy of it.
const TRACESTATE_BYTES: usize = 512;

/// The headers of W3C's Trace Context. Malformed ones are ignored, as it requires.
struct Parent {
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl Parent {
    fn of(headers: &HeaderMap) -> Self {
        let texts = |name| headers.get_all(name).map(|it| it.to_str().ok()).collect::<Option<Vec<_>>>();
        let traceparent = match texts(TRACEPARENT).as_deref() {
            Some([one]) if is_traceparent(one) => Some((*one).to_owned()),
            Some(_) | None => None,
        };
        // A list may be sent in several headers.
        let is_kept = |it: &String| (1..=TRACESTATE_BYTES).contains(&it.len());
        Self { traceparent, tracestate: texts(TRACESTATE).map(|it| it.join(",")).filter(is_kept) }
    }
}

impl Extractor for Parent {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent.as_deref(),
            "tracestate" => self.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// Whether a text is a `traceparent` of version 00, or of a later one that begins in the same way.
fn is_traceparent(text: &str) -> bool {
    let is_hex = |it: &str| it.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    let fields: Vec<_> = text.split('-').collect();
    let [version, trace, parent, flags, more @ ..] = &*fields else { return false };
    let lengths = [version, trace, parent, flags].map(|it| it.len());
    lengths == [2, 32, 16, 2]
        && [version, trace, parent, flags].into_iter().all(|it| is_hex(it))
        && *version != "ff"
        && (*version != "00" || more.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_traceparent_is_taken_over() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(valid));
        assert!(is_traceparent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-has"));
        for malformed in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(malformed), "{malformed}");
        }
    }

    #[test]
    fn several_parents_are_none_and_several_states_are_one_list() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        for (name, value) in [(TRACEPARENT, valid), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")] {
            headers.append(name, value.parse().unwrap());
        }
        let parent = Parent::of(&headers);
        assert_eq!((parent.get("traceparent"), parent.get("tracestate")), (Some(valid), Some("a=1,b=2")));
        headers.append(TRACEPARENT, valid.parse().unwrap());
        assert_eq!(Parent::of(&headers).get("traceparent"), None);
    }
}
