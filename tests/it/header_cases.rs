//! Checks some thousand random `Range` and `Authorization` headers against references, as the fuzz target does, on every
//! run.

use fastrand::Rng;

#[path = "../../fuzz/headers.rs"]
mod headers;

const CASES: u64 = 50_000;

/// Pieces of both headers, right and wrong.
const PIECES: &[&str] = &[
    "bytes=",
    "bytes",
    "Bytes=",
    "=",
    "-",
    "--",
    "0",
    "1",
    "5",
    "99",
    "100",
    "18446744073709551615",
    "99999999999999999999999999999999999999999999",
    "+1",
    " ",
    "\t",
    ",",
    "lines=",
    "Bearer ",
    "bearer ",
    "BEARER\t",
    "Basic ",
    "sk-windlass-abc",
    "key",
    "\u{fc}",
    "\0",
];

fn value(rng: &mut Rng) -> String {
    let mut value = rng.choice(["bytes=", "Bearer ", "bytes=5-", "bytes=100", ""]).unwrap().to_owned();
    (0..rng.usize(..5)).for_each(|_| value.push_str(rng.choice(PIECES).unwrap()));
    value
}

#[test]
fn ranges_and_keys_are_parsed_as_by_the_reference() {
    let readings: Vec<_> =
        (0..CASES).filter_map(|seed| headers::check(value(&mut Rng::with_seed(seed)).as_bytes())).collect();
    let with_key = readings.iter().filter(|it| it.key.is_some()).count();
    let partial = readings.iter().filter(|it| it.range.as_ref().is_some_and(|it| !it.is_empty())).count();
    let outside = readings.iter().filter(|it| it.range.as_ref().is_some_and(std::ops::Range::is_empty)).count();
    assert!(with_key.min(partial).min(outside) > 100, "too few: {with_key}, {partial}, {outside}");
}
