//! What the system does for bytes of a file that it keeps in memory: Linux shows them without waiting for a
//! disk, and hands them to a socket without a copy. Other systems are asked as they are everywhere.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

#[cfg(target_os = "linux")]
pub(super) use linux::{read_kept, reads_forwards, send};
#[cfg(not(target_os = "linux"))]
pub(super) use others::{read_kept, reads_forwards, send};

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IoSliceMut;

    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    use rustix::io::{ReadWriteFlags, preadv2};

    use super::{AsFd, File, io};

    /// Tells the system that a file is read from its beginning to its end. It reads on by itself then, in few
    /// large requests into large folios, which are copied or sent in half the time of single pages; to ask for
    /// what is read next (`POSIX_FADV_WILLNEED`) makes single pages. It may decline.
    pub fn reads_forwards(file: &File) {
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL).ok();
    }

    /// Reads what is kept at a place in a file. How many bytes that were; 0 or any error if that cannot be told.
    pub fn read_kept(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
        Ok(preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT)?)
    }

    /// Sends as much of a file as a socket takes. How many bytes that were.
    pub fn send(socket: impl AsFd, file: &File, at: u64, most: usize) -> io::Result<usize> {
        Ok(rustix::fs::sendfile(socket, file, Some(&mut { at }), most)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod others {
    use std::os::unix::fs::FileExt as _;

    use super::{AsFd, File, io};

    /// What is copied at once.
    const COPY_BYTES: usize = 64 * 1024;

    pub fn reads_forwards(_: &File) {}

    pub fn read_kept(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    pub fn send(socket: impl AsFd, file: &File, at: u64, most: usize) -> io::Result<usize> {
        let mut bytes = vec![0; most.min(COPY_BYTES)];
        let length = file.read_at(&mut bytes, at)?;
        Ok(nix::unistd::write(socket, &bytes[..length])?)
    }
}
