//! Tests with SDKs as clients: the suites for Python and Node (also in a web page) are in `tests/sdk/`, the Rust suite
//! is here, and one for programs without an SDK (`signed_urls`). `document` sends requests that Schemathesis generates
//! from the `OpenAPI` document, `integrations` runs the commands in `docs/integrations/`.

mod browser;
mod document;
mod integrations;
mod rust;
mod signed_urls;
mod suites;
