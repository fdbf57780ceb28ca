//! The JSON bodies of signed URLs, an extension.

use serde::{Deserialize, Serialize};

use super::{AnyPurpose, ByteCount, FileExpirationAfter, Filename, MimeType, UrlLifetime};

/// Body of `POST /files/{file_id}/signed_url`, which may be empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateDownloadUrlRequest {
    /// Extension: lifetime of the URL in seconds: up to seven days; 15 minutes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<i64>, minimum = 1, maximum = 604_800))]
    pub expires_in: Option<UrlLifetime>,
    /// Extension: whether the URL becomes void with the first download. Requests of `HEAD` do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<bool>,
}

/// Body of `POST /files/signed_url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUploadUrlRequest {
    /// Extension: the method that the URL is for.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^PUT$"))]
    pub method: UploadMethod,
    /// Extension: name of the file that will be created: 1 to 512 characters, no control characters.
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, min_length = 1, max_length = 512, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")
    )]
    pub filename: Filename,
    /// Extension: purpose of the file. Output purposes require a service key.
    #[cfg_attr(feature = "schema", schema(value_type = super::Purpose))]
    pub purpose: AnyPurpose,
    /// Extension: MIME type of the file; `application/octet-stream` by default. The request that sends the file does
    /// not change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, min_length = 1, max_length = 255, pattern = "^[ -~]*[!-~][ -~]*$")
    )]
    pub mime_type: Option<MimeType>,
    /// Extension: maximum size of the file in bytes; by default, the maximum for a file sent in one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<i64>, minimum = 0))]
    pub max_bytes: Option<ByteCount>,
    /// Extension: lifetime of the URL in seconds: up to seven days; 15 minutes by default. An upload that began before
    /// the URL expired is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<i64>, minimum = 1, maximum = 604_800))]
    pub expires_in: Option<UrlLifetime>,
    /// When the file expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<FileExpirationAfter>,
}

/// The method of a URL for an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UploadMethod {
    /// One request with the whole file as its body.
    Put,
}

/// A signed URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SignedUrl))]
pub struct SignedUrlObject {
    /// Always `signed_url`.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^signed_url$"))]
    pub object: super::ObjectKind,
    /// Extension: the URL. Whoever has it can use it, without a key.
    pub url: String,
    /// Extension: the method that the URL is for: `GET` (also `HEAD`) or `PUT`.
    pub method: String,
    /// Extension: when the URL expires, in Unix seconds.
    pub expires_at: i64,
}
