//! What a connection has read that no handler has taken: long heads, and bodies ahead of their handlers. Both are
//! limited for all connections of a worker together.

use std::cell::Cell;
use std::rc::Rc;

use super::connections::ConnectionLimits;

/// How much of a body is read ahead of its handler; the rest waits in the kernel's buffers.
const READ_AHEAD: usize = 64 * 1024;
/// The same while [`ConnectionLimits::read_ahead_bytes`] are in use.
const MIN_READ_AHEAD: usize = 8 * 1024;

/// Heads shorter than this are not counted in [`ConnectionLimits::heads_bytes`].
const SHORT_HEAD: usize = 4096;

/// What all connections of a worker hold, in bytes.
#[derive(Debug, Default)]
pub struct Held {
    heads: Cell<usize>,
    bodies: Cell<usize>,
}

impl Held {
    /// Bytes of long heads that are still arriving.
    pub fn heads(&self) -> usize {
        self.heads.get()
    }
}

/// What one connection holds of that.
pub struct Unread {
    held: Rc<Held>,
    head: Cell<usize>,
    body: Cell<usize>,
}

impl Unread {
    pub fn new(held: Rc<Held>) -> Self {
        Self { held, head: Cell::new(0), body: Cell::new(0) }
    }

    /// The head that is arriving has so many bytes.
    pub fn set_head(&self, bytes: usize) {
        let bytes = bytes.saturating_sub(SHORT_HEAD);
        let before = self.head.replace(bytes);
        self.held.heads.set(self.held.heads.get() + bytes - before);
    }

    /// Whether a long head is arriving.
    pub fn has_long_head(&self) -> bool {
        self.head.get() > 0
    }

    /// Bytes were read while a request was being handled.
    pub fn add_body(&self, bytes: usize) {
        self.body.set(self.body.get() + bytes);
        self.held.bodies.set(self.held.bodies.get() + bytes);
    }

    /// The handler took so many bytes, or all if there were fewer.
    pub fn take_body(&self, bytes: usize) {
        let taken = bytes.min(self.body.get());
        self.body.set(self.body.get() - taken);
        self.held.bodies.set(self.held.bodies.get() - taken);
    }

    /// Whether enough has been read ahead of the handler.
    pub fn is_ahead(&self, limits: &ConnectionLimits) -> bool {
        let is_short = self.held.bodies.get() >= limits.read_ahead_bytes;
        self.body.get() >= if is_short { MIN_READ_AHEAD } else { READ_AHEAD }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.set_head(0);
        self.take_body(usize::MAX);
    }
}
