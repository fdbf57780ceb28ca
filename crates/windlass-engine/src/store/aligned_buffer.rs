//! A page-aligned buffer for a chunk of an object on its way to the store, suitable for direct I/O.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::MmapMut;

/// The alignment of direct writes, in memory and in the file.
pub(super) const PAGE_BYTES: usize = 4096;

/// From this size on, the kernel may back memory with huge pages.
#[cfg(target_os = "linux")]
const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A page-aligned buffer with a fixed capacity.
///
/// Invariant: the memory is mapped from the system and returned to it with the buffer. The allocator would
/// fragment it with other allocations and never return it: a burst of Parts would permanently take up twice its memory.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Option<MmapMut>,
    length: usize,
}

impl Buffer {
    /// An empty buffer with a capacity of at least `bytes` bytes.
    ///
    /// # Errors
    /// If the system cannot map the memory.
    pub fn with_room(bytes: usize) -> io::Result<Self> {
        let memory = MmapMut::map_anon(bytes.max(1).next_multiple_of(PAGE_BYTES))?;
        // With huge pages, the first byte would take up 2 MiB, nearly half of a chunk for a bucket.
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_PAGE_BYTES {
            memory.advise(memmap2::Advice::NoHugePage).ok();
        }
        Ok(Self { memory: Some(memory), length: 0 })
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |it| &it[..self.length])
    }

    /// The length of the content.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The capacity: at least the number of bytes that was requested, in whole pages.
    pub fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, |it| it.len())
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// If they exceed the capacity.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.memory.as_deref_mut().unwrap_or_default()[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    /// Removes the content, and keeps the memory.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// The content as [`Bytes`], without a copy, and a handle to get the buffer back.
    pub(super) fn share(self) -> (Bytes, Shared) {
        let shared = Shared(Arc::new(self));
        (Bytes::from_owner(shared.clone()), shared)
    }
}

/// A buffer whose content is shared.
#[derive(Clone)]
pub(super) struct Shared(Arc<Buffer>);

impl Shared {
    /// The buffer, emptied; one without memory if the content is still shared.
    pub(super) fn reclaim(self) -> Buffer {
        let mut buffer = Arc::try_unwrap(self.0).unwrap_or_default();
        buffer.clear();
        buffer
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_page_aligned_and_does_not_move() {
        let mut buffer = Buffer::with_room(10_000).unwrap();
        let page = buffer.bytes().as_ptr();
        assert_eq!(page.align_offset(PAGE_BYTES), 0);
        buffer.extend(&[1; 4_000]);
        buffer.extend(&[2; 6_000]);
        assert_eq!((buffer.len(), buffer.bytes()[4_000], buffer.bytes().as_ptr()), (10_000, 2, page));
        let (bytes, shared) = buffer.share();
        assert_eq!((bytes.len(), bytes[3_999]), (10_000, 1));
        drop(bytes);
        let mut buffer = shared.reclaim();
        assert!(buffer.is_empty() && buffer.capacity() >= 10_000);
        buffer.extend(b"next");
        assert_eq!((buffer.bytes(), buffer.bytes().as_ptr()), (&b"next"[..], page));
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn extending_a_buffer_without_memory_panics() {
        Buffer::default().extend(b"bytes");
    }

    #[test]
    fn reclaiming_a_buffer_that_is_still_shared_returns_one_without_memory() {
        let mut buffer = Buffer::with_room(10).unwrap();
        buffer.extend(b"bytes");
        let (bytes, shared) = buffer.share();
        assert_eq!(shared.reclaim().capacity(), 0);
        assert_eq!(&bytes[..], b"bytes");
    }
}
