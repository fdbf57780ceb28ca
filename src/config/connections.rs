//! Settings of client connections.

use std::time::Duration;

use clap::Args;
use windlass_engine::model::Limits;
use windlass_types::ByteCount;

use super::values::{MOST_BYTES, positive_duration, size};
use crate::http::ConnectionLimits;

/// Long request heads, and bytes that are read ahead of the handlers, may each use one part in this many of the memory
/// for bodies.
const SHARE: u64 = 16;

/// Limits on client connections.
#[derive(Debug, Args)]
pub struct ConnectionOptions {
    /// The minimum rate at which a client must send a body or read a response, in bytes per second; 0 for no minimum.
    /// It is averaged over twice WINDLASS_BODY_IDLE for a body, and over twice WINDLASS_SEND_TIMEOUT for a response.
    #[arg(long, global = true, env = "WINDLASS_MIN_RATE", default_value_t = Limits::default().min_rate, value_parser = size(0..=MOST_BYTES))]
    pub min_rate: ByteCount,
    /// The timeout for receiving the request line and the headers of a request.
    #[arg(long, global = true, env = "WINDLASS_HEAD_TIMEOUT", default_value = "10s", value_parser = positive_duration)]
    head_timeout: Duration,
    /// How long a client may stop reading a response before the connection is closed.
    #[arg(long, global = true, env = "WINDLASS_SEND_TIMEOUT", default_value = "2m", value_parser = positive_duration)]
    send_timeout: Duration,
    /// How long an idle connection is kept open. It should exceed the idle timeout of a load balancer in front, so that
    /// no request is sent on a connection that is being closed.
    #[arg(long, global = true, env = "WINDLASS_KEEP_ALIVE", default_value = "75s", value_parser = positive_duration)]
    keep_alive: Duration,
    /// The maximum number of client connections. When it is exceeded, one is closed: the oldest one without a valid key
    /// if more than half have none, otherwise the one that has been idle longest. If not set, the smallest of: 16384,
    /// three quarters of the file descriptors that the process may open, and all but 192 of them.
    #[arg(long, global = true, env = "WINDLASS_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    max_connections: Option<u32>,
}

impl ConnectionOptions {
    /// The connection limits, given the memory for bodies.
    pub fn limits(&self, buffer_bytes: ByteCount) -> ConnectionLimits {
        let share = usize::try_from(buffer_bytes.get() / SHARE).unwrap_or(usize::MAX);
        ConnectionLimits {
            max: self.max_connections.map(|it| usize::try_from(it).unwrap_or(usize::MAX)),
            head_timeout: self.head_timeout,
            keep_alive: self.keep_alive,
            send_timeout: self.send_timeout,
            min_rate: self.min_rate.get(),
            heads_bytes: share,
            read_ahead_bytes: share,
        }
    }
}
