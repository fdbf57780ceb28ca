//! API keys: shown once, kept as SHA-256, belonging to a project.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use subtle::ConstantTimeEq as _;

use super::{KeyId, ProjectId};

/// The secret itself. It has no `Debug` and no `Display`, so that it reaches no log by accident.
#[derive(Clone)]
pub struct ApiKey(String);

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API key has 1 to 512 printable ASCII characters and no spaces")]
pub struct NotAnApiKey;

/// A text that is not accepted as a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an API key must have {least} to {most} printable ASCII characters and no spaces; a shorter key from an earlier \
     version is still valid and should be removed from the settings",
    least = ApiKey::LEAST_CHOSEN, most = ApiKey::MOST
)]
pub struct NotANewKey;

/// What the ledger keeps of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// Who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The project that the key belongs to: every query is bound to it.
    pub project: ProjectId,
    /// The key.
    pub key: KeyId,
}

/// A key as it is listed: everything but the secret.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// Its name in commands.
    pub id: KeyId,
    /// The project it opens.
    pub project: String,
    /// What its maker called it.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when it opens nothing.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl ApiKey {
    /// The longest key.
    pub const MOST: usize = 512;
    /// The shortest key that can be chosen instead of generated: a shorter one could be guessed.
    pub const LEAST_CHOSEN: usize = 16;

    /// A key that an operator chose.
    ///
    /// # Errors
    /// When it is no key, or too short.
    pub fn chosen(text: &str) -> Result<Self, NotANewKey> {
        let key = Self::try_from(text.to_owned()).map_err(|_| NotANewKey)?;
        if key.0.len() < Self::LEAST_CHOSEN { Err(NotANewKey) } else { Ok(key) }
    }

    /// A new key of 256 random bits.
    ///
    /// # Panics
    /// When the operating system has no randomness to give; there is nothing sensible to do then.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
        Self(format!("wl-{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The secret, for the one place that shows it to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the ledger keeps. A fast hash is enough: the input is not a password but 256 random bits.
    pub fn hash(&self) -> KeyHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.0.as_bytes()).as_ref());
        KeyHash(hash)
    }
}

impl TryFrom<String> for ApiKey {
    type Error = NotAnApiKey;

    fn try_from(text: String) -> Result<Self, NotAnApiKey> {
        let fits = (1..=Self::MOST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(NotAnApiKey) }
    }
}

impl KeyHash {
    /// Whether the ledger's bytes are this hash, in a time that does not tell how much of it fits.
    pub fn matches(&self, ledger: &[u8]) -> bool {
        self.0.ct_eq(ledger).into()
    }
}

impl AsRef<[u8]> for KeyHash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_key_is_long_enough_not_to_be_guessed() {
        for refused in ["", "x", "fifteen-letters", "sixteen letters!", "sixteen-letters\u{e9}", &"x".repeat(513)] {
            assert_eq!(ApiKey::chosen(refused).map(|it| it.reveal().to_owned()), Err(NotANewKey), "{refused}");
        }
        for key in ["sixteen-letters!", &"x".repeat(512)] {
            assert_eq!(ApiKey::chosen(key).map(|it| it.reveal().to_owned()).as_deref(), Ok(key));
        }
    }

    #[test]
    fn a_key_of_any_length_that_is_in_use_is_read() {
        assert!(ApiKey::try_from("x".to_owned()).is_ok());
        for no_key in ["", "two words", "caf\u{e9}", "a\0b"] {
            assert!(ApiKey::try_from(no_key.to_owned()).is_err(), "{no_key}");
        }
    }
}
