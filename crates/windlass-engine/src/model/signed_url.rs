//! Signed URLs: what the holder of one may do, and the token that proves it.
//!
//! A token is the base64 of the secret's id, the claims in JSON, and their HMAC-SHA256. Nothing is stored for a URL
//! until it is used, and only if it can be used once.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use windlass_types::{AnyPurpose, ByteCount, FileId, FileLifetime, Filename, KeyId, MimeType, ProjectId};

/// What a signed URL permits. Field names are short, because they are part of the URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlClaims {
    /// The key that created the URL. The URL is void once the key is.
    #[serde(rename = "k")]
    pub key: KeyId,
    /// The project whose File it is.
    #[serde(rename = "p")]
    pub project: ProjectId,
    /// When the URL expires, in Unix seconds by the database's clock.
    #[serde(rename = "e")]
    pub expires_at: i64,
    /// Identifies a URL that can be used once.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Uuid>,
    /// What the holder may do.
    #[serde(rename = "a")]
    pub access: UrlAccess,
}

/// What the holder of a signed URL may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlAccess {
    /// Download this File.
    #[serde(rename = "g")]
    Download(FileId),
    /// Create one File.
    #[serde(rename = "p")]
    Upload(FileTerms),
}

/// The properties of a File that a signed URL creates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTerms {
    /// Its name.
    #[serde(rename = "n")]
    pub filename: Filename,
    /// Its purpose.
    #[serde(rename = "p")]
    pub purpose: AnyPurpose,
    /// Its MIME type.
    #[serde(rename = "m")]
    pub mime_type: MimeType,
    /// Its maximum size in bytes; `None` for that of every File sent in one request.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteCount>,
    /// How long it lives; `None` for the default of its purpose.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub file_lifetime: Option<FileLifetime>,
}

/// A secret that signs URLs. `Debug` does not show it.
pub struct UrlSecret {
    id: Uuid,
    key: hmac::Key,
    /// Whether new URLs are signed with this secret or with an older one.
    signs: bool,
}

/// The length of a secret, in bytes.
pub const URL_SECRET_BYTES: usize = 32;

const ID_BYTES: usize = size_of::<Uuid>();
const TAG_BYTES: usize = 32;

impl UrlSecret {
    /// The secret with this id. `signs` is whether the time has come to sign with it.
    pub fn new(id: Uuid, secret: &[u8], signs: bool) -> Self {
        Self { id, key: hmac::Key::new(HMAC_SHA256, secret), signs }
    }

    /// Signs the claims. Returns the token.
    ///
    /// # Errors
    /// None in practice: claims can always be represented in JSON.
    fn sign(&self, claims: &UrlClaims) -> serde_json::Result<String> {
        let mut token = self.id.into_bytes().to_vec();
        serde_json::to_writer(&mut token, claims)?;
        let tag = hmac::sign(&self.key, &token);
        token.extend_from_slice(tag.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(token))
    }
}

impl fmt::Debug for UrlSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The secrets in force, the newest first.
#[derive(Debug)]
pub struct UrlSecrets(Vec<UrlSecret>);

impl From<Vec<UrlSecret>> for UrlSecrets {
    fn from(newest_first: Vec<UrlSecret>) -> Self {
        Self(newest_first)
    }
}

impl UrlSecrets {
    /// Signs the claims with the newest secret whose time has come. Returns the token; `None` if there is no secret.
    pub fn sign(&self, claims: &UrlClaims) -> Option<String> {
        self.0.iter().find(|it| it.signs)?.sign(claims).ok()
    }

    /// The claims of a token; `None` if none of the secrets has signed it. The comparison takes constant time. Expiry is
    /// not checked.
    pub fn verify(&self, token: &str) -> Option<UrlClaims> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, tag) = token.split_at_checked(token.len().checked_sub(TAG_BYTES)?)?;
        let (id, claims) = signed.split_at_checked(ID_BYTES)?;
        let secret = self.0.iter().find(|it| it.id.as_bytes() == id)?;
        hmac::verify(&secret.key, signed, tag).ok()?;
        serde_json::from_slice(claims).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(ids: &[(u8, bool)]) -> UrlSecrets {
        let secret =
            |&(id, signs): &(u8, bool)| UrlSecret::new(Uuid::from_u128(id.into()), &[id; URL_SECRET_BYTES], signs);
        ids.iter().map(secret).collect::<Vec<_>>().into()
    }

    fn claims() -> UrlClaims {
        UrlClaims {
            key: KeyId::generate(),
            project: ProjectId::generate(),
            expires_at: 1,
            once: Some(Uuid::now_v7()),
            access: UrlAccess::Upload(FileTerms {
                filename: "ä.bin".parse().unwrap(),
                purpose: AnyPurpose::BatchOutput,
                mime_type: MimeType::octet_stream(),
                max_bytes: Some(ByteCount::of(5)),
                file_lifetime: None,
            }),
        }
    }

    #[test]
    fn a_token_is_verified_by_whoever_has_its_secret() {
        let claims = claims();
        let token = secrets(&[(2, false), (1, true)]).sign(&claims).unwrap();
        assert_eq!(secrets(&[(3, true), (1, false)]).verify(&token), Some(claims));
        assert_eq!(secrets(&[(2, true)]).verify(&token), None);
    }

    #[test]
    fn no_changed_token_is_accepted() {
        let secrets = secrets(&[(1, true)]);
        let token = secrets.sign(&claims()).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(secrets.verify(&URL_SAFE_NO_PAD.encode(changed)), None, "byte {at}");
        }
        for length in 0..bytes.len() {
            assert_eq!(secrets.verify(&URL_SAFE_NO_PAD.encode(&bytes[..length])), None, "{length} bytes");
        }
        for other in ["", "=", "a", "%00", &format!("{token}A"), &format!("{token}="), &token.repeat(2)] {
            assert_eq!(secrets.verify(other), None, "{other}");
        }
    }
}
