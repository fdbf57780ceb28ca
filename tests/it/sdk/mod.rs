//! The official SDKs as clients: Python and Node as their own suites in `tests/sdk/`, Rust here.

mod rust;
mod suites;
