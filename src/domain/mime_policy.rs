//! Which MIME types an Upload may declare for its purpose.

use super::{MimeType, Purpose};

/// How strictly a declared type is held against the purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MimePolicy {
    /// As the contract says: `assistants` and `vision` take the types listed here, the others any.
    #[default]
    Contract,
    /// Every purpose takes any type.
    Any,
}

/// A type that its purpose does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("files for the purpose '{purpose}' cannot be '{mime_type}'; accepted are {}", accepted.join(", "))]
pub struct MimeTypeNotAccepted {
    /// What the file is for.
    pub purpose: Purpose,
    /// What was declared.
    pub mime_type: String,
    /// What would have been right.
    pub accepted: &'static [&'static str],
}

/// The types that file search reads (contract section 2).
const ASSISTANTS: &[&str] = &[
    "text/x-c",
    "text/x-c++",
    "text/x-csharp",
    "text/css",
    "application/msword",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "text/html",
    "text/x-java",
    "text/javascript",
    "application/json",
    "text/markdown",
    "application/pdf",
    "application/x-php",
    "text/php",
    "text/x-php",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "text/x-python",
    "text/x-script.python",
    "text/x-ruby",
    "application/x-sh",
    "text/x-tex",
    "application/typescript",
    "text/plain",
];

/// The images that vision models read.
const VISION: &[&str] = &["image/png", "image/jpeg", "image/webp", "image/gif"];

impl MimePolicy {
    /// Holds a declared type against the purpose, ignoring parameters and case.
    ///
    /// # Errors
    /// When the purpose is bound to a list and the type is not on it.
    pub fn check(self, purpose: Purpose, mime_type: &MimeType) -> Result<(), MimeTypeNotAccepted> {
        let accepted = match (self, purpose) {
            (Self::Any, _)
            | (Self::Contract, Purpose::Batch | Purpose::FineTune | Purpose::UserData | Purpose::Evals) => {
                return Ok(());
            }
            (Self::Contract, Purpose::Assistants) => ASSISTANTS,
            (Self::Contract, Purpose::Vision) => VISION,
        };
        if accepted.contains(&mime_type.essence().as_str()) {
            return Ok(());
        }
        Err(MimeTypeNotAccepted { purpose, mime_type: mime_type.as_str().to_owned(), accepted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: MimePolicy, purpose: Purpose, mime_type: &str) -> bool {
        policy.check(purpose, &mime_type.parse().unwrap()).is_ok()
    }

    #[test]
    fn assistants_and_vision_are_bound_to_their_lists() {
        assert!(check(MimePolicy::Contract, Purpose::Assistants, "Text/Plain; charset=utf-8"));
        assert!(!check(MimePolicy::Contract, Purpose::Assistants, "image/png"));
        assert!(check(MimePolicy::Contract, Purpose::Vision, "IMAGE/PNG"));
        assert!(!check(MimePolicy::Contract, Purpose::Vision, "image/tiff"));
    }

    #[test]
    fn the_other_purposes_and_the_other_policy_take_any_type() {
        assert!(check(MimePolicy::Contract, Purpose::Batch, "txt"));
        assert!(check(MimePolicy::Contract, Purpose::UserData, "video/mp4"));
        assert!(check(MimePolicy::Any, Purpose::Vision, "text/plain"));
    }
}
