//! The objects in responses. Fields that are not in the contract are marked as extensions; SDKs ignore them.

use serde::{Deserialize, Serialize};

#[cfg(feature = "schema")]
use super::Purpose;
use super::{AnyPurpose, ByteCount, Crc64, FileId, Md5, PartId, Sha256, Sha512, UploadId};

/// Value of the field `object`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectKind {
    /// An [`UploadObject`].
    #[serde(rename = "upload")]
    Upload,
    /// A [`PartObject`].
    #[serde(rename = "upload.part")]
    UploadPart,
    /// A [`FileObject`].
    #[serde(rename = "file")]
    File,
    /// A [`ListObject`].
    #[serde(rename = "list")]
    List,
    /// A [`SignedUrlObject`](super::SignedUrlObject).
    #[serde(rename = "signed_url")]
    SignedUrl,
    /// A [`UsageObject`](super::UsageObject).
    #[serde(rename = "usage")]
    Usage,
}

/// State of an Upload. All but `pending` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UploadStatus {
    /// Parts can be added.
    Pending,
    /// A File was created from it.
    Completed,
    /// A client cancelled it.
    Cancelled,
    /// It was not completed before `expires_at`.
    Expired,
}

/// An Upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Upload))]
pub struct UploadObject {
    /// Id of the Upload.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub id: UploadId,
    /// Always `upload`.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^upload$"))]
    pub object: ObjectKind,
    /// Declared size of the file, in bytes.
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub bytes: ByteCount,
    /// Time of creation, in Unix seconds.
    pub created_at: i64,
    /// Name of the file.
    pub filename: String,
    /// Purpose of the file.
    #[cfg_attr(feature = "schema", schema(value_type = Purpose))]
    pub purpose: AnyPurpose,
    /// State of the Upload.
    #[cfg_attr(feature = "schema", schema(schema_with = upload_status_schema))]
    pub status: UploadStatus,
    /// Time until which parts are accepted, in Unix seconds.
    pub expires_at: i64,
    /// Extension: declared MIME type of the file.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub mime_type: String,
    /// The resulting File. Only present if the Upload is completed and the File still exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub file: Option<FileObject>,
}

/// Schema of `status`. `utoipa` would wrap an inlined schema with a description in an unsatisfiable `allOf`.
#[cfg(feature = "schema")]
fn upload_status_schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    <UploadStatus as utoipa::PartialSchema>::schema()
}

/// A Part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = UploadPart))]
pub struct PartObject {
    /// Id of the Part.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub id: PartId,
    /// Always `upload.part`.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^upload\\.part$"))]
    pub object: ObjectKind,
    /// Time of creation, in Unix seconds.
    pub created_at: i64,
    /// Id of the Upload.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub upload_id: UploadId,
    /// Extension: size of the Part, in bytes.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = u64, required))]
    pub bytes: ByteCount,
    /// Extension: CRC-64/NVME of the Part's bytes, as 16 hexadecimal digits.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = String, required))]
    pub crc64nvme: Option<Crc64>,
}

/// A File.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = OpenAIFile))]
pub struct FileObject {
    /// Always `file`.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^file$"))]
    pub object: ObjectKind,
    /// Id of the File.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub id: FileId,
    /// Purpose of the File.
    #[cfg_attr(feature = "schema", schema(value_type = Purpose))]
    pub purpose: AnyPurpose,
    /// Name of the File.
    pub filename: String,
    /// Size of the File, in bytes.
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub bytes: ByteCount,
    /// Time of creation of its Upload, in Unix seconds.
    pub created_at: i64,
    /// Time of expiry, in Unix seconds; null if the File does not expire.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub expires_at: Option<i64>,
    /// Always `processed`: a file is ready as soon as it exists.
    #[cfg_attr(feature = "schema", schema(deprecated))]
    pub status: String,
    /// Always null.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(deprecated, required))]
    pub status_details: Option<String>,
    /// Extension: CRC-64/NVME of the File's bytes, as 16 hexadecimal digits.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = String, required))]
    pub crc64nvme: Option<Crc64>,
    /// Extension: the MD5 that was sent and verified, at completion or with the File's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, nullable = false))]
    pub md5: Option<Md5>,
    /// Extension: the SHA-256 that was sent with the File's bytes and verified, as 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, nullable = false))]
    pub sha256: Option<Sha256>,
    /// Extension: the SHA-512 that was sent with the File's bytes and verified, as 128 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, nullable = false))]
    pub sha512: Option<Sha512>,
}

/// The response to the deletion of a File.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = DeleteFileResponse))]
pub struct DeletedFileObject {
    /// Always `file`.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^file$"))]
    pub object: ObjectKind,
    /// Always true.
    pub deleted: bool,
    /// Id of the File.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub id: FileId,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ListObject<T> {
    /// Always `list`.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^list$"))]
    pub object: ObjectKind,
    /// The objects of the page, in the order of the list.
    pub data: Vec<T>,
    /// Id of the first object of the page; null if the page is empty.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub first_id: Option<String>,
    /// Id of the last object of the page, for `after` of the next page; null if the page is empty.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub last_id: Option<String>,
    /// Whether more objects follow this page.
    pub has_more: bool,
}
