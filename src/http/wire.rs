//! Every JSON body, in and out, and its conversion from and to the domain. What the contract does
//! not have is marked as an extension; SDKs ignore it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::json::Fields;
use crate::domain::{
    BadPartOrder, ByteCount, Declaration, File, FileId, FileLifetime, Md5, Page, Part, PartId, PartOrder, Upload,
    UploadId, UploadStatus,
};

/// `POST /uploads`.
#[derive(Debug, ToSchema)]
#[schema(as = CreateUploadRequest)]
#[expect(dead_code, reason = "the fields are the documented shape; `declaration` reads them one by one")]
pub struct CreateUploadBody {
    /// The name of the file: 1 to 512 characters, no control characters.
    filename: String,
    /// What the file is for.
    #[schema(inline)]
    purpose: PurposeName,
    /// The size of the whole file in bytes; 0 is an empty file.
    #[schema(minimum = 0)]
    bytes: i64,
    /// The file's MIME type. For `assistants` and `vision` it must be one that the purpose supports.
    mime_type: String,
    /// When the finished file goes by itself.
    #[schema(nullable = false)]
    expires_after: Option<FileExpirationAfter>,
}

impl CreateUploadBody {
    /// Reads what a client declares.
    ///
    /// # Errors
    /// Names the first field that is missing, unknown or cannot be.
    pub fn declaration(body: &[u8]) -> Result<Declaration, ApiError> {
        let mut fields = Fields::parse(body)?;
        let filename = fields.text("filename")?;
        let purpose = fields.text("purpose")?;
        let bytes = fields.integer("bytes")?;
        let mime_type = fields.text("mime_type")?;
        let expires_after = fields.optional_object("expires_after")?;
        fields.finish()?;
        Ok(Declaration {
            filename: filename
                .parse()
                .map_err(|e| ApiError::invalid("filename", format!("'filename' cannot be used: {e}.")))?,
            purpose: purpose.parse().map_err(|e| ApiError::invalid("purpose", format!("{e} - 'purpose'")))?,
            bytes: ByteCount::try_from(bytes)
                .map_err(|_| ApiError::invalid("bytes", format!("'bytes' must be 0 or more, but was {bytes}.")))?,
            mime_type: mime_type
                .parse()
                .map_err(|e| ApiError::invalid("mime_type", format!("'mime_type' cannot be used: {e}.")))?,
            file_lifetime: expires_after.map(FileExpirationAfter::lifetime).transpose()?,
        })
    }
}

/// When a file goes by itself.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the fields are the documented shape; `lifetime` reads them one by one")]
pub struct FileExpirationAfter {
    /// From when the seconds count.
    #[schema(inline)]
    anchor: Anchor,
    /// For how long: one hour to thirty days.
    #[schema(minimum = 3600, maximum = 2_592_000)]
    seconds: i64,
}

impl FileExpirationAfter {
    fn lifetime(mut fields: Fields) -> Result<FileLifetime, ApiError> {
        let anchor = fields.text("anchor")?;
        let seconds = fields.integer("seconds")?;
        fields.finish()?;
        file_lifetime(&anchor, seconds, ["expires_after.anchor", "expires_after.seconds"])
    }
}

/// Reads an expiry, from JSON or from a form; `params` is how the two are called there.
pub fn file_lifetime(anchor: &str, seconds: i64, params: [&str; 2]) -> Result<FileLifetime, ApiError> {
    if anchor != "created_at" {
        return Err(ApiError::invalid(params[0], format!("'{}' must be 'created_at', but was '{anchor}'.", params[0])));
    }
    FileLifetime::try_from(seconds).map_err(|error| ApiError::invalid(params[1], format!("'{}': {error}.", params[1])))
}

/// The purposes, for the documentation.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its names are used")]
pub enum PurposeName {
    Assistants,
    Batch,
    #[schema(rename = "fine-tune")]
    FineTune,
    Vision,
    UserData,
    Evals,
}

/// The one anchor there is, for the documentation.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its name is used")]
pub enum Anchor {
    CreatedAt,
}

/// `POST /uploads/{upload_id}/parts`.
#[derive(Debug, ToSchema)]
#[schema(as = AddUploadPartRequest)]
#[expect(dead_code, reason = "the documented shape of a form that is read as it comes")]
pub struct AddUploadPartForm {
    /// The bytes of this part: 1 to 67,108,864.
    #[schema(format = Binary, value_type = String)]
    data: Vec<u8>,
}

/// `POST /files`.
#[derive(Debug, ToSchema)]
#[schema(as = CreateFileRequest)]
#[expect(dead_code, reason = "the documented shape of a form that is read as it comes")]
pub struct CreateFileForm {
    /// The file itself, with its name.
    #[schema(format = Binary, value_type = String)]
    file: Vec<u8>,
    /// What the file is for.
    #[schema(inline)]
    purpose: PurposeName,
    /// When the file goes by itself: the two fields `expires_after[anchor]` and `expires_after[seconds]`.
    #[schema(nullable = false)]
    expires_after: Option<FileExpirationAfter>,
}

/// `POST /uploads/{upload_id}/complete`.
#[derive(Debug, ToSchema)]
#[schema(as = CompleteUploadRequest)]
#[expect(dead_code, reason = "the fields are the documented shape; `parse` reads them one by one")]
pub struct CompleteUploadBody {
    /// The ids of the parts, in the order of the file; none for a file of no bytes.
    part_ids: Vec<String>,
    /// The MD5 of the whole file, as 32 hexadecimal digits or in base64; it is checked before completion.
    #[schema(nullable = false)]
    md5: Option<String>,
}

impl CompleteUploadBody {
    /// Reads in which order the file is made, and what its MD5 should be.
    ///
    /// # Errors
    /// Names the first field that is missing, unknown or cannot be.
    pub fn parse(body: &[u8]) -> Result<(PartOrder, Option<Md5>), ApiError> {
        let mut fields = Fields::parse(body)?;
        let ids = fields.texts("part_ids")?;
        let md5 = fields.optional_text("md5")?;
        fields.finish()?;
        let ids = ids
            .iter()
            .map(|id| {
                id.parse::<PartId>()
                    .map_err(|error| ApiError::invalid("part_ids", format!("'{id}' is not the id of a part: {error}.")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let order = PartOrder::try_from(ids).map_err(|error: BadPartOrder| {
            ApiError::invalid("part_ids", format!("'part_ids' cannot be used: {error}."))
        })?;
        let md5 = md5
            .map(|text| {
                text.parse().map_err(|error| ApiError::invalid("md5", format!("'md5' cannot be used: {error}.")))
            })
            .transpose()?;
        Ok((order, md5))
    }
}

/// An Upload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Upload)]
pub struct UploadBody {
    id: String,
    #[schema(pattern = "^upload$")]
    object: &'static str,
    /// The size that the file will have.
    bytes: u64,
    /// Unix seconds.
    created_at: i64,
    filename: String,
    purpose: &'static str,
    #[schema(value_type = UploadStatusName, inline)]
    status: &'static str,
    /// When it stops taking parts, in Unix seconds.
    expires_at: i64,
    /// Extension: the type it was declared with.
    mime_type: String,
    /// What it became; only when it is completed.
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
    id: String,
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
    id: String,
    purpose: &'static str,
    filename: String,
    bytes: u64,
    /// Unix seconds.
    created_at: i64,
    /// When it goes by itself, in Unix seconds; null if never.
    expires_at: Option<i64>,
    /// Always `processed`: a file is ready as soon as it exists.
    #[schema(deprecated)]
    status: &'static str,
    /// Always null.
    #[schema(deprecated)]
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
#[derive(Debug, Serialize, ToSchema)]
pub struct ListBody<T> {
    #[schema(pattern = "^list$")]
    object: &'static str,
    data: Vec<T>,
    /// The id of the first thing of the page; null if there is none.
    first_id: Option<String>,
    /// The id of the last thing of the page: `after` of the next one.
    last_id: Option<String>,
    /// Whether there are more after the last one.
    has_more: bool,
}

impl<T> ListBody<T> {
    fn new<It: Into<T>>(page: Page<It>, id: impl Fn(&It) -> String) -> Self {
        Self {
            object: "list",
            first_id: page.items.first().map(&id),
            last_id: page.items.last().map(&id),
            has_more: page.has_more,
            data: page.items.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Page<Upload>> for ListBody<UploadBody> {
    fn from(page: Page<Upload>) -> Self {
        Self::new(page, |it| it.id.to_string())
    }
}

impl From<Page<Part>> for ListBody<PartBody> {
    fn from(page: Page<Part>) -> Self {
        Self::new(page, |it| it.id.to_string())
    }
}

impl From<Page<File>> for ListBody<FileBody> {
    fn from(page: Page<File>) -> Self {
        Self::new(page, |it| it.id.to_string())
    }
}

/// What is said of a File that was deleted.
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

/// Every failure.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorResponse)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorDetail {
    /// For a person: what was wrong, and what would be right.
    pub message: String,
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: &'static str,
    /// The part of the request that it is about.
    #[schema(required)]
    pub param: Option<String>,
    /// For a program.
    #[schema(required)]
    pub code: Option<&'static str>,
}

/// The id in a path; an unreadable one names nothing.
pub fn upload_id(text: &str) -> Result<UploadId, ApiError> {
    text.parse().map_err(|_| ApiError::no_such("Upload", "upload_id", text))
}

/// The id in a path; an unreadable one names nothing.
pub fn file_id(text: &str) -> Result<FileId, ApiError> {
    text.parse().map_err(|_| ApiError::no_such("File", "id", text))
}
