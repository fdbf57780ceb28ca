//! What an API key permits: the projects that it acts for, and its scopes.

use std::fmt;
use std::str::FromStr;

use wildmatch::WildMatch;
use windlass_types::{ProjectId, ProjectName};

/// A pattern of project names, in which `*` stands for any characters, also none.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectPattern(WildMatch);

/// The error for a text that is not a [`ProjectPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pattern of project names has 1 to 128 characters that a project's name may have, or '*' for any of them")]
pub struct NotAProjectPattern;

impl ProjectPattern {
    /// Whether the name of a project matches.
    pub fn matches(&self, name: &ProjectName) -> bool {
        self.0.matches(name.as_str())
    }
}

impl FromStr for ProjectPattern {
    type Err = NotAProjectPattern;

    fn from_str(text: &str) -> Result<Self, NotAProjectPattern> {
        let fits = (1..=ProjectName::MAX_CHARS).contains(&text.len())
            && text.chars().all(|it| it == '*' || ProjectName::allows(it));
        if fits { Ok(Self(WildMatch::new(text))) } else { Err(NotAProjectPattern) }
    }
}

impl fmt::Display for ProjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Retrieve, list and download.
    Read,
    /// Create, change and delete.
    Write,
}

/// The error for a text that is not a [`Scope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is 'read' or 'write'")]
pub struct NotAScope;

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];

    /// The name in commands, messages and the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or(NotAScope)
    }
}

/// The projects that a key acts for.
#[derive(Debug, Clone, PartialEq)]
pub enum Grant<P> {
    /// A project key: this project.
    Project(P),
    /// A service key: the project that each request names, if it matches. Such a key may also create Files of output
    /// purposes.
    Service {
        /// Patterns, of which one must match.
        acts_for: Vec<ProjectPattern>,
        /// Whether a project that does not exist is created.
        creates_projects: bool,
    },
}

/// A grant as it is found by a key.
pub type FoundGrant = Grant<ProjectId>;

/// A grant to be stored. A project that does not exist is created.
pub type NewGrant = Grant<ProjectName>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let matches =
            |pattern: &str, name: &str| pattern.parse::<ProjectPattern>().unwrap().matches(&name.parse().unwrap());
        for (pattern, name) in
            [("team-*", "team-a"), ("team-*", "team-"), ("*", "x"), ("a*c", "abbc"), ("exact", "exact")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("team-*", "teams-a"), ("team-*", "Team-a"), ("a*c", "abcd"), ("exact", "exact2"), ("x", "y")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_has_only_characters_of_names_and_stars() {
        for refused in ["", "a?", "a b", "[a]", "ä*", &"*".repeat(129)] {
            assert_eq!(refused.parse::<ProjectPattern>(), Err(NotAProjectPattern), "{refused}");
        }
    }
}
