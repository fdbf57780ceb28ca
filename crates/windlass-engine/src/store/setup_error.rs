//! Errors in the configuration of a store. Each message includes what to change.

use std::time::Duration;

use super::Error;

/// An invalid store setting, or a store that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The text is not a valid store location.
    #[error(
        "'{0}' is not a valid store location; use file:///path, s3://bucket/prefix, gs://bucket/prefix or \
         az://container/prefix"
    )]
    NotALocation(String),
    /// The location is well-formed, but its name or prefix is invalid.
    #[error("'{location}' cannot be used: {problem}")]
    UnfitLocation {
        /// The location as configured.
        location: String,
        /// What is wrong, or what is expected instead.
        problem: &'static str,
    },
    /// An environment variable for the store's client is invalid.
    #[error("{name}{value} cannot be used: {problem}")]
    Variable {
        /// The name of the variable.
        name: String,
        /// Its value in parentheses; empty if it may be a secret.
        value: String,
        /// What is wrong, or what is expected instead.
        problem: String,
    },
    /// No client for a store can be created, whatever the settings are.
    #[error("no client for the store can be created: {0}")]
    NoClient(String),
    /// A profile in the shared AWS configuration files is invalid.
    #[error("{0}")]
    Profile(String),
    /// The bucket does not exist and could not be created.
    #[error("the bucket does not exist and could not be created: {0}")]
    NoBucket(String),
    /// The bucket cannot be used.
    #[error("{place}: {problem}")]
    Unusable {
        /// The bucket and its server.
        place: String,
        /// What is wrong, and what to change.
        problem: String,
        /// The error from the store.
        source: Box<Error>,
    },
    /// The bucket does not return what was written to it.
    #[error("{place}: {problem}; is this an S3-compatible store, and is there no cache in front of it?")]
    Lossy {
        /// The bucket and its server.
        place: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The store did not respond at startup.
    #[error(
        "{place} did not respond within {} s ({what}): is the host correct, and is it reachable from this machine?",
        waited.as_secs()
    )]
    Silent {
        /// The bucket and its server.
        place: String,
        /// The operation that timed out.
        what: &'static str,
        /// The time limit.
        waited: Duration,
    },
}
