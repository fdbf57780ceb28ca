//! What any client, with or without a key, can do with connections: their number, bytes and duration are bounded, and
//! the client sees the response.

mod clients;
mod deadlines;
mod early_responses;
mod heads;
mod many;
mod peer;
mod pipelines;
mod proxies;
