//! Makes a case that fails as small as it can be and still fail.

use super::driver::{Driver, Setup};
use super::operations::Case;

/// How often a case is tried before it counts as one that holds: what happens at once does not
/// always happen in the same order.
const TRIES: usize = 6;

/// A case that fails, and how.
pub struct Failure {
    pub case: Case,
    pub story: String,
}

/// The smallest case that is found by leaving things out of this one.
pub async fn shrink(setup: Setup, mut failure: Failure) -> Failure {
    let mut driver = Driver::start(setup).await;
    let mut at = 0;
    while let Some(smaller) = smaller_ones(&failure.case).into_iter().nth(at) {
        at += 1;
        for _ in 0..TRIES {
            let Some(running) = &driver else { return failure };
            if let Err(story) = running.run(&smaller).await {
                failure = Failure { case: smaller, story };
                // What is left of it would be found in the next one.
                driver = Driver::start(setup).await;
                at = 0;
                break;
            }
        }
    }
    failure
}

/// The case with one thing left out, the largest things first.
fn smaller_ones(case: &Case) -> Vec<Case> {
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
