//! Protects payloads on their way to an S3 store against undetected changes.
//!
//! Signing a payload requires its SHA-256, which costs more than all the rest of sending it, and some stores do not
//! verify it. A CRC-64/NVME costs next to nothing. If a probe shows that the store rejects payloads with a wrong
//! checksum, every chunk is sent with one; over TLS or within this machine, where nobody else can modify requests, the
//! payload is then not signed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use http::{Method, StatusCode};
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path;
use url::{Host, Url};
use windlass_types::{Crc64Digest, ErrorChain};

use super::Result;
use super::clients::S3Setup;
use super::signed::{Request, Requests};

/// The checksum's header.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-crc64nvme");

/// The object, below the prefix, that the probe attempts to write. A store that verifies checksums never creates it.
const PROBE: &str = "checksum-probe";

/// Selects how payloads to an existing bucket are protected. A checksum algorithm set by the operator takes precedence.
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
    let is_tamper_proof = is_tamper_proof(&requests.url(&probe).await?) && !setup.is_interceptable;
    if !is_checked(store, &path, requests, probe).await {
        tracing::info!("the store does not check CRC-64/NVME: payloads are signed, unless configured otherwise");
        return Ok(builder);
    }
    let builder = builder.with_checksum_algorithm(Checksum::CRC64NVME);
    Ok(if is_tamper_proof && !setup.signing_is_set { builder.with_unsigned_payload(true) } else { builder })
}

/// Whether the store rejects a payload with a wrong checksum, by the error code that S3 uses.
async fn is_checked(store: &AmazonS3, path: &Path, requests: &Requests, probe: Request) -> bool {
    let Ok(response) = requests.send(probe).await else { return false };
    match response.status {
        StatusCode::BAD_REQUEST => response.code() == Some("BadDigest"),
        status => {
            if status.is_success()
                && let Err(error) = store.delete(path).await
            {
                let error = ErrorChain(&error);
                tracing::warn!(%error, object = %path, "a checksum probe could not be deleted from the bucket");
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

/// Whether nobody can modify requests to this URL on their way: they use TLS, or do not leave this machine.
fn is_tamper_proof(url: &Url) -> bool {
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
    fn only_tls_and_loopback_are_tamper_proof() {
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
            assert_eq!(is_tamper_proof(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
