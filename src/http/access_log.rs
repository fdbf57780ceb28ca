//! The access log: one line and one set of metrics per request, recorded when its response has been sent or aborted.
//! Also adds the headers that identify a response, and converts a panic in a handler to a 500 response.
//!
//! The ids of the objects that a request refers to are fields of its span, so every line logged for it has them,
//! including those of the engine (docs/logging.md).

use std::cell::{Cell, OnceCell};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, ResponseError as _};
use bytes::Bytes;
use futures_util::FutureExt as _;
use pin_project_lite::pin_project;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;
use windlass_types::Shown;

use super::cors::Cors;
use super::error::ApiError;
use super::rates::Meter;
use super::request_metrics::{InFlight, Operation};
use super::signed_urls;
use crate::telemetry::traces;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VERSION: HeaderName = HeaderName::from_static("openai-version");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// A byte counter of a request.
#[derive(Debug, Clone, Default)]
pub struct ByteCounter(Rc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    bytes: Cell<u64>,
    meter: OnceCell<Meter>,
}

impl ByteCounter {
    /// Adds to the counter, saturating.
    pub fn add(&self, bytes: u64) {
        self.0.bytes.set(self.get().saturating_add(bytes));
        if let Some(meter) = self.0.meter.get() {
            meter.take(bytes);
        }
    }

    fn get(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Takes the bytes that are added from now on from the rate of a key.
    pub fn set_meter(&self, meter: Meter) {
        self.0.meter.set(meter).ok();
    }
}

/// Counts the bytes of the request body that the handler has read. An extension of the request.
#[derive(Debug, Clone, Default)]
pub struct BytesIn(pub ByteCounter);

/// Counts the bytes of the response body, including those that bypass actix. An extension of the request.
#[derive(Debug, Clone, Default)]
pub struct BytesOut(pub ByteCounter);

/// The id of a request, as in its response. An extension of the request.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Start time and id of a request, for its log line and its response headers.
pub struct RequestRecord {
    began: Instant,
    id: String,
}

impl RequestRecord {
    /// Creates the record of a request that arrived at `began`, with a new id.
    pub fn new(began: Instant) -> Self {
        Self { began, id: format!("req_{}", Uuid::now_v7().simple()) }
    }

    /// As [`Self::new`], with the id that a client or a gateway has given to the request, if it can be one.
    fn of(began: Instant, headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|it| it.to_str().ok()).filter(|it| is_request_id(it));
        given.map_or_else(|| Self::new(began), |id| Self { began, id: id.to_owned() })
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Logs a request that was rejected without the response of a handler.
    pub fn log_rejected(&self, status: StatusCode) {
        tracing::info!(id = self.id, status = status.as_u16(), "request rejected");
    }

    /// Adds the headers that SDKs expose to their users (contract section 4).
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
        headers.insert(PROCESSING_MS, self.duration_ms().into());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            headers.insert(REQUEST_ID, id);
        }
    }
}

/// Whether a text is short and plain enough for logs and headers: 1 to 128 letters, digits, `-`, `_`, `.` and `:`.
fn is_request_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
}

/// Middleware that adds the headers of every response, and logs the request when the response body is dropped.
///
/// # Errors
/// Those of the handlers, and [`ApiError::internal`] when a handler panicked.
pub async fn record<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Recorded<B>>, Error> {
    let record = RequestRecord::of(Instant::now(), request.headers());
    let cors = Cors::of(&request);
    let is_head = request.method() == Method::HEAD;
    let path = signed_urls::without_token(request.path());
    let (method, path) = (Shown(request.method().as_str()), Shown(&path));
    // At the highest level, so that the lines of every level have its fields.
    let span = tracing::error_span!(
        "request", id = record.id, %method, %path, route = Empty, project.id = Empty, key.id = Empty,
        upload.id = Empty, part.id = Empty, file.id = Empty, trace_id = Empty
    );
    traces::join(&span, request.headers());
    let bytes_in = request.extensions().get::<BytesIn>().cloned().unwrap_or_default();
    let bytes_out = BytesOut::default();
    request.extensions_mut().insert(bytes_out.clone());
    request.extensions_mut().insert(RequestId(record.id.clone()));
    let operation = Operation::new(request.method(), None);
    let mut line = Line {
        record,
        operation: Some(operation),
        span: span.clone(),
        status: None,
        bytes_in,
        bytes_out,
        is_sent: false,
        _in_flight: InFlight::begin(),
    };
    // Wrapped in an async block so that a panic in `call` itself is caught, too.
    let handled = AssertUnwindSafe(async { next.call(request).await }).catch_unwind().instrument(span).await;
    let mark = |record: &RequestRecord, headers: &mut HeaderMap| {
        record.mark(headers);
        if let Some(cors) = &cors {
            cors.write(headers);
        }
    };
    let Ok(handled) = handled else {
        let mut response = ApiError::internal().error_response();
        mark(&line.record, response.headers_mut());
        (line.status, line.is_sent) = (Some(response.status()), true);
        return Err(InternalError::from_response(ApiError::internal(), response).into());
    };
    let mut response = handled?;
    if let Some(route) = response.request().match_pattern() {
        line.operation = Some(Operation::new(response.request().method(), Some(&route)));
        line.span.record("route", route);
    }
    mark(&line.record, response.headers_mut());
    line.status = Some(response.status());
    Ok(response.map_body(|_, inner| {
        line.is_sent = is_head || matches!(inner.size(), BodySize::None | BodySize::Sized(0));
        Recorded { inner, line }
    }))
}

pin_project! {
    /// The body of a recorded response.
    pub struct Recorded<B> {
        #[pin]
        inner: B,
        line: Line,
    }
}

impl<B: MessageBody> MessageBody for Recorded<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.inner.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        let this = self.project();
        let _entered = this.line.span.clone().entered();
        let declared = this.inner.size();
        let next = this.inner.poll_next(cx);
        match &next {
            Poll::Ready(Some(Ok(bytes))) => {
                let out = &this.line.bytes_out.0;
                out.add(bytes.len() as u64);
                this.line.is_sent |= matches!(declared, BodySize::Sized(size) if out.get() >= size);
            }
            Poll::Ready(None) => this.line.is_sent = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        next
    }
}

/// Log line and metrics of a request, written on drop.
struct Line {
    record: RequestRecord,
    /// `None` only while it is dropped.
    operation: Option<Operation>,
    span: Span,
    /// `None` if the client disconnected before there was a response.
    status: Option<StatusCode>,
    bytes_in: BytesIn,
    bytes_out: BytesOut,
    /// Whether the whole body was produced. If not, the connection was closed early.
    is_sent: bool,
    _in_flight: InFlight,
}

impl Drop for Line {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let duration_ms = self.record.duration_ms();
        let (bytes_in, bytes_out) = (self.bytes_in.0.get(), self.bytes_out.0.get());
        if let Some(operation) = self.operation.take() {
            let sent = self.status.as_ref().filter(|_| self.is_sent);
            operation.record(
                sent.map_or("aborted", StatusCode::as_str),
                self.record.began.elapsed(),
                bytes_in,
                bytes_out,
            );
        }
        if let Some(status) = self.status {
            traces::respond(&self.span, status);
        }
        match self.status.map(|it| it.as_u16()) {
            Some(status) if self.is_sent => {
                tracing::info!(status, bytes_in, bytes_out, duration_ms, "request completed");
            }
            Some(status) => tracing::info!(status, bytes_in, bytes_out, duration_ms, "response aborted"),
            None => tracing::info!(bytes_in, bytes_out, duration_ms, "request aborted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN};
    use actix_web::middleware::from_fn;
    use actix_web::{App, HttpResponse, test, web};

    use super::*;
    use crate::http::CorsOrigins;

    async fn panics() -> HttpResponse {
        panic!("on purpose")
    }

    #[actix_web::test]
    async fn a_handler_that_panics_is_answered_with_500_and_the_next_request_is_served() {
        let app = App::new()
            .wrap(from_fn(record))
            .app_data(web::Data::new(CorsOrigins::Any))
            .route("/panics", web::get().to(panics))
            .route("/works", web::get().to(async || "works"));
        let app = test::init_service(app).await;
        for (path, expected) in [("/panics", 500), ("/works", 200), ("/panics", 500)] {
            let request =
                test::TestRequest::get().uri(path).insert_header((ORIGIN, "https://app.example.com")).to_request();
            let response = test::try_call_service(&app, request).await;
            let response =
                response.map_or_else(|error| error.error_response(), |it| it.into_parts().1.map_into_boxed_body());
            let (status, headers) = (response.status(), response.headers());
            assert_eq!(status, expected, "{path}");
            assert!(headers.contains_key(REQUEST_ID), "{path}");
            assert!(headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{path}: web pages can read it");
        }
    }
}
