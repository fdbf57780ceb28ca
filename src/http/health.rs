//! Liveness and readiness probes, and metrics.

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::web::Data;
use serde::Serialize;
use windlass_engine::{NotReady, Service};

use super::engine_error::STORE_MISMATCH;
use super::error::RETRY_AFTER_SECONDS;
use crate::telemetry;

/// The body of a probe's response.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// Why the service is not ready; empty if it is.
    causes: Vec<Cause>,
}

/// A reason for which the service is not ready. Details that only operators may see are in the log.
#[derive(Serialize)]
struct Cause {
    code: &'static str,
    message: &'static str,
}

impl From<NotReady> for Cause {
    fn from(cause: NotReady) -> Self {
        let (code, message) = match cause {
            NotReady::Database => ("database_unavailable", "The server's database is unavailable."),
            NotReady::Schema => ("schema_too_new", "The server's database needs a newer version of the server."),
            NotReady::Store => ("store_unavailable", "The server's store is unavailable."),
            NotReady::StoreMismatch(_) => ("store_mismatch", STORE_MISMATCH),
            NotReady::ShuttingDown => ("shutting_down", "The server is shutting down."),
        };
        Self { code, message }
    }
}

/// Liveness: always 200. Independent of the database and the store, so that an outage of either does not make an
/// orchestrator restart every replica.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "live", causes: Vec::new() })
}

/// The metrics of this process, in Prometheus's text format. No label identifies a project, a file or a key.
pub async fn metrics() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(telemetry::metrics::render())
}

/// Readiness: 200 if the last periodic check of the ledger and the store succeeded, otherwise, or during a shutdown,
/// 503 with all causes, so that a load balancer routes requests to other replicas.
pub async fn readyz(service: Data<Service>) -> HttpResponse {
    let causes: Vec<_> = service.not_ready().into_iter().map(Cause::from).collect();
    if causes.is_empty() {
        return HttpResponse::Ok().json(Health { status: "ready", causes });
    }
    let retry_after = (RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    HttpResponse::ServiceUnavailable().insert_header(retry_after).json(Health { status: "not_ready", causes })
}
