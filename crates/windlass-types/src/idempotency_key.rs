//! Idempotency keys: a client's name for one request, which it may repeat.

use std::str::FromStr;

/// An idempotency key: 1 to 255 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The error for text that is not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to {} printable ASCII characters, such as a UUID", IdempotencyKey::MAX_LENGTH)]
pub struct NotAnIdempotencyKey;

impl IdempotencyKey {
    /// The maximum number of characters.
    pub const MAX_LENGTH: usize = 255;

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = NotAnIdempotencyKey;

    fn from_str(text: &str) -> Result<Self, NotAnIdempotencyKey> {
        let fits = (1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(|it| matches!(it, b' '..=b'~'));
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAnIdempotencyKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_printable_text() {
        for key in ["x", "stainless-python-retry-0b6f7a3e", "\"8e03978e\"", "a b", &"k".repeat(255)] {
            assert_eq!(key.parse::<IdempotencyKey>().unwrap().as_str(), key);
        }
        for other in ["", "ä", "a\tb", "a\0", &"k".repeat(256)] {
            assert_eq!(other.parse::<IdempotencyKey>(), Err(NotAnIdempotencyKey), "{other}");
        }
    }
}
