//! Digests in headers: `Content-Digest` and `Repr-Digest` (RFC 9530), and `Content-MD5` (RFC 1864).
//!
//! A request's content is its representation, since content codings are rejected. So all three headers cover the same
//! bytes: as headers of a request the body as it is sent, as headers of a form field the field's content.

mod dictionary;
pub mod wanted;

use std::{fmt, mem};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use windlass_engine::model::{DigestAlgorithm, Digests, RunningDigests};
use windlass_types::Shown;

use self::dictionary::Value;

const CONTENT_DIGEST: &str = "Content-Digest";
const REPR_DIGEST: &str = "Repr-Digest";
const CONTENT_MD5: &str = "Content-MD5";

/// The supported algorithms, for messages.
const SUPPORTED: &str = "sha-256, sha-512 and md5";

/// The name of an algorithm in the registry of RFC 9530.
fn name(algorithm: DigestAlgorithm) -> &'static str {
    match algorithm {
        DigestAlgorithm::Sha256 => "sha-256",
        DigestAlgorithm::Sha512 => "sha-512",
        DigestAlgorithm::Md5 => "md5",
    }
}

fn named(name: &str) -> Option<DigestAlgorithm> {
    DigestAlgorithm::ALL.into_iter().find(|it| self::name(*it) == name)
}

/// A digest in the syntax of the headers of RFC 9530.
struct Member<'digest>(DigestAlgorithm, &'digest [u8]);

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=:{}:", name(self.0), STANDARD.encode(self.1))
    }
}

/// A digest that a client has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    header: &'static str,
    algorithm: DigestAlgorithm,
    digest: Vec<u8>,
}

/// The digests that a client has sent for some content: of a known algorithm and of its length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims(Vec<Claim>);

/// The error for a digest header that cannot be verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header} {problem}")]
pub struct BadDigestHeader {
    /// The name of the header.
    pub header: &'static str,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error(
        "cannot be read. It must be a list of digests such as \
         'sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:', in base64 between colons"
    )]
    Malformed,
    #[error(
        "cannot be read. It must be the MD5 in base64, which has 24 characters, such as '1B2M2Y8AsgTpgAmY7PhCfg=='"
    )]
    MalformedMd5,
    #[error("has a digest by {algorithm} of {sent} bytes instead of {}", .algorithm.length(), algorithm = name(*.algorithm))]
    Length { algorithm: DigestAlgorithm, sent: usize },
    #[error("has no digest by a supported algorithm, but only {0}. Supported are {SUPPORTED}")]
    Unsupported(String),
}

/// The error for content that does not have the digest in a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header} has {}, but {} was received", Member(*algorithm, claimed), Member(*algorithm, actual))]
pub struct WrongDigest {
    /// The name of the header.
    pub header: &'static str,
    algorithm: DigestAlgorithm,
    claimed: Vec<u8>,
    actual: Vec<u8>,
}

impl Claims {
    /// The digests in the headers of a request.
    ///
    /// # Errors
    /// When one of the headers cannot be verified.
    pub fn of(request: &HttpRequest) -> Result<Self, BadDigestHeader> {
        Self::parse(|name| request.headers().get_all(name).map(HeaderValue::as_bytes))
    }

    /// The digests in headers, whose values `values` returns by their names. A header whose algorithms are all unknown is
    /// an error; unknown ones beside a known one are ignored, since senders offer several for recipients to choose from
    /// (RFC 9530, section 2).
    ///
    /// # Errors
    /// When one of the headers cannot be verified.
    pub fn parse<'h, V: Iterator<Item = &'h [u8]>>(
        values: impl Fn(&'static str) -> V,
    ) -> Result<Self, BadDigestHeader> {
        let mut claims = Vec::new();
        for header in [CONTENT_DIGEST, REPR_DIGEST] {
            let lines: Vec<_> = values(header).collect();
            if !lines.is_empty() {
                let parsed = claimed(header, &lines);
                claims.extend(parsed.map_err(|problem| BadDigestHeader { header, problem })?);
            }
        }
        for value in values(CONTENT_MD5) {
            let (header, algorithm) = (CONTENT_MD5, DigestAlgorithm::Md5);
            let digest = STANDARD.decode(value.trim_ascii()).ok().filter(|it| it.len() == algorithm.length());
            let digest = digest.ok_or(BadDigestHeader { header, problem: Problem::MalformedMd5 })?;
            claims.push(Claim { header, algorithm, digest });
        }
        Ok(Self(claims))
    }

    /// The digests that content has which satisfies these claims.
    pub fn digests(&self) -> Digests {
        let mut digests = Digests::default();
        for claim in &self.0 {
            digests.set(claim.algorithm, &claim.digest);
        }
        digests
    }

    /// Begins to verify content. Only the digests that were sent are computed.
    pub fn verify(self) -> Verifier {
        let running = RunningDigests::by(self.0.iter().map(|it| it.algorithm));
        Verifier { claims: self.0, running }
    }
}

/// Verifies content as it is received.
#[derive(Default)]
pub struct Verifier {
    claims: Vec<Claim>,
    running: RunningDigests,
}

impl Verifier {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.running.update(bytes);
    }

    /// Compares the digests of all bytes with those that were sent.
    ///
    /// # Errors
    /// With the first one that differs.
    pub fn finish(&mut self) -> Result<(), WrongDigest> {
        let actual = mem::take(&mut self.running).finish();
        for Claim { header, algorithm, digest } in mem::take(&mut self.claims) {
            let actual = actual.get(algorithm).unwrap_or_default();
            if actual != digest {
                return Err(WrongDigest { header, algorithm, claimed: digest, actual: actual.to_vec() });
            }
        }
        Ok(())
    }
}

/// Parses the lines of a `Content-Digest` or `Repr-Digest`.
fn claimed(header: &'static str, lines: &[&[u8]]) -> Result<Vec<Claim>, Problem> {
    let members = dictionary::parse(lines).filter(|it| !it.is_empty()).ok_or(Problem::Malformed)?;
    let (mut claims, mut unknown) = (Vec::new(), Vec::new());
    for (key, value) in members {
        let Value::Bytes(digest) = value else { return Err(Problem::Malformed) };
        match named(&key) {
            None => unknown.push(key),
            Some(algorithm) if digest.len() != algorithm.length() => {
                return Err(Problem::Length { algorithm, sent: digest.len() });
            }
            Some(algorithm) => claims.push(Claim { header, algorithm, digest }),
        }
    }
    if claims.is_empty() { Err(Problem::Unsupported(Shown(&unknown.join(", ")).to_string())) } else { Ok(claims) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
    const MD5: &str = "md5=:kAFQmDzST7DWlj99KOF/cg==:";

    fn parse(headers: &[(&str, &str)]) -> Result<Claims, BadDigestHeader> {
        Claims::parse(|name| headers.iter().filter(move |it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1.as_bytes()))
    }

    fn verify(headers: &[(&str, &str)], content: &[u8]) -> Result<(), WrongDigest> {
        let mut verifier = parse(headers).unwrap().verify();
        content.chunks(2).for_each(|it| verifier.update(it));
        verifier.finish()
    }

    #[test]
    fn all_digests_that_are_sent_are_verified() {
        let both = format!("{SHA}, {MD5};ignored=1");
        let (wrong_md5, unknown) = ("md5=:AAAAAAAAAAAAAAAAAAAAAA==:", format!("crc32c=:AAAA:,{SHA}"));
        let twice = format!("{wrong_md5}, {MD5}");
        for (headers, header) in [
            (&[][..], None),
            (&[("content-digest", SHA)], None),
            (&[("Repr-Digest", &both)], None),
            (&[("content-digest", MD5), ("content-digest", SHA), ("Content-MD5", " kAFQmDzST7DWlj99KOF/cg== ")], None),
            (&[("content-digest", &unknown)], None),
            (&[("content-digest", SHA), ("repr-digest", wrong_md5)], Some("Repr-Digest")),
            (&[("content-digest", SHA), ("content-digest", wrong_md5)], Some("Content-Digest")),
            (&[("content-digest", &twice)], Some("Content-Digest")),
            (&[("repr-digest", SHA), ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], Some("Content-MD5")),
        ] {
            assert_eq!(verify(headers, b"abc").err().map(|it| it.header), header, "{headers:?}");
        }
        let wrong = verify(&[("content-digest", MD5)], b"").unwrap_err().to_string();
        assert_eq!(wrong, format!("Content-Digest has {MD5}, but md5=:1B2M2Y8AsgTpgAmY7PhCfg==: was received"));
    }

    #[test]
    fn a_header_that_cannot_be_verified_is_an_error() {
        let text = |headers: &[(&str, &str)]| parse(headers).unwrap_err().to_string();
        for malformed in [
            "",
            " ",
            "sha-256",
            "sha-256=",
            "sha-256=abc",
            "sha-256=:not base64!:",
            "sha-256=:AAAA",
            "sha-256=5",
            "sha-256=(:AAAA:)",
            "SHA-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
            "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:,",
            "crc32c=1",
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "\u{e9}",
        ] {
            assert!(text(&[("content-digest", malformed)]).starts_with("Content-Digest cannot be read"), "{malformed}");
            assert!(text(&[("repr-digest", malformed)]).starts_with("Repr-Digest cannot be read"), "{malformed}");
        }
        for malformed in ["", "AAAA", "kAFQmDzST7DWlj99KOF/cg", "900150983cd24fb0d6963f7d28e17f72", ":AAAA:"] {
            assert!(text(&[("content-md5", malformed)]).starts_with("Content-MD5 cannot be read"), "{malformed}");
        }
        assert_eq!(
            text(&[("repr-digest", "sha-512=:AAAA:")]),
            "Repr-Digest has a digest by sha-512 of 3 bytes instead of 64"
        );
        assert_eq!(
            text(&[("content-digest", "sha=:AAAA:, crc32c=:AAAA:"), ("repr-digest", SHA)]),
            "Content-Digest has no digest by a supported algorithm, but only sha, crc32c. Supported are sha-256, \
             sha-512 and md5"
        );
    }
}
