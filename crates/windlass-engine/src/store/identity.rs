//! The identity of a store: a small object next to the Parts that links the store to its ledger.

use serde::{Deserialize, Serialize};
use windlass_types::StoreId;

use super::{Error, Result};

/// The name of the object, relative to the store's prefix.
pub(super) const NAME: &str = "windlass-store.json";

/// An explanation for people who come across the object.
const ABOUT: &str = "This object identifies a Windlass store. The database that tracks the store's objects has the \
                     same id. Do not delete this object, and do not copy it without the others.";

/// The result of comparing a store's identity with the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The expected identity.
    Expected,
    /// The identity of another store.
    Other(StoreId),
    /// No identity.
    Missing,
}

/// What to do if the store already has an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfPresent {
    /// Keep it.
    Keep,
    /// Replace it, as requested by an operator.
    Replace,
}

impl Identity {
    pub(super) fn of(found: Option<StoreId>, expected: StoreId) -> Self {
        match found {
            Some(it) if it == expected => Self::Expected,
            Some(it) => Self::Other(it),
            None => Self::Missing,
        }
    }
}

#[derive(Serialize)]
struct Written {
    store_id: String,
    about: &'static str,
}

#[derive(Deserialize)]
struct Read {
    store_id: String,
}

/// Encodes the content of the object.
pub(super) fn encode(id: StoreId) -> Vec<u8> {
    let document = Written { store_id: id.to_string(), about: ABOUT };
    let mut bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Decodes the content of the object.
///
/// # Errors
/// [`Error::BadIdentity`] if it does not contain an id.
pub(super) fn decode(bytes: &[u8]) -> Result<StoreId> {
    let read: Option<Read> = serde_json::from_slice(bytes).ok();
    read.and_then(|it| it.store_id.parse().ok()).ok_or(Error::BadIdentity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_decoded_as_it_was_encoded() {
        let id = StoreId::generate();
        assert_eq!(decode(&encode(id)).unwrap(), id);
    }

    #[test]
    fn invalid_content_is_an_error() {
        for text in ["", "{}", r#"{"store_id": "store_1"}"#, "store_0192f0c1a2b37c4d8e5f60718293a4b5"] {
            assert!(matches!(decode(text.as_bytes()), Err(Error::BadIdentity)), "{text}");
        }
    }
}
