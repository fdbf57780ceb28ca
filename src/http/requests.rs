//! Every JSON body and id that comes in, read into the domain's types; and the shape of the forms.

use utoipa::ToSchema;

use super::error::ApiError;
use super::json::Fields;
use crate::domain::{
    BadPartOrder, ByteCount, Declaration, FileId, FileLifetime, Md5, PartId, PartOrder, Shown, UploadId,
};

/// `POST /uploads`.
#[derive(Debug, ToSchema)]
#[schema(as = CreateUploadRequest)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are the documented shape; `declaration` reads them one by one")]
pub struct CreateUploadBody {
    /// The file's name: 1 to 512 characters, no control characters; for `batch` and `fine-tune` it ends in `.jsonl`.
    #[schema(min_length = 1, max_length = 512, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    filename: String,
    /// What the file is for.
    purpose: PurposeName,
    /// The size of the whole file in bytes; 0 is an empty file.
    #[schema(minimum = 0)]
    bytes: i64,
    /// The file's MIME type. For `assistants` and `vision` it must be one that the purpose supports.
    #[schema(min_length = 1, max_length = 255, pattern = "^[ -~]*[!-~][ -~]*$")]
    mime_type: String,
    /// When the finished file expires.
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

/// When a file expires.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are the documented shape; `lifetime` reads them one by one")]
pub struct FileExpirationAfter {
    /// The moment from which the seconds count.
    anchor: Anchor,
    /// For how long: one hour to thirty days.
    #[schema(minimum = 3600, maximum = 2_592_000)]
    seconds: i64,
}

impl FileExpirationAfter {
    fn lifetime(mut fields: Fields<'_>) -> Result<FileLifetime, ApiError> {
        let anchor = fields.text("anchor")?;
        let seconds = fields.integer("seconds")?;
        fields.finish()?;
        file_lifetime(&anchor, seconds, ["expires_after.anchor", "expires_after.seconds"])
    }
}

/// Reads an expiry, from JSON or from a form; `params` is how the two are called there.
pub fn file_lifetime(anchor: &str, seconds: i64, params: [&str; 2]) -> Result<FileLifetime, ApiError> {
    if anchor != "created_at" {
        return Err(ApiError::invalid(
            params[0],
            format!("'{}' must be 'created_at', but was '{}'.", params[0], Shown(anchor)),
        ));
    }
    FileLifetime::try_from(seconds).map_err(|error| ApiError::invalid(params[1], format!("'{}': {error}.", params[1])))
}

/// What a File is for.
#[derive(Debug, ToSchema)]
#[schema(as = FilePurpose, rename_all = "snake_case")]
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

/// The moment from which an expiry counts: the creation of the File.
#[derive(Debug, ToSchema)]
#[schema(as = FileExpirationAnchor, rename_all = "snake_case")]
#[expect(dead_code, reason = "only its name is used")]
pub enum Anchor {
    CreatedAt,
}

/// `POST /uploads/{upload_id}/parts`.
#[derive(Debug, ToSchema)]
#[schema(as = AddUploadPartRequest)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documented shape of a form that is read as it comes")]
pub struct AddUploadPartForm {
    /// The bytes of this part: 1 to 67,108,864.
    #[schema(format = Binary, value_type = String, min_length = 1)]
    data: Vec<u8>,
}

/// `POST /files`.
#[derive(Debug, ToSchema)]
#[schema(as = CreateFileRequest)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documented shape of a form that is read as it comes")]
pub struct CreateFileForm {
    /// The file itself, with its name.
    #[schema(format = Binary, value_type = String)]
    file: Vec<u8>,
    /// What the file is for.
    purpose: PurposeName,
    /// When the file expires: the two fields `expires_after[anchor]` and `expires_after[seconds]`.
    #[schema(nullable = false)]
    expires_after: Option<FileExpirationAfter>,
}

/// `POST /uploads/{upload_id}/complete`.
#[derive(Debug, ToSchema)]
#[schema(as = CompleteUploadRequest)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are the documented shape; `parse` reads them one by one")]
pub struct CompleteUploadBody {
    /// The ids of the parts, in the order of the file: up to 10,000, and none for a file of no bytes.
    part_ids: Vec<PartIdText>,
    /// The MD5 of the whole file, in hexadecimal or base64; it is checked before completion. An empty one is ignored.
    #[schema(pattern = "^([0-9A-Fa-f]{32}|[0-9A-Za-z+/]{21}[AQgw]==)?$")]
    md5: Option<String>,
}

/// The id of a Part.
#[derive(Debug, ToSchema)]
#[schema(as = UploadPartId, pattern = "^part_[0-9a-f]{32}$")]
#[expect(dead_code, reason = "only its pattern is used")]
pub struct PartIdText(String);

impl CompleteUploadBody {
    /// Reads in which order the file is made, and what its MD5 should be.
    ///
    /// # Errors
    /// Names the first field that is missing, unknown or cannot be.
    pub fn parse(body: &[u8]) -> Result<(PartOrder, Option<Md5>), ApiError> {
        let mut fields = Fields::parse(body)?;
        let ids = fields.texts("part_ids")?;
        let md5 = fields.optional_text("md5")?.filter(|it| !it.is_empty());
        fields.finish()?;
        let ids = ids
            .iter()
            .map(|id| {
                id.parse::<PartId>().map_err(|error| {
                    ApiError::invalid("part_ids", format!("'{}' is not the id of a part: {error}.", Shown(id)))
                })
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

/// The orders of a list, for the documentation.
#[derive(Debug, ToSchema)]
#[schema(as = ListOrder, rename_all = "snake_case")]
#[expect(dead_code, reason = "only its names are used")]
pub enum OrderName {
    Asc,
    Desc,
}

/// The purposes that the list of Files can be filtered by: those that a client may give, and those of files that only
/// OpenAI's own services create, which do not exist here.
#[derive(Debug, ToSchema)]
#[schema(as = FilePurposeFilter, rename_all = "snake_case")]
#[expect(dead_code, reason = "only its names are used")]
pub enum PurposeFilterName {
    Assistants,
    AssistantsOutput,
    Batch,
    BatchOutput,
    #[schema(rename = "fine-tune")]
    FineTune,
    #[schema(rename = "fine-tune-results")]
    FineTuneResults,
    Vision,
    UserData,
    Evals,
}

/// The id in a path; a malformed one is treated like an unknown one.
pub fn upload_id(text: &str) -> Result<UploadId, ApiError> {
    text.parse().map_err(|_| ApiError::no_such("Upload", "upload_id", text))
}

/// The id in a path; an unreadable one names nothing.
pub fn file_id(text: &str) -> Result<FileId, ApiError> {
    text.parse().map_err(|_| ApiError::no_such("File", "id", text))
}
