//! The settings of client connections.

use std::time::Duration;

use clap::Args;

use super::values::{MOST_BYTES, positive_duration, size};
use crate::domain::{ByteCount, Limits};
use crate::http::ConnectionLimits;

/// The share of the memory for bodies that long request heads may take: one in so many.
const HEADS_SHARE: u64 = 16;

/// The bounds on what clients can hold.
#[derive(Debug, Args)]
pub struct ConnectionOptions {
    /// The lowest rate at which a client may send a body or read a response, in bytes per second; 0 for none. For a
    /// body it is averaged over twice WINDLASS_BODY_IDLE, for a response over twice WINDLASS_SEND_TIMEOUT.
    #[arg(long, global = true, env = "WINDLASS_MIN_RATE", default_value_t = Limits::default().min_rate, value_parser = size(0..=MOST_BYTES))]
    pub min_rate: ByteCount,
    /// How long the request line and the headers of a request may take to arrive.
    #[arg(long, global = true, env = "WINDLASS_HEAD_TIMEOUT", default_value = "10s", value_parser = positive_duration)]
    head_timeout: Duration,
    /// How long a client may go without reading any more of a response.
    #[arg(long, global = true, env = "WINDLASS_SEND_TIMEOUT", default_value = "2m", value_parser = positive_duration)]
    send_timeout: Duration,
    /// How long an idle connection is kept open. It should be longer than a load balancer in front keeps its connections,
    /// so that no request is sent on one that is being closed.
    #[arg(long, global = true, env = "WINDLASS_KEEP_ALIVE", default_value = "75s", value_parser = positive_duration)]
    keep_alive: Duration,
    /// The maximum number of client connections. Beyond it, the one that has been open for longest without a valid key, or
    /// else the one that has been idle for longest, is closed. If not set, three quarters of the file descriptors that
    /// the process may open, but at most 16384.
    #[arg(long, global = true, env = "WINDLASS_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    max_connections: Option<u32>,
}

impl ConnectionOptions {
    /// The bounds, where bodies may take so much memory.
    pub fn limits(&self, buffer_bytes: ByteCount) -> ConnectionLimits {
        ConnectionLimits {
            max: self.max_connections.map(|it| usize::try_from(it).unwrap_or(usize::MAX)),
            head_timeout: self.head_timeout,
            keep_alive: self.keep_alive,
            send_timeout: self.send_timeout,
            min_rate: self.min_rate.get(),
            heads_bytes: usize::try_from(buffer_bytes.get() / HEADS_SHARE).unwrap_or(usize::MAX),
        }
    }
}
