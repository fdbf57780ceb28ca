//! Values of the settings that control how strictly files are validated for their purpose.

use clap::ValueEnum;
use windlass_engine::model::{JsonlCheck, MimePolicy};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MimePolicyOption {
    /// Allow the types that OpenAI lists for the purposes `assistants` and `vision`.
    Contract,
    /// Allow every type for every purpose.
    Any,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum JsonlCheckOption {
    /// Check nothing.
    Off,
    /// Check that the name ends in .jsonl.
    Name,
    /// Check the name, that each line is a JSON object, and that a batch has at most 50,000 lines.
    Lines,
}

impl From<MimePolicyOption> for MimePolicy {
    fn from(typed: MimePolicyOption) -> Self {
        match typed {
            MimePolicyOption::Contract => Self::Contract,
            MimePolicyOption::Any => Self::Any,
        }
    }
}

impl From<JsonlCheckOption> for JsonlCheck {
    fn from(typed: JsonlCheckOption) -> Self {
        match typed {
            JsonlCheckOption::Off => Self::Off,
            JsonlCheckOption::Name => Self::Name,
            JsonlCheckOption::Lines => Self::Lines,
        }
    }
}
