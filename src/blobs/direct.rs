//! A file that is written with direct I/O if the file system allows it, bypassing the page cache: the disk takes whole
//! pages from our own memory. Nothing is copied, and nothing is left to be written once they are synced.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::buffer::PAGE_BYTES;

/// Fewer bytes than this are not worth a direct write.
pub(super) const WORTHWHILE_BYTES: usize = 64 * 1024;

#[cfg(target_os = "linux")]
const PAST_THE_CACHE: OFlag = OFlag::O_DIRECT;
#[cfg(not(target_os = "linux"))]
const PAST_THE_CACHE: OFlag = OFlag::empty();

/// An open file, written from its beginning to its end.
#[derive(Debug)]
pub(super) struct DirectFile {
    file: File,
    /// Whether writes go past the cache at the moment.
    direct: AtomicBool,
    /// Whether they may at all.
    possible: AtomicBool,
}

impl DirectFile {
    pub(super) fn new(file: File) -> Self {
        Self { file, direct: AtomicBool::new(false), possible: AtomicBool::new(!PAST_THE_CACHE.is_empty()) }
    }

    /// Writes all of it: what are whole pages past the cache, what is left over through it.
    pub(super) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let begins_at_a_page = bytes.as_ptr().align_offset(PAGE_BYTES) == 0;
        let pages = if begins_at_a_page { bytes.len() / PAGE_BYTES * PAGE_BYTES } else { 0 };
        let (mut pages, rest) = bytes.split_at(if pages < WORTHWHILE_BYTES { 0 } else { pages });
        while !pages.is_empty() && self.go(true) {
            match (&self.file).write(pages) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => pages = &pages[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The file system takes direct writes at other sizes, or none at all.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                    self.possible.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        if pages.is_empty() && rest.is_empty() {
            return Ok(());
        }
        self.go(false);
        (&self.file).write_all(pages)?;
        (&self.file).write_all(rest)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Chooses the way of the writes to come. Whether it is the direct one.
    fn go(&self, direct: bool) -> bool {
        let direct = direct && self.possible.load(Ordering::Relaxed);
        if self.direct.load(Ordering::Relaxed) == direct {
            return direct;
        }
        let flags = if direct { PAST_THE_CACHE } else { OFlag::empty() };
        if fcntl(&self.file, FcntlArg::F_SETFL(flags)).is_err() {
            self.possible.store(false, Ordering::Relaxed);
            return false;
        }
        self.direct.store(direct, Ordering::Relaxed);
        direct
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::buffer::Buffer;
    use super::*;

    /// What a file holds into which chunks of these sizes were written, and what was to be in it.
    fn written(sizes: &[usize], prepare: impl FnOnce(&DirectFile)) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target").unwrap();
        let path = folder.path().join("file");
        let file = DirectFile::new(File::create(&path).unwrap());
        prepare(&file);
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
    fn whatever_is_written_is_in_the_file() {
        for sizes in [&[1][..], &[4096], &[65_536], &[524_288, 524_288, 1], &[524_288, 100_000], &[70_000, 524_288, 5]]
        {
            let (file, expected) = written(sizes, |_| {});
            assert!(file == expected, "{sizes:?}");
        }
    }

    #[test]
    fn where_the_direct_way_is_closed_it_goes_through_the_cache() {
        let (file, expected) = written(&[524_288, 4096, 9], |it| it.possible.store(false, Ordering::Relaxed));
        assert!(file == expected);
    }

    #[test]
    fn memory_that_begins_nowhere_in_particular_is_written_as_well() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target").unwrap();
        let path = folder.path().join("file");
        let bytes = vec![5; 200_001];
        DirectFile::new(File::create(&path).unwrap()).write_all(&bytes[1..]).unwrap();
        assert!(fs::read(path).unwrap() == bytes[1..]);
    }
}
