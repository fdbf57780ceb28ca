//! API keys. Each is shown once, and is stored as its SHA-256.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use windlass_types::{KeyId, ProjectId};

use super::{FileExpiry, FoundGrant, KeyRates, LimitSetting, NewGrant, Scope};

/// The key itself. `Debug` does not show it.
#[derive(Debug, Clone)]
pub struct ApiKey(SecretString);

/// The error for a text that is not a valid key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API key has 1 to 512 printable ASCII characters and no spaces")]
pub struct NotAnApiKey;

/// The error for a text that is not accepted as a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an API key must have {least} to {most} printable ASCII characters and no spaces; a shorter key from an earlier \
     version is still valid and should be removed from the settings",
    least = ApiKey::LEAST_CHOSEN, most = ApiKey::MOST
)]
pub struct NotANewKey;

/// The SHA-256 of a key, which the ledger stores.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// The authenticated caller of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The project that the request is for. Every query is limited to it.
    pub project: ProjectId,
    /// Whether the request has created the project.
    pub is_new_project: bool,
    /// Id of the key.
    pub key: KeyId,
    /// Whether it is a service key.
    pub is_service: bool,
}

/// What a key permits.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRecord {
    /// Id of the key.
    pub id: KeyId,
    /// The projects that it acts for.
    pub grant: FoundGrant,
    /// What it may do; at least one.
    pub scopes: Vec<Scope>,
    /// Its rates.
    pub rates: KeyRates,
}

/// A key to be created.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Id of the key.
    pub id: KeyId,
    /// The name that its creator gives it.
    pub name: String,
    /// The projects that it acts for.
    pub grant: NewGrant,
    /// What it may do; at least one.
    pub scopes: Vec<Scope>,
    /// After which time it expires; `None` for never.
    pub expires_in: Option<Duration>,
    /// Its rates.
    pub rates: KeyRates,
}

/// A key as it is listed, without the secret.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// Id of the key, as used in commands.
    pub id: KeyId,
    /// The projects that it acts for.
    pub grant: NewGrant,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The name that its creator gave it.
    pub name: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it expires or has expired, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it has expired, by the database's clock.
    pub is_expired: bool,
    /// When it was last used, to about ten minutes.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Its rates.
    pub rates: KeyRates,
}

/// A project as it is listed.
#[derive(Debug, Clone)]
pub struct ProjectEntry {
    /// Id of the project.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Its own limits.
    pub limits: ProjectSettings,
}

/// What is set for a project; the settings of the service are the defaults.
#[derive(Debug, Clone, Default)]
pub struct ProjectSettings {
    /// The limit on bytes.
    pub bytes: LimitSetting,
    /// The limit on pending Uploads.
    pub pending_uploads: LimitSetting,
    /// The limit on Files.
    pub files: LimitSetting,
    /// How long its Files live.
    pub file_expiry: FileExpiry,
}

impl ApiKey {
    /// The maximum length of a key.
    pub const MOST: usize = 512;
    /// The minimum length of a key that is chosen instead of generated: a shorter one could be guessed.
    pub const LEAST_CHOSEN: usize = 16;

    /// A key chosen by the operator.
    ///
    /// # Errors
    /// If it is not a valid key, or too short.
    pub fn chosen(text: &str) -> Result<Self, NotANewKey> {
        let key = Self::try_from(text.to_owned()).map_err(|_| NotANewKey)?;
        if key.reveal().len() < Self::LEAST_CHOSEN { Err(NotANewKey) } else { Ok(key) }
    }

    /// Generates a key of 256 random bits.
    ///
    /// # Panics
    /// If the operating system cannot provide random bytes.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system provides random bytes");
        Self(format!("wl-{}", URL_SAFE_NO_PAD.encode(bytes)).into())
    }

    /// The secret, only for showing it to its owner.
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }

    /// The hash that the ledger stores. A fast hash is enough: a generated key has 256 random bits, and a chosen one
    /// at least 16 characters.
    pub fn hash(&self) -> KeyHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.reveal().as_bytes()).as_ref());
        KeyHash(hash)
    }
}

impl TryFrom<String> for ApiKey {
    type Error = NotAnApiKey;

    fn try_from(text: String) -> Result<Self, NotAnApiKey> {
        let fits = (1..=Self::MOST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(NotAnApiKey) }
    }
}

impl From<[u8; 32]> for KeyHash {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
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
    fn a_chosen_key_has_16_to_512_printable_characters() {
        for refused in ["", "x", "fifteen-letters", "sixteen letters!", "sixteen-letters\u{e9}", &"x".repeat(513)] {
            assert_eq!(ApiKey::chosen(refused).map(|it| it.reveal().to_owned()), Err(NotANewKey), "{refused}");
        }
        for key in ["sixteen-letters!", &"x".repeat(512)] {
            assert_eq!(ApiKey::chosen(key).map(|it| it.reveal().to_owned()).as_deref(), Ok(key));
        }
    }

    #[test]
    fn an_existing_key_may_have_any_length() {
        assert!(ApiKey::try_from("x".to_owned()).is_ok());
        for no_key in ["", "two words", "caf\u{e9}", "a\0b"] {
            assert!(ApiKey::try_from(no_key.to_owned()).is_err(), "{no_key}");
        }
    }
}
