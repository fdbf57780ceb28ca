//! A chunk of an object on its way to the store, in memory from which a disk can take it directly.

use bytes::Bytes;

/// What memory and files are divided into: direct writes begin and end at multiples of it.
pub(super) const PAGE_BYTES: usize = 4096;

/// Bytes on their way, beginning at a page of memory. There is room for a fixed number of them.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// An empty one with room for so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(bytes + PAGE_BYTES);
        let start = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        memory.resize(start, 0);
        Self { memory, start }
    }

    /// The bytes in it.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.memory.len() - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more it takes as it is.
    pub fn room(&self) -> usize {
        self.memory.capacity() - self.memory.len()
    }

    /// Takes more bytes, of which there is room for.
    pub fn extend(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "what grows moves away from its page");
        self.memory.extend_from_slice(bytes);
    }

    /// Forgets the bytes, and keeps the memory.
    pub fn clear(&mut self) {
        self.memory.truncate(self.start);
    }

    /// The memory as something that can be shared, and where the bytes begin in it.
    pub(super) fn share(self) -> (Bytes, usize) {
        (Bytes::from(self.memory), self.start)
    }

    /// The memory of before, empty; or none where it is shared still.
    pub(super) fn reclaim(memory: Bytes, start: usize) -> Self {
        let Ok(memory) = memory.try_into_mut() else { return Self::default() };
        let mut buffer = Self { memory: memory.into(), start };
        buffer.clear();
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_bytes_begin_at_a_page_and_stay_there() {
        let mut buffer = Buffer::with_room(10_000);
        let page = buffer.bytes().as_ptr();
        assert_eq!(page.align_offset(PAGE_BYTES), 0);
        buffer.extend(&[1; 4_000]);
        buffer.extend(&[2; 6_000]);
        assert_eq!((buffer.len(), buffer.bytes()[4_000], buffer.bytes().as_ptr()), (10_000, 2, page));
        let (memory, start) = buffer.share();
        let mut buffer = Buffer::reclaim(memory, start);
        assert!(buffer.is_empty() && buffer.room() >= 10_000);
        buffer.extend(b"next");
        assert_eq!((buffer.bytes(), buffer.bytes().as_ptr()), (&b"next"[..], page));
    }
}
