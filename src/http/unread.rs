//! What a connection has read that no handler has taken: long heads, and bodies ahead of their handlers. Both are
//! limited for all connections of a worker together.

use std::cell::Cell;
use std::rc::Rc;

use super::connections::ConnectionLimits;

/// How much of a body is read ahead of its handler; the rest waits in the kernel's buffers.
const READ_AHEAD: usize = 64 * 1024;
/// The same at first, and while [`ConnectionLimits::read_ahead_bytes`] are in use.
const MIN_READ_AHEAD: usize = 8 * 1024;
/// In between it is this share of what the handler has taken. actix keeps a buffer of up to twice as much for as long as
/// the connection lasts, which is little beside what the handler has reserved for those bytes.
const READ_AHEAD_SHARE: usize = 8;

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
    /// How much of the body was taken.
    taken: Cell<usize>,
}

impl Unread {
    pub fn new(held: Rc<Held>) -> Self {
        Self { held, head: Cell::new(0), body: Cell::new(0), taken: Cell::new(0) }
    }

    /// Nothing is unread, and another head or body begins.
    pub fn restart(&self) {
        self.set_head(0);
        self.take_body(usize::MAX);
        self.taken.set(0);
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
        self.taken.set(self.taken.get().saturating_add(taken));
        self.held.bodies.set(self.held.bodies.get() - taken);
    }

    /// Whether enough has been read ahead of the handler.
    pub fn is_ahead(&self, limits: &ConnectionLimits) -> bool {
        let is_short = self.held.bodies.get() >= limits.read_ahead_bytes;
        let most = if is_short { MIN_READ_AHEAD } else { READ_AHEAD };
        self.body.get() >= (self.taken.get() / READ_AHEAD_SHARE).clamp(MIN_READ_AHEAD, most)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.restart();
    }
}
