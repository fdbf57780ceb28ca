//! The `OpenAPI` document, generated from the handlers and the wire types.

use actix_web::HttpResponse;
use actix_web::web::Json;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::{content, files, uploads};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Windlass",
        description = "OpenAI's Uploads and Files API on your own Postgres and storage. What is not in OpenAI's contract is marked as an extension.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/v1")),
    security(("ApiKeyAuth" = [])),
    tags((name = "Uploads", description = "Large files, in parts."), (name = "Files", description = "The finished files.")),
    paths(
        uploads::create_upload, uploads::list_uploads, uploads::retrieve_upload, uploads::add_upload_part,
        uploads::list_upload_parts, uploads::complete_upload, uploads::cancel_upload,
        files::create_file, files::list_files, files::retrieve_file, files::delete_file, content::download_file,
    ),
)]
struct Document;

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key.")).build();
    document.components.get_or_insert_default().add_security_scheme("ApiKeyAuth", SecurityScheme::Http(bearer));
    document
}

/// Serves the document.
pub async fn serve() -> HttpResponse {
    HttpResponse::Ok().json(Json(document()).into_inner())
}
