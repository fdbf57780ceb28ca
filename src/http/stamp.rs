//! What every answer carries, and the one log line of every request.

use std::time::Instant;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::Next;
use tracing::Instrument as _;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VERSION: HeaderName = HeaderName::from_static("openai-version");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Adds the headers that SDKs and their users read (contract section 4), and logs the request.
pub async fn stamp<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let began = Instant::now();
    let id = format!("req_{}", Uuid::now_v7().simple());
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.path());
    async {
        let mut answer = next.call(request).await?;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(status = answer.status().as_u16(), duration_ms, "answered");
        let headers = answer.headers_mut();
        headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
        headers.insert(PROCESSING_MS, duration_ms.into());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        Ok(answer)
    }
    .instrument(span.clone())
    .await
}
