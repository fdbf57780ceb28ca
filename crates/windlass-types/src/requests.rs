//! JSON bodies of requests.

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{AnyPurpose, ByteCount, FileLifetime, Filename, Md5, MimeType, PartOrder, Purpose};

/// Body of `POST /uploads`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUploadRequest {
    /// Name of the file: 1 to 512 characters, no control characters; for `batch` and `fine-tune`, it ends in `.jsonl`.
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, min_length = 1, max_length = 512, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")
    )]
    pub filename: Filename,
    /// Purpose of the file.
    pub purpose: Purpose,
    /// Size of the whole file, in bytes; 0 for an empty file.
    #[cfg_attr(feature = "schema", schema(value_type = i64, minimum = 0))]
    pub bytes: ByteCount,
    /// MIME type of the file. For `assistants` and `vision` it must be one that the purpose supports.
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, min_length = 1, max_length = 255, pattern = "^[ -~]*[!-~][ -~]*$")
    )]
    pub mime_type: MimeType,
    /// When the resulting File expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<FileExpirationAfter>,
}

/// Body of `POST /uploads` with a service key, which may also create Files of output purposes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateAnyUploadRequest {
    /// Name of the file.
    pub filename: Filename,
    /// Purpose of the file.
    pub purpose: AnyPurpose,
    /// Size of the whole file, in bytes.
    pub bytes: ByteCount,
    /// MIME type of the file.
    pub mime_type: MimeType,
    /// When the resulting File expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<FileExpirationAfter>,
}

impl From<CreateUploadRequest> for CreateAnyUploadRequest {
    fn from(request: CreateUploadRequest) -> Self {
        let CreateUploadRequest { filename, purpose, bytes, mime_type, expires_after } = request;
        Self { filename, purpose: purpose.into(), bytes, mime_type, expires_after }
    }
}

/// When a File expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileExpirationAfter {
    /// Start of the lifetime.
    pub anchor: FileExpirationAnchor,
    /// Lifetime in seconds: one hour to thirty days.
    #[cfg_attr(feature = "schema", schema(value_type = i64, minimum = 3600, maximum = 2_592_000))]
    pub seconds: FileLifetime,
}

/// Start of the lifetime of a File.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileExpirationAnchor {
    /// The File's `created_at`.
    CreatedAt,
}

/// Body of `POST /uploads/{upload_id}/complete`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CompleteUploadRequest {
    /// Ids of the parts, in the order of the file: up to 10,000; none for an empty file.
    #[cfg_attr(feature = "schema", schema(schema_with = part_ids_schema))]
    pub part_ids: PartOrder,
    /// MD5 of the whole file, in hexadecimal or base64, verified before completion. An empty string is ignored.
    #[serde(default, deserialize_with = "md5_unless_empty", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, pattern = "^([0-9A-Fa-f]{32}|[0-9A-Za-z+/]{21}[AQgw]==)?$")
    )]
    pub md5: Option<Md5>,
}

fn md5_unless_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Md5>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|it| !it.is_empty());
    text.map(|it| it.parse().map_err(de::Error::custom)).transpose()
}

#[cfg(feature = "schema")]
fn part_ids_schema() -> utoipa::openapi::schema::Array {
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
    let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^part_[0-9a-f]{32}$"));
    let description = "Ids of the parts, in the order of the file: up to 10,000; none for an empty file.";
    ArrayBuilder::new().items(id).unique_items(true).description(Some(description)).build()
}
