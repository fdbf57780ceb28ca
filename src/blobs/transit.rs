//! The way of bytes to an S3 store, on which none may change unseen.
//!
//! A signature over them is an SHA-256, which costs more than all the rest of sending them, and is not
//! looked at by every store. A CRC-64/NVME costs next to nothing. A store that is seen to refuse bytes
//! which do not fit theirs gets one with every chunk; where nobody else can write on the way, over TLS
//! or within this machine, the signature leaves the bytes out then.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use http::{Method, StatusCode};
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path;
use url::{Host, Url};

use super::Result;
use super::clients::S3Setup;
use super::signed::{Request, Requests};
use crate::domain::Crc64Digest;

/// The checksum's header.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-crc64nvme");

/// The object, below the prefix, with which the store is tried. A store that checks never makes it.
const PROBE: &str = "checksum-probe";

/// Chooses, for a bucket that is there, how its store learns that a byte was changed. An operator who
/// names a checksum has chosen.
pub(super) async fn guard(
    setup: &S3Setup,
    store: &AmazonS3,
    requests: &Requests,
    prefix: &Path,
) -> Result<AmazonS3Builder> {
    let builder = setup.builder.clone();
    if builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_some() {
        return Ok(builder);
    }
    let (path, header) = (prefix.clone().join(PROBE), (CHECKSUM, checksum_of(b"as it was sent")?));
    let body = Bytes::from_static(b"as it w@s sent");
    let probe = Request { method: Method::PUT, path: path.clone(), query: Vec::new(), header: Some(header), body };
    let is_ours = is_our_own(&requests.url(&probe).await?) && !setup.way_is_open;
    if !is_checked(store, &path, requests, probe).await {
        tracing::info!("the store does not check CRC-64/NVME: what is sent to it is signed, if not set otherwise");
        return Ok(builder);
    }
    let builder = builder.with_checksum_algorithm(Checksum::CRC64NVME);
    Ok(if is_ours && !setup.signing_is_set { builder.with_unsigned_payload(true) } else { builder })
}

/// Whether the store finds that what it is sent is not what its checksum is of, and says that as S3 does.
async fn is_checked(store: &AmazonS3, path: &Path, requests: &Requests, probe: Request) -> bool {
    let Ok(answer) = requests.send(probe).await else { return false };
    match answer.status {
        StatusCode::BAD_REQUEST => answer.code() == Some("BadDigest"),
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
