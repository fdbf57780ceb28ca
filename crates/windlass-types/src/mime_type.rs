//! The MIME type that a client declares. It is stored but not trusted: downloads are always `application/octet-stream`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A MIME type: 1 to 255 printable ASCII characters, not all of them spaces. It may lack a subtype, since the SDK's own
/// example sends `txt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct MimeType(String);

/// The error for a text that is not a valid MIME type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a MIME type has 1 to 255 printable ASCII characters, such as 'text/plain'")]
pub struct BadMimeType;

impl MimeType {
    /// The type of a body without a declared type.
    pub fn octet_stream() -> Self {
        Self("application/octet-stream".to_owned())
    }

    /// The type as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type without parameters and in lower case, for comparisons.
    pub fn essence(&self) -> String {
        self.0.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

impl From<MimeType> for String {
    fn from(it: MimeType) -> Self {
        it.0
    }
}

impl TryFrom<String> for MimeType {
    type Error = BadMimeType;

    fn try_from(text: String) -> Result<Self, BadMimeType> {
        text.parse()
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
