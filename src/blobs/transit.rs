//! The way of bytes to an S3 store, on which none may change unseen.
//!
//! A signature over them is an SHA-256, which costs more than all the rest of sending them, and is not
//! looked at by every store. A CRC-64/NVME costs next to nothing. A store that is seen to refuse bytes
//! which do not fit theirs gets one with every chunk; where nobody else can write on the way, over TLS
//! or within this machine, the signature leaves the bytes out then.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use reqwest::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use url::{Host, Url};

use super::Result;
use crate::domain::Crc64Digest;

/// The checksum's header.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-crc64nvme");

/// The object, below the prefix, with which the store is tried. A store that checks never makes it.
const PROBE: &str = "checksum-probe";

/// Who says whether the bytes are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// `AWS_UNSIGNED_PAYLOAD`.
    Set,
    /// What the store checks, and where it is.
    Found,
}

/// Chooses, for a bucket that is there, how its store learns that a byte was changed. An operator who
/// names a checksum himself has chosen.
pub(super) async fn guard(
    builder: AmazonS3Builder,
    http: &reqwest::Client,
    prefix: &Path,
    signing: Signing,
) -> Result<AmazonS3Builder> {
    if builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_some() {
        return Ok(builder);
    }
    let store = builder.clone().build()?;
    let path = prefix.clone().join(PROBE);
    let checksum = checksum_of(b"as it was sent")?;
    let options = SignedUrlOptions::new().with_signed_header(CHECKSUM, checksum.clone());
    let url = store.signed_url_opts(Method::PUT, &path, Duration::from_mins(1), &options).await?;
    let is_ours = is_our_own(&url);
    if !is_checked(&store, &path, http.put(url).header(CHECKSUM, checksum).body("as it w@s sent")).await {
        tracing::info!("the store does not check CRC-64/NVME: what is sent to it is signed, if not set otherwise");
        return Ok(builder);
    }
    let builder = builder.with_checksum_algorithm(Checksum::CRC64NVME);
    Ok(if is_ours && signing == Signing::Found { builder.with_unsigned_payload(true) } else { builder })
}

/// Whether the store finds that what it is sent is not what its checksum is of, and says that as S3 does.
async fn is_checked(store: &AmazonS3, path: &Path, probe: RequestBuilder) -> bool {
    let Ok(answer) = probe.send().await else { return false };
    match answer.status() {
        StatusCode::BAD_REQUEST => answer.text().await.is_ok_and(|it| it.contains("<Code>BadDigest</Code>")),
        status => {
            if status.is_success()
                && let Err(error) = store.delete(path).await
            {
                tracing::warn!(%error, "{path} was left in the bucket");
            }
            false
        }
    }
}

fn checksum_of(bytes: &[u8]) -> Result<HeaderValue> {
    let mut digest = Crc64Digest::new();
    digest.update(bytes);
    let text = BASE64_STANDARD.encode(digest.finish().to_ledger().to_be_bytes());
    let bad = |error: InvalidHeaderValue| object_store::Error::Generic { store: "S3", source: error.into() };
    Ok(HeaderValue::try_from(text).map_err(bad)?)
}

/// Whether nobody else can write on the way to where a request goes.
fn is_our_own(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_our_own_over_tls_and_within_the_machine() {
        for (url, expected) in [
            ("https://s3.eu-central-1.amazonaws.com/b", true),
            ("http://127.0.0.1:8333/b", true),
            ("http://127.9.9.9/b", true),
            ("http://localhost:8333/b", true),
            ("http://[::1]:8333/b", true),
            ("http://store:8333/b", false),
            ("http://10.0.0.7:8333/b", false),
            ("http://localhost.example/b", false),
            ("http://[2001:db8::1]/b", false),
        ] {
            assert_eq!(is_our_own(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
