//! The MIME type a client declares. It is kept, not believed: downloads are always plain bytes.

use std::str::FromStr;

/// 1 to 255 printable ASCII characters. It need not be `type/subtype`: the SDK's own example sends `txt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MimeType(String);

/// A text that is no MIME type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a MIME type has 1 to 255 printable ASCII characters, such as 'text/plain'")]
pub struct BadMimeType;

impl MimeType {
    /// What a body without a declared type is.
    pub fn octet_stream() -> Self {
        Self("application/octet-stream".to_owned())
    }

    /// The type as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without parameters and in lower case: what tables compare.
    pub fn essence(&self) -> String {
        self.0.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

impl FromStr for MimeType {
    type Err = BadMimeType;

    fn from_str(text: &str) -> Result<Self, BadMimeType> {
        let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if text.trim().is_empty() || text.len() > 255 || !printable {
            return Err(BadMimeType);
        }
        Ok(Self(text.to_owned()))
    }
}
