//! What the project uses, and its limits.

use actix_web::web::{Data, Json};
use windlass_engine::Service;
use windlass_engine::model::Usage;
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
