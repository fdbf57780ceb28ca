//! Access to file data in the page cache. On Linux it is read without blocking, and sent to a socket without a copy;
//! other systems use portable calls.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

#[cfg(target_os = "linux")]
pub(super) use linux::{advise_sequential, read_kept, send};
#[cfg(not(target_os = "linux"))]
pub(super) use others::{advise_sequential, read_kept, send};

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IoSliceMut;

    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    use rustix::io::{ReadWriteFlags, preadv2};

    use super::{AsFd, File, io};

    /// Advises the kernel that a file is read sequentially. It then reads ahead in few large requests into large
    /// folios, which are copied or sent in half the time of single pages; `POSIX_FADV_WILLNEED` would read into single
    /// pages. Errors are ignored, since this is only a hint.
    pub fn advise_sequential(file: &File) {
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL).ok();
    }

    /// Reads cached bytes at an offset in a file, without blocking. Returns their number; 0 or an error if none are
    /// cached, or the file system does not support this.
    pub fn read_kept(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
        Ok(preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT)?)
    }

    /// Sends up to `most` bytes of a file, from an offset, as far as the socket accepts them. Returns their number.
    pub fn send(socket: impl AsFd, file: &File, at: u64, most: usize) -> io::Result<usize> {
        Ok(rustix::fs::sendfile(socket, file, Some(&mut { at }), most)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod others {
    use std::os::unix::fs::FileExt as _;

    use super::{AsFd, File, io};

    /// The maximum number of bytes copied per call.
    const COPY_BYTES: usize = 64 * 1024;

    pub fn advise_sequential(_: &File) {}

    pub fn read_kept(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    pub fn send(socket: impl AsFd, file: &File, at: u64, most: usize) -> io::Result<usize> {
        let mut bytes = vec![0; most.min(COPY_BYTES)];
        let length = file.read_at(&mut bytes, at)?;
        Ok(nix::unistd::write(socket, &bytes[..length])?)
    }
}
