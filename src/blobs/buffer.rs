//! A chunk of an object on its way to the store, in memory from which a disk can take it directly.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::MmapMut;

/// What memory and files are divided into: direct writes begin and end at multiples of it.
pub(super) const PAGE_BYTES: usize = 4096;

/// From this size on, the kernel may back memory with huge pages.
#[cfg(target_os = "linux")]
const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes on their way, beginning at a page of memory. There is room for a fixed number of them.
///
/// Invariant: the memory is the system's own, and goes back to it with the buffer. From the allocator it
/// would be kept between what else is allocated: a burst of parts would take twice its memory, for good.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Option<MmapMut>,
    length: usize,
}

impl Buffer {
    /// An empty one with room for so many bytes, at least.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn with_room(bytes: usize) -> io::Result<Self> {
        let memory = MmapMut::map_anon(bytes.max(1).next_multiple_of(PAGE_BYTES))?;
        // With huge pages, the first byte would take up 2 MiB, nearly half of a chunk for a bucket.
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_PAGE_BYTES {
            memory.advise(memmap2::Advice::NoHugePage).ok();
        }
        Ok(Self { memory: Some(memory), length: 0 })
    }

    /// The bytes in it.
    pub fn bytes(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |it| &it[..self.length])
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, |it| it.len())
    }

    /// Takes more bytes.
    ///
    /// # Panics
    /// When there is no room for them.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.memory.as_deref_mut().unwrap_or_default()[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    /// Forgets the bytes, and keeps the memory.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// The bytes as something that can be shared, and the buffer in which they are.
    pub(super) fn share(self) -> (Bytes, Shared) {
        let shared = Shared(Arc::new(self));
        (Bytes::from_owner(shared.clone()), shared)
    }
}

/// A buffer that others read as well.
#[derive(Clone)]
pub(super) struct Shared(Arc<Buffer>);

impl Shared {
    /// The buffer, empty; one without memory where it is shared still.
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
    fn its_bytes_begin_at_a_page_and_stay_there() {
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
    fn one_without_memory_takes_no_bytes() {
        Buffer::default().extend(b"bytes");
    }

    #[test]
    fn one_that_is_shared_still_is_replaced_by_one_without_memory() {
        let mut buffer = Buffer::with_room(10).unwrap();
        buffer.extend(b"bytes");
        let (bytes, shared) = buffer.share();
        assert_eq!(shared.reclaim().capacity(), 0);
        assert_eq!(&bytes[..], b"bytes");
    }
}
