//! Idempotent requests: what identifies a request, and the recorded response to it.

use aws_lc_rs::digest::{Context, SHA256};
use uuid::Uuid;
use windlass_types::{FileLifetime, IdempotencyKey, Sha256, UploadId};

use super::UploadSpec;

/// The SHA-256 of what a request asks for. Two requests with the same one are the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a request that creates an Upload.
    pub fn of_upload(spec: &UploadSpec) -> Self {
        Self::of_fields(&[b"upload", &bytes_of(spec)])
    }

    /// The fingerprint of a request that adds a Part with this content.
    pub fn of_part(upload: UploadId, content: Sha256) -> Self {
        Self::of_fields(&[b"part", upload.uuid().as_bytes(), content.as_ref()])
    }

    /// The fingerprint of a request that creates a File with this content.
    pub fn of_file(spec: &UploadSpec, content: Sha256) -> Self {
        Self::of_fields(&[b"file", &bytes_of(spec), content.as_ref()])
    }

    fn of_fields(fields: &[&[u8]]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash(fields).finish().as_ref());
        Self(bytes)
    }
}

/// Hashes fields, each with its length, so that no two lists of fields are the same bytes.
fn hash(fields: &[&[u8]]) -> Context {
    let mut context = Context::new(&SHA256);
    for field in fields {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field);
    }
    context
}

fn bytes_of(spec: &UploadSpec) -> Vec<u8> {
    let UploadSpec { filename, purpose, bytes, mime_type, file_lifetime } = spec;
    let lifetime = file_lifetime.map(FileLifetime::seconds).unwrap_or_default().to_be_bytes();
    let (filename, mime_type) = (filename.as_str().as_bytes(), mime_type.as_str().as_bytes());
    let fields = [filename, purpose.as_str().as_bytes(), &bytes.get().to_be_bytes(), mime_type, &lifetime];
    hash(&fields).finish().as_ref().to_vec()
}

impl AsRef<[u8]> for Fingerprint {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An idempotent request and its response, to be recorded.
#[derive(Debug, Clone)]
pub struct NewAnswer<'request> {
    /// The key that the client sent.
    pub key: &'request IdempotencyKey,
    /// The fingerprint of the request.
    pub fingerprint: Fingerprint,
    /// The Upload, Part or File that the request created.
    pub created: Uuid,
    /// The body of the response.
    pub response: String,
}

/// The recorded response to an earlier request with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The fingerprint of that request.
    pub fingerprint: Vec<u8>,
    /// The Upload, Part or File that it created.
    pub created: Uuid,
    /// The body of the response.
    pub response: String,
}

#[cfg(test)]
mod tests {
    use windlass_types::{AnyPurpose, ByteCount, MimeType};

    use super::*;

    #[test]
    fn every_field_of_a_request_is_part_of_its_fingerprint() {
        let spec = UploadSpec {
            filename: "a".parse().unwrap(),
            purpose: AnyPurpose::UserData,
            bytes: ByteCount::of(1),
            mime_type: MimeType::octet_stream(),
            file_lifetime: None,
        };
        let content = |byte: u8| Sha256::try_from(&[byte; 32][..]).unwrap();
        let others = [
            UploadSpec { filename: "b".parse().unwrap(), ..spec.clone() },
            UploadSpec { purpose: AnyPurpose::Batch, ..spec.clone() },
            UploadSpec { bytes: ByteCount::of(2), ..spec.clone() },
            UploadSpec { mime_type: "text/plain".parse().unwrap(), ..spec.clone() },
            UploadSpec { file_lifetime: Some(FileLifetime::try_from(3600).unwrap()), ..spec.clone() },
        ];
        for other in &others {
            assert_ne!(Fingerprint::of_upload(&spec), Fingerprint::of_upload(other));
            assert_ne!(Fingerprint::of_file(&spec, content(1)), Fingerprint::of_file(other, content(1)));
        }
        assert_ne!(Fingerprint::of_file(&spec, content(1)), Fingerprint::of_file(&spec, content(2)));
        let (one, two) = (UploadId::generate(), UploadId::generate());
        assert_ne!(Fingerprint::of_part(one, content(1)), Fingerprint::of_part(two, content(1)));
        assert_ne!(Fingerprint::of_part(one, content(1)), Fingerprint::of_part(one, content(2)));
        assert_eq!(Fingerprint::of_part(one, content(1)), Fingerprint::of_part(one, content(1)));
    }
}
