//! Every JSON body that goes out, made from the domain's types. What the contract does not have is
//! marked as an extension; SDKs ignore it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::requests::PurposeName;
use crate::domain::{File, FileId, Part, Upload, UploadStatus};

/// An Upload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Upload)]
pub struct UploadBody {
    pub(super) id: String,
    #[schema(pattern = "^upload$")]
    object: &'static str,
    /// The size that the file will have.
    bytes: u64,
    /// Unix seconds.
    created_at: i64,
    filename: String,
    #[schema(value_type = PurposeName)]
    purpose: &'static str,
    #[schema(value_type = UploadStatusName, inline)]
    status: &'static str,
    /// When it stops taking parts, in Unix seconds.
    expires_at: i64,
    /// Extension: the type it was declared with.
    mime_type: String,
    /// The resulting File; only while it is completed and the File exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    file: Option<FileBody>,
}

/// The states of an Upload, for the documentation.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its names are used")]
pub enum UploadStatusName {
    Pending,
    Completed,
    Cancelled,
    Expired,
}

impl From<Upload> for UploadBody {
    fn from(upload: Upload) -> Self {
        let it = upload.declaration;
        Self {
            id: upload.id.to_string(),
            object: "upload",
            bytes: it.bytes.get(),
            created_at: upload.created_at.timestamp(),
            filename: it.filename.as_str().to_owned(),
            purpose: it.purpose.as_str(),
            status: upload.status.as_str(),
            expires_at: upload.expires_at.timestamp(),
            mime_type: it.mime_type.as_str().to_owned(),
            file: match upload.status {
                UploadStatus::Completed(file) => file.map(FileBody::from),
                UploadStatus::Pending | UploadStatus::Cancelled | UploadStatus::Expired => None,
            },
        }
    }
}

/// A Part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UploadPart)]
pub struct PartBody {
    pub(super) id: String,
    #[schema(pattern = "^upload\\.part$")]
    object: &'static str,
    /// Unix seconds.
    created_at: i64,
    upload_id: String,
    /// Extension: its size.
    bytes: u64,
    /// Extension: the CRC-64/NVME of its bytes, 16 hexadecimal digits.
    crc64nvme: String,
}

impl From<Part> for PartBody {
    fn from(part: Part) -> Self {
        Self {
            id: part.id.to_string(),
            object: "upload.part",
            created_at: part.created_at.timestamp(),
            upload_id: part.upload.to_string(),
            bytes: part.bytes.get(),
            crc64nvme: part.crc64.to_string(),
        }
    }
}

/// A File.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAIFile)]
pub struct FileBody {
    #[schema(pattern = "^file$")]
    object: &'static str,
    pub(super) id: String,
    #[schema(value_type = PurposeName)]
    purpose: &'static str,
    filename: String,
    bytes: u64,
    /// Unix seconds.
    created_at: i64,
    /// When it expires, in Unix seconds; null if never.
    #[schema(required)]
    expires_at: Option<i64>,
    /// Always `processed`: a file is ready as soon as it exists.
    #[schema(deprecated)]
    status: &'static str,
    /// Always null.
    #[schema(deprecated, required)]
    status_details: Option<String>,
    /// Extension: the CRC-64/NVME of its bytes, 16 hexadecimal digits.
    crc64nvme: String,
    /// Extension: the MD5 that was given and checked at completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    md5: Option<String>,
}

impl From<File> for FileBody {
    fn from(file: File) -> Self {
        Self {
            object: "file",
            id: file.id.to_string(),
            purpose: file.purpose.as_str(),
            filename: file.filename.as_str().to_owned(),
            bytes: file.bytes.get(),
            created_at: file.created_at.timestamp(),
            expires_at: file.expires_at.as_ref().map(DateTime::<Utc>::timestamp),
            status: "processed",
            status_details: None,
            crc64nvme: file.crc64.to_string(),
            md5: file.md5.map(|it| it.to_string()),
        }
    }
}

/// A page of a list.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the documented shape of what `lists` writes")]
pub struct ListBody<T> {
    #[schema(pattern = "^list$")]
    object: &'static str,
    data: Vec<T>,
    /// The id of the first item of the page; null if there is none.
    #[schema(required)]
    first_id: Option<String>,
    /// The id of the last item of the page: `after` of the next one.
    #[schema(required)]
    last_id: Option<String>,
    /// Whether there are more after the last one.
    has_more: bool,
}

/// The response to the deletion of a File.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeleteFileResponse)]
pub struct DeletedFileBody {
    #[schema(pattern = "^file$")]
    object: &'static str,
    deleted: bool,
    id: String,
}

impl From<FileId> for DeletedFileBody {
    fn from(id: FileId) -> Self {
        Self { object: "file", deleted: true, id: id.to_string() }
    }
}

/// An error response.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorResponse)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorDetail {
    /// For people: what was wrong, and what would be right.
    pub message: String,
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: &'static str,
    /// The part of the request that it is about.
    #[schema(required)]
    pub param: Option<String>,
    /// For programs.
    #[schema(required)]
    pub code: Option<&'static str>,
}

/// The bytes of a File, for the documentation.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct FileBytes(Vec<u8>);
