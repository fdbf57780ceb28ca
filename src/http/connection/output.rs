//! Detects clients that do not read the response or read it too slowly, by the bytes that the socket accepts.

use std::cell::Cell;

use tokio::time::Instant;

use super::connections::ConnectionLimits;

/// The output of one connection.
pub struct Output {
    sent: Cell<u64>,
    is_blocked: Cell<bool>,
    progress: Cell<Progress>,
}

/// The progress of a response while the socket is full.
#[derive(Clone, Copy)]
struct Progress {
    /// Bytes sent by the last check.
    sent: u64,
    /// When that number last changed.
    at: Instant,
    /// Bytes sent at the start of the window over which the rate is averaged.
    window_sent: u64,
    /// When the window started.
    window_at: Instant,
}

impl Output {
    pub fn new(now: Instant) -> Self {
        let progress = Progress { sent: 0, at: now, window_sent: 0, window_at: now };
        Self { sent: Cell::new(0), is_blocked: Cell::new(false), progress: Cell::new(progress) }
    }

    /// Counts bytes that the socket accepted, and records whether it is full.
    pub fn sent(&self, bytes: u64, is_blocked: bool) {
        self.sent.set(self.sent.get() + bytes);
        self.is_blocked.set(is_blocked);
    }

    /// The number of bytes that the socket has accepted.
    pub fn total(&self) -> u64 {
        self.sent.get()
    }

    /// Whether the client reads the response, and at the minimum rate or faster. To be called regularly.
    pub fn is_being_read(&self, now: Instant, limits: &ConnectionLimits) -> bool {
        let (sent, last) = (self.sent.get(), self.progress.get());
        if !self.is_blocked.get() {
            self.progress.set(Progress { sent, at: now, window_sent: sent, window_at: now });
            return true;
        }
        let at = if sent == last.sent { last.at } else { now };
        let window = now - last.window_at;
        let is_over = window >= 2 * limits.send_timeout;
        let (window_sent, window_at) = if is_over { (sent, now) } else { (last.window_sent, last.window_at) };
        self.progress.set(Progress { sent, at, window_sent, window_at });
        let is_slow = is_over && sent - last.window_sent < limits.min_rate.saturating_mul(window.as_secs());
        now - at < limits.send_timeout && !is_slow
    }
}
