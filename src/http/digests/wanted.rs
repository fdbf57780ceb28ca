//! Digests of a File in the response to a download: those that are known, by the client's preference (RFC 9530, section
//! 4).

use actix_web::HttpResponseBuilder;
use actix_web::http::header::{HeaderMap, HeaderValue};
use windlass_engine::model::{DigestAlgorithm, Digests};

use super::dictionary::{self, Value};
use super::{CONTENT_DIGEST, Member, REPR_DIGEST, named};

/// Adds the digests of a File to the response to a request with these headers. `Content-Digest`, which is of the bytes in
/// the response, is added only if the client wants it and the response has the whole File.
pub fn add(response: &mut HttpResponseBuilder, request: &HeaderMap, digests: &Digests, is_whole: bool) {
    let wants = |header: &str| request.get_all(header).map(HeaderValue::as_bytes).collect::<Vec<_>>();
    if let Some(value) = preferred(digests, &wants("Want-Repr-Digest")) {
        response.insert_header((REPR_DIGEST, value));
    }
    let wanted = wants("Want-Content-Digest");
    if is_whole
        && !wanted.is_empty()
        && let Some(value) = preferred(digests, &wanted)
    {
        response.insert_header((CONTENT_DIGEST, value));
    }
}

/// The known digests by the algorithms that are wanted, the most wanted first. All known ones if the client has no
/// preference, or wants only unknown ones. A preference that cannot be read is ignored, since it is only a hint. `None`
/// if none is left.
fn preferred(digests: &Digests, lines: &[&[u8]]) -> Option<String> {
    let preferences: Vec<(DigestAlgorithm, i64)> = dictionary::parse(lines)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(key, value)| match value {
            Value::Integer(weight @ 0..=10) => Some((named(&key)?, weight)),
            Value::Integer(_) | Value::Bytes(_) | Value::Other => None,
        })
        .collect();
    // The last of several members with the same key counts.
    let weight = |algorithm| preferences.iter().rev().find(|it| it.0 == algorithm).map(|it| it.1);
    let known = DigestAlgorithm::ALL.into_iter().filter_map(|it| Some((it, digests.get(it)?)));
    let mut allowed: Vec<_> = known.filter(|it| weight(it.0) != Some(0)).collect();
    if allowed.iter().any(|it| weight(it.0).is_some()) {
        allowed.retain(|it| weight(it.0).is_some());
    }
    allowed.sort_by_key(|it| -weight(it.0).unwrap_or_default());
    let members: Vec<_> = allowed.into_iter().map(|it| Member(it.0, it.1).to_string()).collect();
    (!members.is_empty()).then(|| members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_of_the_known_digests_are_sent_first() {
        let mut digests = Digests::default();
        digests.set(DigestAlgorithm::Sha256, &[0; 32]);
        digests.set(DigestAlgorithm::Md5, &[0; 16]);
        let (sha, md5) = (format!("sha-256=:{}=:", "A".repeat(43)), format!("md5=:{}==:", "A".repeat(22)));
        let both = format!("{sha}, {md5}");
        let reversed = format!("{md5}, {sha}");
        for (wanted, sent) in [
            ("", Some(&both)),
            ("sha-256=1", Some(&sha)),
            ("md5=10", Some(&md5)),
            ("sha-256=1, md5=3", Some(&reversed)),
            ("md5=0", Some(&sha)),
            ("md5=0, sha-256=0", None),
            ("sha-512=10", Some(&both)),
            ("crc32c=5", Some(&both)),
            ("md5=11", Some(&both)),
            ("md5=9, md5=0", Some(&sha)),
            ("not a dictionary!", Some(&both)),
            ("md5=:AAAA:", Some(&both)),
        ] {
            assert_eq!(preferred(&digests, &[wanted.as_bytes()]).as_ref(), sent, "{wanted}");
        }
        assert_eq!(preferred(&digests, &[]), Some(both));
        assert_eq!(preferred(&Digests::default(), &[]), None);
    }
}
