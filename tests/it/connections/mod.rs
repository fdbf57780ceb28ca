//! The limits on the connections of any client, with or without a key: their number, bytes and duration. A client that
//! is cut off receives a response where possible.

mod clients;
mod deadlines;
mod early_responses;
mod heads;
mod many;
mod peer;
mod pipelines;
mod proxies;
