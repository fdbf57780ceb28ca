//! Which worlds are possible after what clients were told: none is a failure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::operations::{Answer, Ask, Name, Request};
use super::reference::World;

/// A request and what became of it, as far as its client knows.
#[derive(Debug, Clone)]
pub struct Told {
    pub request: Request,
    pub answer: Answer,
}

impl Told {
    /// What kind of request had what kind of answer.
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

/// The worlds that there may be: all that is known of the real one.
pub type Worlds = BTreeSet<World>;

/// The worlds after requests that were under way at once, in some order. One that was not answered
/// has been done in full or not at all.
pub fn after(before: &Worlds, told: &[Told], ages: &[Name]) -> Worlds {
    // The worlds by the set of the requests, as bits, that have had their turn.
    let mut reached = vec![Worlds::new(); 1 << told.len()];
    reached[0].clone_from(before);
    for done in 0..reached.len() - 1 {
        for world in std::mem::take(&mut reached[done]) {
            for (number, it) in told.iter().enumerate().filter(|(number, _)| done & (1 << number) == 0) {
                reached[done | 1 << number].extend(step(&world, it, ages));
            }
        }
    }
    reached.pop().unwrap()
}

/// The worlds after one request.
fn step(before: &World, told: &Told, ages: &[Name]) -> Worlds {
    let mut after = Worlds::new();
    for before in before.perhaps_swept(&told.request) {
        let mut world = before.clone();
        let admitted = world.perform(&told.request, ages);
        if matches!(told.answer, Answer::Nothing(_)) {
            after.extend([before, world]);
        } else if admitted.contains(&told.answer) {
            after.insert(world);
        }
    }
    after
}

/// Whether a request may remain unanswered where nothing went wrong.
pub fn may_be_silent(request: &Request) -> bool {
    matches!(request.ask, Ask::AddPart { broken_off: true, .. })
}

/// For a person: which of the answers no world allows, were each request the only one.
pub fn explain(before: &Worlds, told: &[Told], ages: &[Name]) -> String {
    let mut text = format!("no order of these requests has these answers, in none of {} worlds\n", before.len());
    for it in told.iter().filter(|it| before.iter().all(|world| step(world, it, ages).is_empty())) {
        let admitted = before.iter().next().map(|world| world.clone().perform(&it.request, ages)).unwrap_or_default();
        let admitted: Vec<_> = admitted.iter().map(Answer::to_string).collect();
        let _ = writeln!(text, "    {}, by itself, may be answered with: {}", it.request, admitted.join(" | "));
    }
    let _ = writeln!(text, "one of the worlds before: {:#?}", before.first());
    text
}
