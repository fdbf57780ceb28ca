//! Bytes of an object on their way to a reader: in our memory, or where the system keeps those of a file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

/// What is looked at in one go of what the system keeps: the processor's own cache holds it.
const LOOK_BYTES: u64 = 64 * 1024;

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

    /// Shows all of them, in order.
    ///
    /// # Errors
    /// When the file cannot be read, or ends too early (`UnexpectedEof`).
    pub fn look(&self, mut seen: impl FnMut(&[u8])) -> io::Result<()> {
        let (file, range) = match self {
            Self::Memory(bytes) => {
                seen(bytes);
                return Ok(());
            }
            Self::File(file, range) => (file, range),
        };
        // Memory that nobody has set to zero before.
        let mut bytes = Vec::with_capacity(usize::try_from(LOOK_BYTES).unwrap_or_default());
        let mut at = range.start;
        while at < range.end {
            bytes.clear();
            match pread(file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    let most = usize::try_from(range.end - at).unwrap_or(usize::MAX);
                    bytes.truncate(most);
                    seen(&bytes);
                    at += bytes.len() as u64;
                }
            }
        }
        Ok(())
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
                let sent = rustix::io::write(socket, bytes)?;
                bytes.advance(sent);
            }
            Self::File(file, range) => {
                let most = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                if rustix::fs::sendfile(socket, file, Some(&mut range.start), most)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(())
    }
}
