//! Conversion of the engine's objects to JSON response bodies.

use chrono::{DateTime, Utc};
use serde::Serialize;
use windlass_engine::model::{File, Part, Upload, UploadState};
use windlass_types::{FileObject, ObjectKind, PartObject, UploadObject, UploadStatus};

/// An engine object that has a representation on the wire.
pub trait ToObject {
    /// Representation on the wire.
    type Object: Serialize;

    /// Converts to the representation on the wire.
    fn to_object(self) -> Self::Object;
}

impl ToObject for Upload {
    type Object = UploadObject;

    fn to_object(self) -> UploadObject {
        let spec = self.spec;
        let (status, file) = match self.state {
            UploadState::Pending => (UploadStatus::Pending, None),
            UploadState::Completed(file) => (UploadStatus::Completed, file),
            UploadState::Cancelled => (UploadStatus::Cancelled, None),
            UploadState::Expired => (UploadStatus::Expired, None),
        };
        UploadObject {
            id: self.id,
            object: ObjectKind::Upload,
            bytes: spec.bytes,
            created_at: self.created_at.timestamp(),
            filename: spec.filename.into(),
            purpose: spec.purpose,
            status,
            expires_at: self.expires_at.timestamp(),
            mime_type: spec.mime_type.into(),
            file: file.map(File::to_object),
        }
    }
}

impl ToObject for Part {
    type Object = PartObject;

    fn to_object(self) -> PartObject {
        PartObject {
            id: self.id,
            object: ObjectKind::UploadPart,
            created_at: self.created_at.timestamp(),
            upload_id: self.upload,
            bytes: self.bytes,
            crc64nvme: Some(self.crc64),
        }
    }
}

impl ToObject for File {
    type Object = FileObject;

    fn to_object(self) -> FileObject {
        FileObject {
            object: ObjectKind::File,
            id: self.id,
            purpose: self.purpose,
            filename: self.filename.into(),
            bytes: self.bytes,
            created_at: self.created_at.timestamp(),
            expires_at: self.expires_at.as_ref().map(DateTime::<Utc>::timestamp),
            status: "processed".to_owned(),
            status_details: None,
            crc64nvme: Some(self.crc64),
            md5: self.digests.md5,
            sha256: self.digests.sha256,
            sha512: self.digests.sha512.map(|it| *it),
        }
    }
}
