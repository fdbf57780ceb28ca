//! The quotas of the model: what each project uses, and which creations may be refused.
//!
//! Uploads that are overdue, and files that have expired, count until a sweep that happens at an unknown time. A file
//! that is sent in one request counts as more than its bytes until it is complete, and, if it was not completed, for
//! some time afterwards. So a project uses at least one amount and at most another one, and a creation that would fit
//! into the quota in one case and not in the other may be refused or not.

use std::collections::BTreeMap;

use super::checker::Exchange;
use super::operations::{Answer, Ask, Project};
use super::reference::{State, Upload, World};

/// What a project uses, or may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    pub bytes: usize,
    pub uploads: usize,
    /// Files, and uploads that may become files.
    pub files: usize,
}

/// The quotas of both projects.
pub const QUOTAS: Amount = Amount { bytes: 700, uploads: 4, files: 6 };

/// More than what a form adds to the bytes of its file.
const FORM_BYTES: usize = 700;

/// Whether what is known only to be within two bounds is assumed to be as small or as large as possible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assumed {
    #[default]
    Least,
    Most,
}

impl Amount {
    /// What an upload adds.
    pub fn of_upload(bytes: usize) -> Self {
        Self { bytes, uploads: 1, files: 1 }
    }

    /// What a file adds.
    pub fn of_file(bytes: usize) -> Self {
        Self { bytes, uploads: 0, files: 1 }
    }

    pub fn plus(self, other: Self) -> Self {
        let Self { bytes, uploads, files } = self;
        Self { bytes: bytes + other.bytes, uploads: uploads + other.uploads, files: files + other.files }
    }

    /// Whether this much and what is added to it exceeds a quota. One that nothing is added to is not exceeded, except
    /// that of bytes.
    pub fn exceeds_with(self, added: Self) -> bool {
        let total = self.plus(added);
        total.bytes > QUOTAS.bytes
            || (added.uploads > 0 && total.uploads > QUOTAS.uploads)
            || (added.files > 0 && total.files > QUOTAS.files)
    }
}

/// What forms may use in addition to their files: in this round, and those of earlier rounds that were not completed.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forms {
    now: BTreeMap<Project, Amount>,
    left: BTreeMap<Project, Amount>,
}

impl World {
    /// The state with what the forms of a round use.
    pub fn in_round(mut self, exchanges: &[Exchange]) -> Self {
        add_forms(&mut self.forms.now, exchanges, |_| true);
        self
    }

    /// The state after a round.
    pub fn after_round(mut self, exchanges: &[Exchange]) -> Self {
        self.forms.now.clear();
        add_forms(&mut self.forms.left, exchanges, |it| !matches!(it, Answer::File(_)));
        self.assumed = Assumed::default();
        self
    }

    /// Whether a creation exceeds a quota of its project. Ends the assumption, which is for one request.
    pub fn exceeds_a_quota(&mut self, project: Project, added: Amount) -> bool {
        let mut used = self.usage(project);
        if self.assumed == Assumed::Most {
            let [now, left] = [&self.forms.now, &self.forms.left].map(|it| it.get(&project).copied());
            used = used.plus(left.unwrap_or_default()).plus(now.unwrap_or_default());
            if added.uploads == 0 {
                // It is one of these forms itself.
                used.bytes -= added.bytes + FORM_BYTES;
                used.files -= 1;
            }
        }
        self.assumed = Assumed::default();
        used.exceeds_with(added)
    }

    fn usage(&self, project: Project) -> Amount {
        let is_counted = |it: &Upload| self.assumed == Assumed::Most || it.ended(self.now).is_none();
        let used = |it: &Upload| match &it.state {
            State::Pending => Amount::of_upload(it.declared.bytes),
            State::Completed(file) if file.deleted.is_none() => Amount::of_file(it.declared.bytes),
            State::Completed(_) | State::Cancelled { .. } => Amount::default(),
        };
        let of_project = self.uploads.values().filter(|it| it.project == project && is_counted(it));
        of_project.map(used).fold(Amount::default(), Amount::plus)
    }
}

fn add_forms(to: &mut BTreeMap<Project, Amount>, exchanges: &[Exchange], which: impl Fn(&Answer) -> bool) {
    for it in exchanges.iter().filter(|it| which(&it.answer)) {
        if let Ask::CreateFile(declared) = it.request.ask {
            let amount = to.entry(it.request.by).or_default();
            *amount = amount.plus(Amount::of_file(declared.bytes + FORM_BYTES));
        }
    }
}
