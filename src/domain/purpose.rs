//! What a File is for.

use std::fmt;
use std::str::FromStr;

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

/// A text that is no purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals']")]
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
