//! A buffer for the bytes of a form that have not been classified yet.

use std::mem;

use bytes::{Bytes, BytesMut};

/// The bytes that have arrived but have not been consumed. A piece is copied only if it has to be joined to bytes of an
/// earlier one.
///
/// Invariant: at least one of the two fields is empty.
#[derive(Default)]
pub struct Unread {
    joined: BytesMut,
    piece: Bytes,
}

impl Unread {
    /// All buffered bytes.
    pub fn bytes(&self) -> &[u8] {
        if self.joined.is_empty() { &self.piece } else { &self.joined }
    }

    /// Adds the next piece.
    pub fn push(&mut self, piece: Bytes) {
        if self.bytes().is_empty() {
            self.piece = piece;
            return;
        }
        self.joined.reserve(self.piece.len() + piece.len());
        self.joined.extend_from_slice(&mem::take(&mut self.piece));
        self.joined.extend_from_slice(&piece);
    }

    /// Removes and returns the first `count` bytes. Panics if there are fewer.
    pub fn take(&mut self, count: usize) -> Bytes {
        if self.joined.is_empty() { self.piece.split_to(count) } else { self.joined.split_to(count).freeze() }
    }
}
