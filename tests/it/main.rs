//! One test binary: it links once and shares one harness.
//!
//! The real program is started for every test, on a database of its own and a store of its own, and
//! spoken to over HTTP; `sql` goes at the schema directly.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect ends there")]

mod api;
mod connections;
#[cfg(feature = "crash-points")]
mod crash;
mod model;
mod process;
mod races;
mod sdk;
mod splits;
mod sql;
mod support;
mod surroundings;
mod tidy;
mod trouble;
