//! Bytes of an object on their way to a reader: in our memory, or where the system keeps those of a file.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use super::page_cache;

/// What is looked at in one go of what the system keeps: the processor's own cache holds it.
const LOOK_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where a thread that must not wait looks at bytes. Such threads are few.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LOOK_BYTES]);
}

/// Bytes that are to be sent, in one of two places.
#[derive(Debug, Clone)]
pub enum Stretch {
    /// In memory.
    Memory(Bytes),
    /// In the page cache, through which they have just been read: a socket takes them from there.
    File(Arc<File>, Range<u64>),
}

impl Stretch {
    /// How many bytes they are.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, range) => range.end - range.start,
        }
    }

    /// Shows all of them, in order. May wait for a disk.
    ///
    /// # Errors
    /// When the file cannot be read, or ends too early (`UnexpectedEof`).
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

    /// As many of a file's bytes as the system keeps at the moment, shown in order. None where it keeps none, and
    /// wherever anything else is amiss, which one who may wait finds out: Linux 5.9 and 5.10 give 0 bytes for those
    /// that they do not keep (preadv2(2)), and file systems and sandboxes that do not know the question, an error.
    pub(super) fn kept(file: &Arc<File>, range: Range<u64>, mut seen: impl FnMut(&[u8])) -> Option<Self> {
        let mut left = range.clone();
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = |into: &mut [u8], at| page_cache::read_kept(file, into, at);
            while !left.is_empty() && look_next(&mut left, buffer, &mut seen, &mut read).is_ok() {}
        });
        (left.start > range.start).then(|| Self::File(Arc::clone(file), range.start..left.start))
    }

    /// The same bytes, in memory.
    ///
    /// # Errors
    /// As for [`Stretch::look`].
    pub(super) fn in_memory(&self) -> io::Result<Self> {
        let mut bytes = Vec::new();
        self.look(|seen| bytes.extend_from_slice(seen))?;
        Ok(Self::Memory(bytes.into()))
    }

    /// Sends as many of them as a socket takes at once, and keeps the others.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none now; any other when it takes none any more, or the file ends too early.
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

/// Reads the next bytes of a file, and shows them.
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
    fn what_is_kept_ends_where_nothing_is_kept_and_that_is_no_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 100_000]).unwrap();
        let file = Arc::new(file);
        let mut seen = 0;
        let kept = Stretch::kept(&file, 10..200_000, |it| seen += it.len());
        assert_eq!((kept.map(|it| it.length()), seen), (Some(99_990), 99_990));
        assert!(Stretch::kept(&file, 100_000..200_000, |_| seen += 1).is_none());
        assert_eq!(seen, 99_990);
    }
}
