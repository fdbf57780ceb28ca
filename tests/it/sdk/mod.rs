//! The official SDKs as clients: Python and Node as their own suites in `tests/sdk/`, Rust here; Node's in a web page,
//! too. And a client that is made from nothing but the `OpenAPI` document.

mod browser;
mod document;
mod rust;
mod suites;
