//! Checks a few thousand random forms against the reference parser of the fuzz target, on every run.

use fastrand::Rng;

#[path = "../../fuzz/form/mod.rs"]
mod form;

const CASES: usize = 4000;

/// The results that must all occur: otherwise too little of the random input resembles a form.
const OUTCOMES: &[&str] = &[
    "0 fields",
    "1 fields",
    "2 fields",
    "Unknown parameter",
    "is given more than once",
    "is not UTF-8 text",
    "is not terminated",
    "cannot be read",
    "is incomplete",
];

/// The results that must all occur for random part headers.
const HEADER_OUTCOMES: &[&str] = &[
    "1 fields",
    "Unknown parameter",
    "is not of the form",
    "two Content-Disposition",
    "has no Content-Disposition",
    "quotes of its parameter",
    "is sent with 'Content-Transfer-Encoding",
    "is sent with 'Content-Encoding",
];

/// The input bytes that determine how a form arrives: its boundary, its end, and the lengths of its pieces.
fn arrival(rng: &mut Rng) -> Vec<u8> {
    let mut arrival = vec![rng.u8(..224), rng.u8(..)];
    arrival.extend((0..arrival[1] % 32).map(|_| rng.u8(..40)));
    arrival
}

/// Input for a form with up to five fields, some of them with unusual pieces in between.
fn whole_form(rng: &mut Rng) -> Vec<u8> {
    let mut input = arrival(rng);
    for _ in 0..rng.usize(..6) {
        input.push(rng.u8(23..28));
        for _ in 0..rng.usize(..8) {
            input.push(if rng.bool() { rng.u8(b'a'..) } else { rng.u8(..17) });
        }
        if rng.u8(..3) == 0 {
            input.extend([7, rng.u8(17..21), rng.u8(..), rng.u8(..), 21, rng.u8(..), 3]);
        }
    }
    input.push(9);
    input
}

/// Input for a form of one part, whose header consists of random pieces.
fn head(rng: &mut Rng) -> Vec<u8> {
    let mut input = arrival(rng);
    input.push(7);
    if rng.u8(..16) > 0 {
        input.extend([rng.u8(17..21), rng.u8(..), rng.u8(..)]);
    }
    for _ in 0..rng.usize(..6) {
        match rng.u8(..8) {
            0 => input.push(rng.u8(b' '..0x7f)),
            1 => input.extend([30, rng.u8(..)]),
            2 => input.extend([21, rng.u8(..)]),
            3 => input.extend([22, rng.u8(..)]),
            _ => input.extend([28, rng.u8(..)]),
        }
    }
    if rng.bool() {
        input.push(b'"');
    }
    input.extend([3, b'x', 9]);
    input
}

#[track_caller]
fn check(input: fn(&mut Rng) -> Vec<u8>, expected: &[&str]) {
    let outcomes: Vec<_> = (0..CASES as u64)
        .map(|seed| form::check(&input(&mut Rng::with_seed(seed))))
        .map(|it| it.refused.unwrap_or_else(|| format!("{} fields", it.fields.len())))
        .collect();
    let times = |outcome: &str| outcomes.iter().filter(|it| it.contains(outcome)).count();
    let rare: Vec<_> = expected.iter().map(|it| (it, times(it))).filter(|it| it.1 < CASES / 200).collect();
    assert!(rare.is_empty(), "too few cases with these results: {rare:?}");
}

#[test]
fn a_form_is_parsed_the_same_however_it_is_split() {
    check(whole_form, OUTCOMES);
}

#[test]
fn part_headers_are_parsed_as_by_the_reference() {
    check(head, HEADER_OUTCOMES);
}

/// Input that the fuzz target found, after which one of the two parsers was corrected.
#[test]
fn a_line_that_is_continued_is_a_header_only_if_it_has_a_colon() {
    let found = form::check(b":\x01\x00\x00\x00\x1a\x00\x08\x14)\x9eOAMEAM\x05@\x06\x1c\x1c\x1c\x1c:\x00\x07");
    assert!(found.refused.is_some_and(|it| it.contains("is not of the form 'Name: value'")));
}
