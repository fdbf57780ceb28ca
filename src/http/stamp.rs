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

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VERSION: HeaderName = HeaderName::from_static("openai-version");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Adds the headers that SDKs and their users read (contract section 4), and logs the request.
pub async fn stamp<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let began = Instant::now();
    let id = format!("req_{}", Uuid::now_v7().simple());
    let cors = Cors::of(&request);
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.path());
    async {
        // Wrapped in an async block so that a panic in `call` itself is caught, too.
        let answered = AssertUnwindSafe(async { next.call(request).await }).catch_unwind().await;
        let stamp = |status: StatusCode, headers: &mut HeaderMap| {
            let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(status = status.as_u16(), duration_ms, "answered");
            headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
            headers.insert(PROCESSING_MS, duration_ms.into());
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if let Ok(id) = HeaderValue::from_str(&id) {
                headers.insert(REQUEST_ID, id);
            }
            if let Some(cors) = &cors {
                cors.write(headers);
            }
        };
        if let Ok(answer) = answered {
            let mut answer = answer?;
            stamp(answer.status(), answer.headers_mut());
            return Ok(answer);
        }
        let mut answer = ApiError::internal().error_response();
        stamp(answer.status(), answer.headers_mut());
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
