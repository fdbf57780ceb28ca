//! Probes: is the process alive, and can it do its work.

use actix_web::HttpResponse;
use actix_web::web::Data;

use super::error::ApiError;
use crate::service::Service;
use crate::telemetry;

/// The process answers. It says nothing of what it depends on, so that a database that is away does
/// not get every replica restarted.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// What this process has counted. It names no project, no file and no key.
pub async fn metrics() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(telemetry::metrics())
}

/// Returns 200 if the last probe, a few seconds ago, found the ledger and the store usable; otherwise 503, so that
/// a load balancer routes requests elsewhere.
pub async fn readyz(service: Data<Service>) -> Result<HttpResponse, ApiError> {
    service.check_ready()?;
    Ok(HttpResponse::Ok().content_type("text/plain").body("ok\n"))
}
