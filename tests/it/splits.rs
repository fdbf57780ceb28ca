//! A few thousand random forms, held against the fuzz target's reference on every run.

use fastrand::Rng;

#[path = "../../fuzz/form/mod.rs"]
mod form;

const CASES: usize = 4000;

/// What must become of some of them: otherwise it is not forms that are compared.
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

/// The expected outcomes for some heads.
const OUTCOMES_OF_HEADS: &[&str] = &[
    "1 fields",
    "Unknown parameter",
    "is not of the form",
    "two Content-Disposition",
    "has no Content-Disposition",
    "quotes of its parameter",
    "is sent with 'Content-Transfer-Encoding",
    "is sent with 'Content-Encoding",
];

/// How a form arrives: its boundary, its end, and the lengths of its pieces.
fn arrival(rng: &mut Rng) -> Vec<u8> {
    let mut arrival = vec![rng.u8(..224), rng.u8(..)];
    arrival.extend((0..arrival[1] % 32).map(|_| rng.u8(..40)));
    arrival
}

/// Fields and their contents, with something else here and there.
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

/// One part with a head of many pieces.
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
    assert!(rare.is_empty(), "too few cases to compare: {rare:?}");
}

#[test]
fn every_split_of_a_form_gives_the_same() {
    check(whole_form, OUTCOMES);
}

#[test]
fn every_head_gives_what_the_reference_gives() {
    check(head, OUTCOMES_OF_HEADS);
}
