//! Purposes of Files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Shown;

/// A purpose that a client may specify for a File.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = FilePurpose))]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Training data.
    #[serde(rename = "fine-tune")]
    FineTune,
    /// Used in the Assistants API.
    Assistants,
    /// Input of the Batch API. Such a File expires after 30 days by default.
    Batch,
    /// Any other use.
    UserData,
    /// Images.
    Vision,
    /// Data sets for evaluations.
    Evals,
}

/// A purpose by which lists of Files can be filtered: one that a client may specify, or one of files that only OpenAI's
/// own services create.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = FilePurposeFilter))]
#[serde(rename_all = "snake_case")]
pub enum AnyPurpose {
    /// Training data.
    #[serde(rename = "fine-tune")]
    FineTune,
    /// Used in the Assistants API.
    Assistants,
    /// Input of the Batch API.
    Batch,
    /// Any other use.
    UserData,
    /// Images.
    Vision,
    /// Data sets for evaluations.
    Evals,
    /// Output of the Assistants API.
    AssistantsOutput,
    /// Output of the Batch API.
    BatchOutput,
    /// Metrics of a fine-tuning job.
    #[serde(rename = "fine-tune-results")]
    FineTuneResults,
}

/// The error for a text that is not a [`Purpose`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not one of [{}]", Shown(.0), quoted(Purpose::ALL.map(Purpose::as_str)))]
pub struct NotAPurpose(pub String);

/// The error for a text that is not an [`AnyPurpose`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not one of [{}]", Shown(.0), quoted(AnyPurpose::ALL.map(AnyPurpose::as_str)))]
pub struct NotAnyPurpose(pub String);

fn quoted<const N: usize>(names: [&str; N]) -> String {
    names.map(|it| format!("'{it}'")).join(", ")
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 6] =
        [Self::FineTune, Self::Assistants, Self::Batch, Self::UserData, Self::Vision, Self::Evals];

    /// Name on the wire and in the ledger.
    pub fn as_str(self) -> &'static str {
        AnyPurpose::from(self).as_str()
    }
}

impl From<Purpose> for AnyPurpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::FineTune => Self::FineTune,
            Purpose::Assistants => Self::Assistants,
            Purpose::Batch => Self::Batch,
            Purpose::UserData => Self::UserData,
            Purpose::Vision => Self::Vision,
            Purpose::Evals => Self::Evals,
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

impl AnyPurpose {
    /// All purposes.
    pub const ALL: [Self; 9] = [
        Self::FineTune,
        Self::Assistants,
        Self::Batch,
        Self::UserData,
        Self::Vision,
        Self::Evals,
        Self::AssistantsOutput,
        Self::BatchOutput,
        Self::FineTuneResults,
    ];

    /// Name on the wire and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FineTune => "fine-tune",
            Self::Assistants => "assistants",
            Self::Batch => "batch",
            Self::UserData => "user_data",
            Self::Vision => "vision",
            Self::Evals => "evals",
            Self::AssistantsOutput => "assistants_output",
            Self::BatchOutput => "batch_output",
            Self::FineTuneResults => "fine-tune-results",
        }
    }
}

impl fmt::Display for AnyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AnyPurpose {
    type Err = NotAnyPurpose;

    fn from_str(text: &str) -> Result<Self, NotAnyPurpose> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or_else(|| NotAnyPurpose(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_has_the_same_name_in_json_and_in_text() {
        for purpose in Purpose::ALL {
            assert_eq!(serde_json::to_string(&purpose).unwrap(), format!("\"{purpose}\""));
            assert_eq!(purpose.as_str().parse(), Ok(purpose));
        }
        for purpose in AnyPurpose::ALL {
            assert_eq!(serde_json::to_string(&purpose).unwrap(), format!("\"{}\"", purpose.as_str()));
        }
        assert_eq!(
            "x".parse::<Purpose>().unwrap_err().to_string(),
            "'x' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals']"
        );
    }
}
