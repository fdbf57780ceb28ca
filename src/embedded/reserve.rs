//! Reserved disk space. It is released when the disk is full, so that the server can start and record deletions.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The number of pieces. They are released one by one, because the writer that filled the disk may still be running and
/// would use up the whole reserve at once.
const PIECES: u64 = 4;
/// The maximum size of the reserve.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// The reserve is at most the size of the disk divided by this number.
const SHARE_OF_DISK: u64 = 8;
/// The minimum time between two releases, unless the server exited for lack of space.
const BETWEEN_PIECES: Duration = Duration::from_secs(5);

/// With less free space, a server may not even be able to log that the disk is full.
const NEEDED_TO_START: u64 = 1024 * 1024;

/// The disk space reserved in a data directory.
pub struct Reserve {
    dir: PathBuf,
    /// When a piece was last released.
    released: Option<Instant>,
}

/// The size and the free space of a file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// The total size in bytes.
    pub bytes: u64,
    /// The free space in bytes that unprivileged users may use.
    pub available: u64,
}

impl Disk {
    /// The file system that contains `path`.
    pub fn of(path: &Path) -> io::Result<Self> {
        let about = statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
        Ok(Self { bytes: bytes(about.f_blocks), available: bytes(about.f_bavail) })
    }

    /// The size of a piece in bytes.
    fn piece(self) -> u64 {
        MOST_BYTES.min(self.bytes / SHARE_OF_DISK) / PIECES
    }
}

impl Reserve {
    /// The reserve of a data directory; its pieces need not exist yet.
    pub fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("reserve"), released: None }
    }

    /// Whether the disk has less space than a starting server needs for its own files and messages.
    pub fn is_disk_full(&self) -> bool {
        Disk::of(self.dir.parent().unwrap_or(&self.dir)).is_ok_and(|it| it.available < NEEDED_TO_START)
    }

    /// Releases a piece if the disk is almost full, or allocates the missing ones if there is enough free space. To be
    /// called periodically.
    pub fn keep(&mut self) -> io::Result<()> {
        let disk = Disk::of(self.dir.parent().unwrap_or(&self.dir))?;
        if disk.available < disk.piece() / 4 {
            return self.release_in_turn();
        }
        let missing = (0..PIECES).filter(|piece| !self.piece(*piece).exists());
        // Hysteresis: requires twice the size of the reserve, so that it is not released again soon.
        if disk.available > 2 * PIECES * disk.piece() {
            for piece in missing {
                self.make(piece, disk.piece())?;
            }
        }
        Ok(())
    }

    /// Releases a piece, unless one was released within [`BETWEEN_PIECES`].
    pub fn release_in_turn(&mut self) -> io::Result<()> {
        if self.released.is_none_or(|it| it.elapsed() > BETWEEN_PIECES) {
            self.release()?;
        }
        Ok(())
    }

    /// Releases a piece. Returns `false` if none is left.
    pub fn release(&mut self) -> io::Result<bool> {
        let Some(piece) = (0..PIECES).map(|it| self.piece(it)).find(|it| it.exists()) else { return Ok(false) };
        fs::remove_file(&piece)?;
        self.released = Some(Instant::now());
        tracing::error!(
            data_dir = %self.dir.parent().unwrap_or(&self.dir).display(),
            "the disk is full: part of the space reserved for PostgreSQL was released; delete files or free other space"
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

/// The fallback for file systems without `fallocate`.
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
