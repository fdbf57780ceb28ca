//! What any client, with or without a key, can do to a connection: it is bounded in bytes, time and number, and the
//! client sees the response.

mod clients;
mod deadlines;
mod early_responses;
mod heads;
mod many;
mod peer;
mod proxies;
