//! Space that is kept from everybody, to be released when there is none: with it the server starts, and what is deleted
//! is written down.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// It is released in so many pieces: whoever filled the disk may be at it still, and would take all of it at once.
const PIECES: u64 = 4;
/// Together they have this size, or an eighth of a disk where that is less.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
const SHARE_OF_DISK: u64 = 8;
/// How long the next piece is kept after one was released, unless the server ended for want of space.
const BETWEEN_PIECES: Duration = Duration::from_secs(5);

/// With fewer bytes left, a server may not even say that there is no space.
const NEEDED_TO_START: u64 = 1024 * 1024;

/// The space of a data directory that is kept back.
pub struct Reserve {
    dir: PathBuf,
    released: Option<Instant>,
}

/// A disk's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// All of them.
    pub bytes: u64,
    /// Those that can be written still.
    pub available: u64,
}

impl Disk {
    /// The disk on which a file is.
    pub fn of(path: &Path) -> io::Result<Self> {
        let about = statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
        Ok(Self { bytes: bytes(about.f_blocks), available: bytes(about.f_bavail) })
    }

    fn piece(self) -> u64 {
        MOST_BYTES.min(self.bytes / SHARE_OF_DISK) / PIECES
    }
}

impl Reserve {
    /// The reserve of a data directory, which may have none yet.
    pub fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("reserve"), released: None }
    }

    /// Whether the disk has no space left for as much as what a server writes about itself when it starts.
    pub fn is_disk_full(&self) -> bool {
        Disk::of(self.dir.parent().unwrap_or(&self.dir)).is_ok_and(|it| it.available < NEEDED_TO_START)
    }

    /// Releases a piece where there is as good as no space, and makes the missing ones where there is plenty. For
    /// calls every so often.
    pub fn keep(&mut self) -> io::Result<()> {
        let disk = Disk::of(self.dir.parent().unwrap_or(&self.dir))?;
        if disk.available < disk.piece() / 4 {
            return self.release_in_turn();
        }
        let missing = (0..PIECES).filter(|piece| !self.piece(*piece).exists());
        // Twice as much must be left, so that it is not released again soon.
        if disk.available > 2 * PIECES * disk.piece() {
            for piece in missing {
                self.make(piece, disk.piece())?;
            }
        }
        Ok(())
    }

    /// Releases a piece, unless one was released just now.
    pub fn release_in_turn(&mut self) -> io::Result<()> {
        if self.released.is_none_or(|it| it.elapsed() > BETWEEN_PIECES) {
            self.release()?;
        }
        Ok(())
    }

    /// Releases a piece. Whether there was one.
    pub fn release(&mut self) -> io::Result<bool> {
        let Some(piece) = (0..PIECES).map(|it| self.piece(it)).find(|it| it.exists()) else { return Ok(false) };
        fs::remove_file(&piece)?;
        self.released = Some(Instant::now());
        tracing::error!(
            data_dir = %self.dir.parent().unwrap_or(&self.dir).display(),
            "the disk is full: part of the reserve was released; delete files or free other space"
        );
        Ok(true)
    }

    fn piece(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn make(&self, piece: u64, bytes: u64) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.piece(piece);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = fallocate(&file, FallocateFlags::empty(), 0, bytes).or_else(|_| fill(&file, bytes));
        if made.is_err() {
            fs::remove_file(&path).ok();
        }
        made
    }
}

/// For file systems that cannot set space aside.
fn fill(mut file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len());
        file.write_all(&zeros[..now])?;
        left -= now as u64;
    }
    file.sync_all()
}
