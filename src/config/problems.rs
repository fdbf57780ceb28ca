//! What can be wrong with the command line and the settings. No message contains a secret.

use std::fmt;

use windlass_engine::store::SetupError;

use super::contradictions::Contradiction;

/// The error returned when the command line or the settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// An error from the command line parser, including requests for help and the version.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// All invalid settings.
    #[error("{}", list(.0))]
    Settings(Vec<BadSetting>),
    /// The path of the data directory or of this executable cannot be determined, for example because the working
    /// directory no longer exists.
    #[error("the path of the data directory or of this program cannot be determined")]
    Path(#[from] std::io::Error),
}

/// An invalid setting.
#[derive(Debug)]
pub struct BadSetting {
    /// The variable of the setting.
    pub(super) name: String,
    /// What is wrong, and what would be right.
    message: String,
}

impl BadSetting {
    /// An invalid value. `shown` is the flag or the variable that has it; `value` is `None` if it is a secret.
    pub(super) fn value(name: &str, shown: &str, value: Option<&str>, reason: impl fmt::Display) -> Self {
        let message = match value {
            Some(value) => format!("{shown} is '{value}': {reason}"),
            None => format!("{shown}: {reason}"),
        };
        Self { name: name.to_owned(), message }
    }

    /// A setting and its file that are both set.
    pub(super) fn both(name: &str, shown: &str, shown_file: &str) -> Self {
        Self { name: name.to_owned(), message: format!("{shown} and {shown_file} are both set: unset one of them") }
    }
}

impl From<Contradiction> for BadSetting {
    fn from(it: Contradiction) -> Self {
        Self { name: it.name.to_owned(), message: format!("{}: {}", it.name, it.reason) }
    }
}

impl From<SetupError> for BadSetting {
    fn from(it: SetupError) -> Self {
        Self { name: "WINDLASS_STORE".to_owned(), message: it.to_string() }
    }
}

impl From<UnknownVariable> for BadSetting {
    fn from(it: UnknownVariable) -> Self {
        Self { name: it.name.clone(), message: it.to_string() }
    }
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn list(settings: &[BadSetting]) -> String {
    settings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nwindlass: ")
}

/// An environment variable that looks like a setting but is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    pub(super) name: String,
    /// The setting with the most similar name, if it is similar enough.
    pub(super) nearest: Option<String>,
    /// Whether it differs from that only by a slip of the keyboard.
    pub(super) is_misspelled: bool,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable {} is not a setting", self.name)?;
        self.nearest.as_ref().map_or(Ok(()), |it| write!(f, "; did you mean {it}?"))
    }
}
