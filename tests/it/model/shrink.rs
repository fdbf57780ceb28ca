//! Shrinks a failing case for as long as it keeps failing.

use super::driver::{Driver, Setup};
use super::operations::Case;

/// How often a case is run before it counts as passing: concurrent requests may take effect in another order each time.
const TRIES: usize = 6;

/// A failing case, and the record of its failure.
pub struct Failure {
    pub case: Case,
    pub record: String,
}

/// Removes parts of a case for as long as it still fails.
pub async fn shrink(setup: Setup, mut failure: Failure) -> Failure {
    let mut driver = Driver::start(setup).await;
    let mut at = 0;
    while let Some(smaller) = smaller_cases(&failure.case).into_iter().nth(at) {
        at += 1;
        for _ in 0..TRIES {
            let Some(running) = &driver else { return failure };
            if let Err(record) = running.run(&smaller).await {
                failure = Failure { case: smaller, record };
                // Objects left behind by the failed case would affect the next one.
                driver = Driver::start(setup).await;
                at = 0;
                break;
            }
        }
    }
    failure
}

/// All variants of a case with one part removed, the largest parts first.
fn smaller_cases(case: &Case) -> Vec<Case> {
    let without = |change: &dyn Fn(&mut Case)| {
        let mut smaller = case.clone();
        change(&mut smaller);
        smaller
    };
    let mut found = Vec::new();
    for round in (0..case.rounds.len()).rev() {
        found.push(without(&|it| drop(it.rounds.remove(round))));
    }
    for (number, round) in case.rounds.iter().enumerate() {
        for request in (0..round.requests.len()).rev() {
            found.push(without(&|it| drop(it.rounds[number].requests.remove(request))));
        }
        found.push(without(&|it| it.rounds[number].event = None));
        found.push(without(&|it| it.rounds[number].jump = 0));
    }
    found.retain(|it| it != case);
    found
}
