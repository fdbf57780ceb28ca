//! The name of a project: the tenant that files belong to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name of 1 to 128 characters: letters, digits and `.`, `_`, `@`, `:`, `+`, `-`, beginning with a letter or digit.
/// It is case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ProjectName(String);

/// The error for a text that is not a [`ProjectName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a project's name has 1 to {max} characters from a-z, A-Z, 0-9, '.', '_', '@', ':', '+' and '-', and starts with a \
     letter or digit",
    max = ProjectName::MAX_CHARS
)]
pub struct NotAProjectName;

impl ProjectName {
    /// The maximum length.
    pub const MAX_CHARS: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a character may occur in a name.
    pub fn allows(character: char) -> bool {
        character.is_ascii_alphanumeric() || "._@:+-".contains(character)
    }
}

impl FromStr for ProjectName {
    type Err = NotAProjectName;

    fn from_str(text: &str) -> Result<Self, NotAProjectName> {
        let fits = (1..=Self::MAX_CHARS).contains(&text.len())
            && text.starts_with(|it: char| it.is_ascii_alphanumeric())
            && text.chars().all(Self::allows);
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAProjectName) }
    }
}

impl TryFrom<String> for ProjectName {
    type Error = NotAProjectName;

    fn try_from(text: String) -> Result<Self, NotAProjectName> {
        text.parse()
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tenants_are_accepted_and_patterns_and_spaces_are_not() {
        for name in ["default", "team-a", "Alice@example.com", "org:team+x", "7", &"x".repeat(128)] {
            assert_eq!(name.parse::<ProjectName>().map(|it| it.to_string()).as_deref(), Ok(name));
        }
        for refused in ["", "-x", ".x", "a b", "team-*", "a/b", "ä", "a\n", "a\0", &"x".repeat(129)] {
            assert_eq!(refused.parse::<ProjectName>(), Err(NotAProjectName), "{refused}");
        }
    }
}
