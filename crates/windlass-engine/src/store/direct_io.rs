//! A file that is written with direct I/O if the file system supports it: whole pages go from this process's memory to
//! the disk, bypassing the page cache. They are not copied, and a sync has no dirty pages of them to write back.

use std::fs::File;
use std::io::{self, Write as _};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::aligned_buffer::PAGE_BYTES;

/// The minimum size of a direct write; fewer bytes go through the page cache.
pub(super) const MIN_DIRECT_BYTES: usize = 64 * 1024;

#[cfg(target_os = "linux")]
const DIRECT: OFlag = OFlag::O_DIRECT;
#[cfg(not(target_os = "linux"))]
const DIRECT: OFlag = OFlag::empty();

/// An open file that is written sequentially.
#[derive(Debug)]
pub(super) struct DirectFile {
    file: File,
    /// Whether direct I/O is on.
    direct: bool,
    /// Whether direct I/O is supported, as far as is known.
    possible: bool,
}

impl DirectFile {
    pub(super) fn new(file: File) -> Self {
        Self { file, direct: false, possible: !DIRECT.is_empty() }
    }

    /// Writes all bytes: whole pages with direct I/O, and the rest through the page cache.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let begins_at_a_page = bytes.as_ptr().align_offset(PAGE_BYTES) == 0;
        let pages = if begins_at_a_page { bytes.len() / PAGE_BYTES * PAGE_BYTES } else { 0 };
        let (mut pages, rest) = bytes.split_at(if pages < MIN_DIRECT_BYTES { 0 } else { pages });
        while !pages.is_empty() && self.set_direct(true) {
            match (&self.file).write(pages) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => pages = &pages[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The file system requires another alignment, or does not support direct writes.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                    self.possible = false;
                }
                Err(error) => return Err(error),
            }
        }
        if pages.is_empty() && rest.is_empty() {
            return Ok(());
        }
        self.set_direct(false);
        (&self.file).write_all(pages)?;
        (&self.file).write_all(rest)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Turns direct I/O on or off for subsequent writes. Returns whether it is on.
    fn set_direct(&mut self, direct: bool) -> bool {
        let direct = direct && self.possible;
        if self.direct == direct {
            return direct;
        }
        let flags = if direct { DIRECT } else { OFlag::empty() };
        if fcntl(&self.file, FcntlArg::F_SETFL(flags)).is_err() {
            self.possible = false;
            return false;
        }
        self.direct = direct;
        direct
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::aligned_buffer::Buffer;
    use super::*;

    /// Writes chunks of these sizes to a file. Returns the content of the file, and the expected content.
    fn written(sizes: &[usize], prepare: impl FnOnce(&mut DirectFile)) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../../target").unwrap();
        let path = folder.path().join("file");
        let mut file = DirectFile::new(File::create(&path).unwrap());
        prepare(&mut file);
        let mut expected = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let mut chunk = Buffer::with_room(*size).unwrap();
            (0..*size).for_each(|it| chunk.extend(&[u8::try_from((it * 7 + number) % 251).unwrap()]));
            file.write_all(chunk.bytes()).unwrap();
            expected.extend_from_slice(chunk.bytes());
        }
        file.sync().unwrap();
        (fs::read(path).unwrap(), expected)
    }

    #[test]
    fn the_file_contains_all_chunks_in_order() {
        for sizes in [&[1][..], &[4096], &[65_536], &[524_288, 524_288, 1], &[524_288, 100_000], &[70_000, 524_288, 5]]
        {
            let (file, expected) = written(sizes, |_| {});
            assert!(file == expected, "{sizes:?}");
        }
    }

    #[test]
    fn without_direct_io_writes_go_through_the_page_cache() {
        let (file, expected) = written(&[524_288, 4096, 9], |it| it.possible = false);
        assert!(file == expected);
    }

    #[test]
    fn unaligned_memory_is_written() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../../target").unwrap();
        let path = folder.path().join("file");
        let bytes = vec![5; 200_001];
        DirectFile::new(File::create(&path).unwrap()).write_all(&bytes[1..]).unwrap();
        assert!(fs::read(path).unwrap() == bytes[1..]);
    }
}
