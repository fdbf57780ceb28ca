//! What a File is for.

use std::fmt;
use std::str::FromStr;

use super::Shown;

/// The purposes that a client may give (contract: `CreateFileRequest.purpose`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Used in the Assistants API.
    Assistants,
    /// Input of the Batch API; such a File expires after 30 days unless the client says otherwise.
    Batch,
    /// Training data.
    FineTune,
    /// Images.
    Vision,
    /// Anything.
    UserData,
    /// Data sets for evaluations.
    Evals,
}

/// A purpose that a list of Files can be filtered by: those of [`Purpose`], and those of files that only OpenAI's own
/// services create, which do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurposeFilter(&'static str);

/// A text that is no purpose of any File.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals', 'assistants_output', \
     'batch_output', 'fine-tune-results']",
    Shown(.0)
)]
pub struct NotAPurposeFilter(pub String);

/// A text that is no purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals']", Shown(.0))]
pub struct NotAPurpose(pub String);

impl Purpose {
    /// All of them, in the order the contract lists them.
    pub const ALL: [Self; 6] =
        [Self::Assistants, Self::Batch, Self::FineTune, Self::Vision, Self::UserData, Self::Evals];

    /// The name on the wire and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assistants => "assistants",
            Self::Batch => "batch",
            Self::FineTune => "fine-tune",
            Self::Vision => "vision",
            Self::UserData => "user_data",
            Self::Evals => "evals",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = NotAPurpose;

    fn from_str(text: &str) -> Result<Self, NotAPurpose> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or_else(|| NotAPurpose(text.to_owned()))
    }
}

impl PurposeFilter {
    /// The purposes of files that clients cannot create (contract: `OpenAIFile.purpose`).
    const OF_OUTPUTS: [&str; 3] = ["assistants_output", "batch_output", "fine-tune-results"];

    /// The name on the wire and in the ledger.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for PurposeFilter {
    type Err = NotAPurposeFilter;

    fn from_str(text: &str) -> Result<Self, NotAPurposeFilter> {
        let mut names = Purpose::ALL.into_iter().map(Purpose::as_str).chain(Self::OF_OUTPUTS);
        names.find(|it| *it == text).map(Self).ok_or_else(|| NotAPurposeFilter(text.to_owned()))
    }
}
