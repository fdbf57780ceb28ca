//! Accounts for bytes that have been read but not consumed by a handler: long heads, and bodies that are read ahead.
//! Both are limited for all connections of a worker together.

use std::cell::Cell;
use std::rc::Rc;

use super::connections::ConnectionLimits;

/// The maximum number of bytes of a body that are read ahead of its handler; the rest waits in the kernel's buffers.
const READ_AHEAD: usize = 64 * 1024;
/// The limit at the start of a body, and while [`ConnectionLimits::read_ahead_bytes`] are in use.
const MIN_READ_AHEAD: usize = 8 * 1024;
/// In between, the limit is the number of bytes that the handler has consumed, divided by this. actix keeps a buffer of
/// up to twice the limit for the lifetime of the connection, which is little compared to the memory that the handler
/// has reserved for the consumed bytes.
const READ_AHEAD_SHARE: usize = 8;

/// Heads shorter than this are not counted in [`ConnectionLimits::heads_bytes`].
const SHORT_HEAD: usize = 4096;

/// The bytes that all connections of a worker hold.
#[derive(Debug, Default)]
pub struct Held {
    heads: Cell<usize>,
    bodies: Cell<usize>,
}

impl Held {
    /// The number of bytes of long heads that are still arriving.
    pub fn heads(&self) -> usize {
        self.heads.get()
    }
}

/// The bytes that one connection holds. They are subtracted from the total on drop.
pub struct Unread {
    held: Rc<Held>,
    head: Cell<usize>,
    body: Cell<usize>,
    /// The number of bytes of the body that the handler has consumed.
    taken: Cell<usize>,
}

impl Unread {
    pub fn new(held: Rc<Held>) -> Self {
        Self { held, head: Cell::new(0), body: Cell::new(0), taken: Cell::new(0) }
    }

    /// Resets the counts: nothing is unread, and a new head or body begins.
    pub fn restart(&self) {
        self.set_head(0);
        self.take_body(usize::MAX);
        self.taken.set(0);
    }

    /// Sets the size of the head that is arriving.
    pub fn set_head(&self, bytes: usize) {
        let bytes = bytes.saturating_sub(SHORT_HEAD);
        let before = self.head.replace(bytes);
        self.held.heads.set(self.held.heads.get() + bytes - before);
    }

    /// Whether a long head is arriving.
    pub fn has_long_head(&self) -> bool {
        self.head.get() > 0
    }

    /// Counts bytes that were read while a request was being handled.
    pub fn add_body(&self, bytes: usize) {
        self.body.set(self.body.get() + bytes);
        self.held.bodies.set(self.held.bodies.get() + bytes);
    }

    /// Records that the handler has consumed `bytes` bytes, or all if there were fewer.
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
