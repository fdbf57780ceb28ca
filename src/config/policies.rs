//! The values of the settings that say how strictly files are checked against their purpose.

use clap::ValueEnum;

use crate::domain::{JsonlCheck, MimePolicy};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MimePolicyOption {
    /// The types that OpenAI lists for the purposes `assistants` and `vision`.
    Contract,
    /// Every type for every purpose.
    Any,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum JsonlCheckOption {
    /// Nothing.
    Off,
    /// That the name ends in .jsonl.
    Name,
    /// The name, that each line is a JSON object, and that a batch has at most 50,000 of them.
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
