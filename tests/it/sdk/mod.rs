//! The official SDKs as clients: Python and Node as their own suites in `tests/sdk/`, Rust here; Node's in a web page,
//! too. And a client that is generated from the `OpenAPI` document alone.

mod browser;
mod document;
mod rust;
mod suites;
