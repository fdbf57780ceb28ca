//! Parsing of ids and expiry fields, and the OpenAPI schemas of the multipart forms, which are parsed as streams.

use utoipa::ToSchema;
use windlass_engine::model::UploadSpec;
use windlass_types::{CreateAnyUploadRequest, FileExpirationAfter, FileId, FileLifetime, Purpose, Shown, UploadId};

use super::error::ApiError;

/// Converts a request to the engine's declaration of an Upload.
pub fn spec(request: CreateAnyUploadRequest) -> UploadSpec {
    let CreateAnyUploadRequest { filename, purpose, bytes, mime_type, expires_after } = request;
    UploadSpec { filename, purpose, bytes, mime_type, file_lifetime: expires_after.map(|it| it.seconds) }
}

/// Parses the two expiry fields of a form. `params` are their names, for error messages.
///
/// # Errors
/// 400 when the anchor is unknown or the lifetime is out of bounds.
pub fn file_lifetime(anchor: &str, seconds: i64, params: [&str; 2]) -> Result<FileLifetime, ApiError> {
    if anchor != "created_at" {
        return Err(ApiError::invalid(
            params[0],
            format!("'{}' must be 'created_at', but was '{}'.", params[0], Shown(anchor)),
        ));
    }
    FileLifetime::try_from(seconds).map_err(|error| ApiError::invalid(params[1], format!("'{}': {error}.", params[1])))
}

/// Form of `POST /uploads/{upload_id}/parts`.
#[derive(Debug, ToSchema)]
#[schema(as = AddUploadPartRequest)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct AddUploadPartForm {
    /// Content of the part: 1 to 67,108,864 bytes.
    #[schema(format = Binary, value_type = String, min_length = 1)]
    data: Vec<u8>,
}

/// Form of `POST /files`.
#[derive(Debug, ToSchema)]
#[schema(as = CreateFileRequest)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct CreateFileForm {
    /// Content and name of the file.
    #[schema(format = Binary, value_type = String)]
    file: Vec<u8>,
    /// Purpose of the file.
    purpose: Purpose,
    /// When the file expires, as two fields: `expires_after[anchor]` and `expires_after[seconds]`.
    #[schema(nullable = false)]
    expires_after: Option<FileExpirationAfter>,
}

/// Content of a File, as the schema of downloads.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct FileBytes(Vec<u8>);

/// Parses the id of an Upload in a path.
///
/// # Errors
/// 404 when it is malformed, as for an unknown id.
pub fn upload_id(text: &str) -> Result<UploadId, ApiError> {
    text.parse().map_err(|_| ApiError::no_such("Upload", "upload_id", text))
}

/// Parses the id of a File in a path.
///
/// # Errors
/// 404 when it is malformed, as for an unknown id.
pub fn file_id(text: &str) -> Result<FileId, ApiError> {
    text.parse().map_err(|_| ApiError::no_such("File", "id", text))
}
