//! Client connections, below the HTTP parser: limits on connections, heads, bodies and responses, and the bypass for the
//! bytes of files.
//!
//! ```text
//! connections      the connections of a worker: their maximum number, eviction, the watchdog
//! activity         the phase of one connection, and the limits on each phase
//! socket           the socket that actix reads and writes; sends files with `sendfile`
//! exchange         one request and its response, as a middleware; the handler's body passes through it
//! output           detects clients that do not read, or read too slowly
//! pipeline         limits pipelined requests
//! unread           accounts for bytes that were read but not consumed
//! early_response   error responses to requests that do not reach a handler
//! ```

pub mod activity;
pub mod connections;
#[cfg(test)]
mod dispatcher_contract;
mod early_response;
pub mod exchange;
mod output;
mod pipeline;
mod socket;
mod unread;

pub use self::socket::{Connection, Flushed, Reading, SendfileQueue};
