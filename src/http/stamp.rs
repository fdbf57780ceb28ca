//! The headers of every response and the log line of every request. A panic in a handler becomes a 500 response.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError as _};
use futures_util::FutureExt as _;
use tracing::Instrument as _;
use uuid::Uuid;

use super::cors::Cors;
use super::error::ApiError;
use crate::domain::Shown;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VERSION: HeaderName = HeaderName::from_static("openai-version");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Identifies a response: its id, and how long it took.
pub struct Stamp {
    began: Instant,
    id: String,
}

impl Stamp {
    /// The stamp of the response to a request that arrived at `began`.
    pub fn new(began: Instant) -> Self {
        Self { began, id: format!("req_{}", Uuid::now_v7().simple()) }
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Logs the request.
    pub fn log(&self, status: StatusCode) {
        tracing::info!(status = status.as_u16(), duration_ms = self.duration_ms(), "answered");
    }

    /// Adds the headers that SDKs and their users read (contract section 4).
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
        headers.insert(PROCESSING_MS, self.duration_ms().into());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            headers.insert(REQUEST_ID, id);
        }
    }
}

/// Stamps the response to every request, and logs the request.
///
/// # Errors
/// Those of the handlers, and [`ApiError::internal`] if one panicked.
pub async fn stamp<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let stamp = Stamp::new(Instant::now());
    let cors = Cors::of(&request);
    let (method, path) = (Shown(request.method().as_str()), Shown(request.path()));
    let span = tracing::info_span!("request", id = stamp.id, %method, %path);
    async {
        // Wrapped in an async block so that a panic in `call` itself is caught, too.
        let answered = AssertUnwindSafe(async { next.call(request).await }).catch_unwind().await;
        let mark = |status: StatusCode, headers: &mut HeaderMap| {
            stamp.log(status);
            stamp.mark(headers);
            if let Some(cors) = &cors {
                cors.write(headers);
            }
        };
        if let Ok(answer) = answered {
            let mut answer = answer?;
            mark(answer.status(), answer.headers_mut());
            return Ok(answer);
        }
        let mut answer = ApiError::internal().error_response();
        mark(answer.status(), answer.headers_mut());
        Err(InternalError::from_response(ApiError::internal(), answer).into())
    }
    .instrument(span.clone())
    .await
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN};
    use actix_web::middleware::from_fn;
    use actix_web::{App, HttpResponse, test, web};

    use super::*;
    use crate::domain::Origins;

    async fn panics() -> HttpResponse {
        panic!("on purpose")
    }

    #[actix_web::test]
    async fn a_handler_that_panics_is_answered_with_500_and_the_next_request_is_served() {
        let app = App::new()
            .wrap(from_fn(stamp))
            .app_data(web::Data::new(Origins::Any))
            .route("/panics", web::get().to(panics))
            .route("/works", web::get().to(async || "works"));
        let app = test::init_service(app).await;
        for (path, expected) in [("/panics", 500), ("/works", 200), ("/panics", 500)] {
            let request =
                test::TestRequest::get().uri(path).insert_header((ORIGIN, "https://app.example.com")).to_request();
            let answer = test::try_call_service(&app, request).await;
            let answer =
                answer.map_or_else(|error| error.error_response(), |it| it.into_parts().1.map_into_boxed_body());
            let (status, headers) = (answer.status(), answer.headers());
            assert_eq!(status, expected, "{path}");
            assert!(headers.contains_key(REQUEST_ID), "{path}");
            assert!(headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{path}: a page sees it, too");
        }
    }
}
