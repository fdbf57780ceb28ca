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
    "is given twice",
    "is not UTF-8 text",
    "has no end",
    "cannot be read",
    "ended before its end",
];

/// Fields and their contents, with something else here and there.
fn input(rng: &mut Rng) -> Vec<u8> {
    let mut input = vec![rng.u8(..224), rng.u8(..)];
    input.extend((0..input[1] % 32).map(|_| rng.u8(..40)));
    for _ in 0..rng.usize(..6) {
        input.push(rng.u8(23..28));
        for _ in 0..rng.usize(..8) {
            input.push(if rng.bool() { rng.u8(b'a'..) } else { rng.u8(..17) });
        }
        if rng.u8(..4) == 0 {
            input.extend([7, rng.u8(17..21), rng.u8(..), rng.u8(..), 21, rng.u8(..), 3]);
        }
    }
    input.push(9);
    input
}

#[test]
fn every_split_of_a_form_gives_the_same() {
    let outcomes: Vec<_> = (0..CASES as u64)
        .map(|seed| form::check(&input(&mut Rng::with_seed(seed))))
        .map(|it| it.refused.unwrap_or_else(|| format!("{} fields", it.fields.len())))
        .collect();
    for outcome in OUTCOMES {
        let times = outcomes.iter().filter(|it| it.contains(outcome)).count();
        assert!(times >= CASES / 100, "{outcome}: {times}");
    }
}
