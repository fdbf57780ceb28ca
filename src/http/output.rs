//! Whether a client reads what it is sent, judged by how much the socket takes.

use std::cell::Cell;

use tokio::time::Instant;

use super::connections::ConnectionLimits;

/// What has been written to the socket of one connection.
pub struct Output {
    sent: Cell<u64>,
    is_blocked: Cell<bool>,
    progress: Cell<Progress>,
}

/// What was last seen of a response that the client has yet to read.
#[derive(Clone, Copy)]
struct Progress {
    sent: u64,
    at: Instant,
    window_sent: u64,
    window_at: Instant,
}

impl Output {
    pub fn new(now: Instant) -> Self {
        let progress = Progress { sent: 0, at: now, window_sent: 0, window_at: now };
        Self { sent: Cell::new(0), is_blocked: Cell::new(false), progress: Cell::new(progress) }
    }

    /// Counts bytes that the socket took, and records whether it is full.
    pub fn sent(&self, bytes: u64, is_blocked: bool) {
        self.sent.set(self.sent.get() + bytes);
        self.is_blocked.set(is_blocked);
    }

    /// How many bytes the socket took.
    pub fn total(&self) -> u64 {
        self.sent.get()
    }

    /// Whether the client reads the response, at no less than the minimum rate. Called regularly.
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
