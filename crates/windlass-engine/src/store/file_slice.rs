//! Bytes of an object on their way to a client: in this process's memory, or in the page cache of a file.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use super::page_cache;

/// How many bytes of a file are read at once to be checked: few enough for the processor's cache.
const LOOK_BYTES: usize = 64 * 1024;

thread_local! {
    /// The read buffer of a thread that must not block. There are few such threads.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LOOK_BYTES]);
}

/// Bytes to be sent, in memory or in a file.
#[derive(Debug, Clone)]
pub enum FileSlice {
    /// In memory.
    Memory(Bytes),
    /// A range of a file that has just been read, and so is in the page cache, from where a socket can send it.
    File(Arc<File>, Range<u64>),
}

impl FileSlice {
    /// The number of bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, range) => range.end - range.start,
        }
    }

    /// Passes all bytes to `seen`, in order. May block on the disk.
    ///
    /// # Errors
    /// If the file cannot be read, or ends too early (`UnexpectedEof`).
    pub fn look(&self, mut seen: impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => seen(bytes),
            Self::File(file, range) => {
                let mut buffer = vec![0; LOOK_BYTES];
                let mut left = range.clone();
                while !left.is_empty() {
                    look_next(&mut left, &mut buffer, &mut seen, |into, at| file.read_at(into, at))?;
                }
            }
        }
        Ok(())
    }

    /// The beginning of a range of a file, as far as it is in the page cache. Its bytes are passed to `seen`, in order,
    /// without blocking. `None` if none are cached, or on any error, which a blocking read will then report. Uncached
    /// bytes cannot be distinguished from an error: Linux 5.9 and 5.10 return 0 bytes for them (preadv2(2)), and file
    /// systems and sandboxes that do not support the flag return an error.
    pub(super) fn kept(file: &Arc<File>, range: Range<u64>, mut seen: impl FnMut(&[u8])) -> Option<Self> {
        let mut left = range.clone();
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = |into: &mut [u8], at| page_cache::read_kept(file, into, at);
            while !left.is_empty() && look_next(&mut left, buffer, &mut seen, &mut read).is_ok() {}
        });
        (left.start > range.start).then(|| Self::File(Arc::clone(file), range.start..left.start))
    }

    /// Reads the bytes into memory.
    ///
    /// # Errors
    /// Like [`FileSlice::look`].
    pub(super) fn in_memory(&self) -> io::Result<Self> {
        let mut bytes = Vec::new();
        self.look(|seen| bytes.extend_from_slice(seen))?;
        Ok(Self::Memory(bytes.into()))
    }

    /// Sends as many bytes as a socket accepts at once. The others remain in `self`.
    ///
    /// # Errors
    /// `WouldBlock` if the socket accepts none now; another error if it failed, or the file ends too early.
    pub fn send(&mut self, socket: impl AsFd) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let sent = nix::unistd::write(socket, bytes)?;
                bytes.advance(sent);
            }
            Self::File(file, range) => {
                let most = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                match page_cache::send(socket, file, range.start, most)? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    sent => range.start += sent as u64,
                }
            }
        }
        Ok(())
    }
}

/// Reads the next bytes of a file, and passes them to `seen`.
fn look_next(
    left: &mut Range<u64>,
    buffer: &mut [u8],
    seen: &mut impl FnMut(&[u8]),
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let most = usize::try_from(left.end - left.start).unwrap_or(usize::MAX).min(buffer.len());
    match read(&mut buffer[..most], left.start) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
        Ok(length) => {
            seen(&buffer[..length]);
            left.start += length as u64;
            Ok(())
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn cached_bytes_are_returned_up_to_the_end_of_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 100_000]).unwrap();
        let file = Arc::new(file);
        let mut seen = 0;
        let kept = FileSlice::kept(&file, 10..200_000, |it| seen += it.len());
        assert_eq!((kept.map(|it| it.length()), seen), (Some(99_990), 99_990));
        assert!(FileSlice::kept(&file, 100_000..200_000, |_| seen += 1).is_none());
        assert_eq!(seen, 99_990);
    }
}
