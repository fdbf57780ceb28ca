//! Computes which states (`World`) are possible after the observed responses. If there is none, the test fails.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::operations::{Answer, Ask, Name, Request};
use super::reference::World;

/// A request and its response.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub request: Request,
    pub answer: Answer,
}

impl Exchange {
    /// The kind of the request and the kind of its response, for the tally.
    pub fn kind(&self) -> String {
        let first_word =
            |text: String| text.split(|it: char| !it.is_alphanumeric()).next().unwrap_or_default().to_owned();
        let answer = if let Answer::Refused(why) = self.answer {
            format!("{why:?}")
        } else {
            first_word(format!("{:?}", self.answer))
        };
        format!("{}: {answer}", first_word(format!("{:?}", self.request.ask)))
    }
}

/// The possible states of the system, given all responses so far.
pub type Worlds = BTreeSet<World>;

/// The possible states after concurrent requests, which took effect in any order. A request without a response was done
/// completely or not at all.
pub fn after(before: &Worlds, exchanges: &[Exchange], ages: &[Name]) -> Worlds {
    // The possible states, indexed by the set of requests (as bits) that have taken effect.
    let mut reached = vec![Worlds::new(); 1 << exchanges.len()];
    reached[0] = before.iter().cloned().map(|it| it.in_round(exchanges)).collect();
    for done in 0..reached.len() - 1 {
        for world in std::mem::take(&mut reached[done]) {
            for (number, it) in exchanges.iter().enumerate().filter(|(number, _)| done & (1 << number) == 0) {
                reached[done | 1 << number].extend(step(&world, it, ages));
            }
        }
    }
    reached.pop().unwrap().into_iter().map(|it| it.after_round(exchanges)).collect()
}

/// The possible states after one request.
fn step(before: &World, exchange: &Exchange, ages: &[Name]) -> Worlds {
    let mut after = Worlds::new();
    for before in before.perhaps_swept(&exchange.request) {
        let mut world = before.clone();
        let admitted = world.perform(&exchange.request, ages);
        if matches!(exchange.answer, Answer::Nothing(_)) {
            after.extend([before, world]);
        } else if admitted.contains(&exchange.answer) {
            after.insert(world);
        }
    }
    after
}

/// Whether a request may have no response although no fault was injected.
pub fn may_be_silent(request: &Request) -> bool {
    matches!(request.ask, Ask::AddPart { truncated: true, .. })
}

/// Explains a failure: the responses that are not allowed in any state, even if each request were the only one.
pub fn explain(before: &Worlds, exchanges: &[Exchange], ages: &[Name]) -> String {
    let mut text = format!("no order of these requests gives these responses in any of {} states\n", before.len());
    for it in exchanges.iter().filter(|it| before.iter().all(|world| step(world, it, ages).is_empty())) {
        let admitted = before.iter().next().map(|world| world.clone().perform(&it.request, ages)).unwrap_or_default();
        let admitted: Vec<_> = admitted.iter().map(Answer::to_string).collect();
        let _ = writeln!(text, "    {}, if it were the only request, allows: {}", it.request, admitted.join(" | "));
    }
    let _ = writeln!(text, "one of the possible states before: {:#?}", before.first());
    text
}
