//! The fuzz target of the headers with digests: each line of the input is the value of a header, which its first byte
//! selects.
#![no_main]

use windlass::http::digests::Claims;
use windlass_engine::model::{DigestAlgorithm, RunningDigests};

const HEADERS: [&str; 3] = ["Content-Digest", "Repr-Digest", "Content-MD5"];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let lines: Vec<_> = input
        .split(|it| *it == b'\n')
        .filter_map(|it| it.split_first())
        .map(|(first, value)| (HEADERS[usize::from(*first) % HEADERS.len()], value))
        .collect();
    let parsed = Claims::parse(|name| lines.iter().filter(move |it| it.0 == name).map(|it| it.1));
    let Ok(claims) = parsed else { return };
    let claimed = claims.digests();
    let is_empty = DigestAlgorithm::ALL.iter().all(|it| claimed.get(*it).is_none());
    assert_eq!(is_empty, lines.is_empty(), "a header was ignored");
    // The input has the digests of no content only if it was written for that.
    let actual = RunningDigests::by(DigestAlgorithm::ALL).finish();
    let all_match =
        DigestAlgorithm::ALL.iter().all(|it| claimed.get(*it).is_none_or(|digest| actual.get(*it) == Some(digest)));
    let verified = claims.verify().finish();
    assert!(verified.is_err() || all_match, "a wrong digest was accepted");
});
