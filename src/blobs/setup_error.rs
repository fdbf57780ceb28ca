//! Why a place for objects cannot be used as it is set up: each says what to change.

use std::time::Duration;

use super::Error;

/// What is wrong with the settings of a store, or with what they lead to.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The text is no place where objects can be kept.
    #[error("'{0}' is no store; use file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")]
    NotALocation(String),
    /// The place is one in kind, but its name or prefix cannot be used.
    #[error("'{location}' cannot be used: {problem}")]
    UnfitLocation {
        /// As it was written.
        location: String,
        /// What would be right.
        problem: &'static str,
    },
    /// A variable of the store's client cannot be used.
    #[error("{name}{value} cannot be used: {problem}")]
    Variable {
        /// Which.
        name: String,
        /// Its value in brackets; nothing where it may be a secret.
        value: String,
        /// What would be right.
        problem: String,
    },
    /// A profile of Amazon's shared files cannot be used.
    #[error("{0}")]
    Profile(String),
    /// The bucket is not there and could not be made.
    #[error("the bucket is missing and could not be made: {0}")]
    NoBucket(String),
    /// The bucket cannot be used.
    #[error("{place}: {problem}")]
    Unusable {
        /// Which, and at which server.
        place: String,
        /// What is wrong, and what to change.
        problem: String,
        /// What the store said.
        source: Box<Error>,
    },
    /// The store gave no answer at the start.
    #[error(
        "{place} gave no answer within {} s (waited for {what}): is the host right, and is it reached from here?",
        waited.as_secs()
    )]
    Silent {
        /// Which, and at which server.
        place: String,
        /// What it was asked for.
        what: &'static str,
        /// For how long.
        waited: Duration,
    },
}
