//! The integration tests: one binary, which links once and shares one harness.
//!
//! Every test starts the real program on its own database and its own store, and sends it HTTP requests. `sql` tests
//! the schema and the queries directly.
#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod api;
mod audit;
mod connections;
#[cfg(feature = "crash-points")]
mod crash;
mod environment;
mod faults;
mod form_cases;
mod header_cases;
mod json_cases;
mod model;
mod process;
mod quotas;
mod races;
mod sdk;
mod sql;
mod support;
mod tidy;
