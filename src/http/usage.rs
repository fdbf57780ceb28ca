//! What the project uses, and its limits.

use actix_web::web::{Data, Json};
use windlass_engine::Service;
use windlass_engine::model::{Quota, QuotaExceeded, Usage};
use windlass_types::{ObjectKind, UsageLimits, UsageObject};

use super::auth::AuthenticatedProject;
use super::error::ApiError;

/// Extension: returns what the project uses, and its limits.
#[utoipa::path(
    get, path = "/usage", tag = "Usage", operation_id = "retrieveUsage",
    extensions(("x-windlass-extension" = json!(true))),
    responses((status = 200, description = "What the project uses.", body = UsageObject))
)]
pub async fn retrieve_usage(
    service: Data<Service>,
    project: AuthenticatedProject,
) -> Result<Json<UsageObject>, ApiError> {
    let Usage { bytes, pending_uploads, files, limits } = service.usage(project.0).await?;
    let limits = UsageLimits { bytes: limits.bytes, pending_uploads: limits.pending_uploads, files: limits.files };
    Ok(Json(UsageObject { object: ObjectKind::Usage, bytes, pending_uploads, files, limits }))
}

/// The parameter that exceeds a quota, if there is one, and the message for the client.
pub fn explain(exceeded: &QuotaExceeded) -> (Option<&'static str>, String) {
    let QuotaExceeded { quota, used, limit } = exceeded;
    let (param, what, remedy) = match quota {
        Quota::Bytes => (Some("bytes"), "bytes of files and pending uploads", "Delete files or cancel uploads"),
        Quota::PendingUploads => (None, "pending uploads", "Complete or cancel some"),
        Quota::Files => (None, "files and pending uploads", "Delete files or cancel uploads"),
    };
    let message =
        format!("This exceeds a quota of the project: {used} of {limit} {what} are in use. {remedy} to free space.");
    (param, message)
}
