//! The bytes of a body that are not classified yet.

use std::mem;

use bytes::{Bytes, BytesMut};

/// The bytes that have arrived and have not been taken. A piece is copied only if it has to be joined to
/// bytes of an earlier one. At least one of the two is empty.
#[derive(Default)]
pub struct Unread {
    joined: BytesMut,
    piece: Bytes,
}

impl Unread {
    /// All of them.
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

    /// Takes so many of them.
    pub fn take(&mut self, count: usize) -> Bytes {
        if self.joined.is_empty() { self.piece.split_to(count) } else { self.joined.split_to(count).freeze() }
    }
}
