//! Keeps clients from filling up a disk: new bytes are rejected if they would not leave enough space for deletions to
//! work, and garbage is collected at once when space is low.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Error, Result};

const MIB: u64 = 1024 * 1024;

/// Space that clients must leave free: this much, or a sixteenth of a small disk.
const KEPT: Mark = Mark { bytes: 64 * MIB, share: 16 };
/// Space is low if less than this is free.
const SHORT: Mark = Mark { bytes: 1024 * MIB, share: 8 };
/// Inodes that clients must leave free: this many, or a share of a small disk's.
const KEPT_FILES: Mark = Mark { bytes: 1024, share: 64 };

/// Interval between two checks of the disks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The interval if less than [`NEAR`] is free: the database and the file system use space beyond that of the bodies.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(20);
/// Space may run out before the next regular check if less than this is free.
const NEAR: Mark = Mark { bytes: 2048 * MIB, share: 2 };
/// The bytes of a body are counted in steps of this size.
const STEP: u64 = 256 * 1024;

/// A directory whose disk is monitored.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its label in metrics.
    pub name: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// Whether request bodies are written there, and not just the ledger.
    pub takes_bodies: bool,
}

/// The space on the disks that this process writes to. Without disks, nothing is rejected.
#[derive(Debug, Clone)]
pub(super) struct DiskSpace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    disks: Vec<Disk>,
    /// Bytes that bodies in progress have yet to deliver, as far as they declared their length.
    promised: AtomicU64,
    /// Bytes received since the last check.
    written: AtomicU64,
    /// Whether space may run out soon.
    is_near: AtomicBool,
    is_short: watch::Sender<bool>,
}

#[derive(Debug)]
struct Disk {
    volume: Volume,
    /// Bytes that clients may still use, as of the last check.
    room: AtomicU64,
    /// Whether less than half of [`KEPT`] is free; bodies in progress are then rejected as well.
    is_exhausted: AtomicBool,
}

/// The space reserved for one request body.
#[derive(Debug)]
pub(super) struct Allowance {
    space: DiskSpace,
    /// Promised bytes that have not been counted as written.
    left: u64,
    /// Received bytes that have not been counted.
    uncounted: u64,
}

impl DiskSpace {
    /// Checks the disks of these directories now, and periodically on `runtime`.
    pub(super) fn watch(volumes: Vec<Volume>, runtime: &Handle) -> Self {
        let disk = |volume| Disk { volume, room: AtomicU64::new(u64::MAX), is_exhausted: AtomicBool::new(false) };
        let disks: Vec<_> = volumes.into_iter().map(disk).collect();
        let (is_short, _) = watch::channel(false);
        let (promised, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { disks, promised, written, is_near: AtomicBool::new(false), is_short });
        shared.look();
        if !shared.disks.is_empty() {
            let shared = Arc::downgrade(&shared);
            runtime.spawn(async move {
                loop {
                    let is_near = shared.upgrade().is_some_and(|it| it.is_near.load(Relaxed));
                    sleep(if is_near { LOOK_CLOSELY_EVERY } else { LOOK_EVERY }).await;
                    let Some(shared) = shared.upgrade() else { return };
                    // A network file system may be slow to respond. Until then, the previous check applies.
                    tokio::task::spawn_blocking(move || shared.look()).await.ok();
                }
            });
        }
        Self(shared)
    }

    /// Reserves `bytes` for a body, which may exceed them as long as there is space.
    ///
    /// # Errors
    /// [`Error::DiskFull`] if there is not enough space.
    pub(super) fn admit(&self, bytes: u64) -> Result<Allowance> {
        let Shared { disks, promised, written, .. } = &*self.0;
        let others = promised.fetch_add(bytes, Relaxed).saturating_add(written.load(Relaxed));
        let allowance = Allowance { space: self.clone(), left: bytes, uncounted: 0 };
        let fits = |disk: &Disk| {
            let needed = if disk.volume.takes_bodies { others.saturating_add(bytes) } else { 0 };
            disk.room.load(Relaxed) >= needed.max(1)
        };
        if disks.iter().all(fits) { Ok(allowance) } else { Err(Error::DiskFull) }
    }

    /// Whether a disk is low on space.
    pub(super) fn is_short(&self) -> bool {
        *self.0.is_short.borrow()
    }

    /// Waits until a disk is low on space.
    pub(super) async fn becomes_short(&self) {
        // Cannot fail, since `self` owns the sender.
        self.0.is_short.subscribe().wait_for(|it| *it).await.ok();
    }
}

impl Shared {
    fn look(&self) {
        // Reset before the check: bytes written during it may be counted twice, but are never missed.
        self.written.store(0, Relaxed);
        let (mut is_short, mut is_near) = (false, false);
        for disk in &self.disks {
            // If a disk cannot be checked, the previous state applies.
            let (short, near) = disk.look().unwrap_or_else(|| (*self.is_short.borrow(), self.is_near.load(Relaxed)));
            (is_short, is_near) = (is_short || short, is_near || near);
        }
        self.is_near.store(is_near, Relaxed);
        self.is_short.send_if_modified(|before| std::mem::replace(before, is_short) != is_short);
    }
}

impl Disk {
    /// Returns whether space is low, and whether it may run out soon; `None` if the disk cannot be checked.
    fn look(&self) -> Option<(bool, bool)> {
        let Volume { name, path, .. } = &self.volume;
        let Free { bytes, available, files, files_available } = Free::on(path)?;
        metrics::gauge!("windlass_disk_available_bytes", "directory" => *name).set(approximate(available));
        let kept = KEPT.of(bytes);
        // Some file systems do not report inode counts.
        let has_files = files == 0 || files_available > KEPT_FILES.of(files);
        let room = if has_files { available.saturating_sub(kept) } else { 0 };
        let had_room = self.room.swap(room, Relaxed) > 0;
        self.is_exhausted.store(available < kept / 2, Relaxed);
        match (had_room, room > 0) {
            (true, false) => tracing::error!(
                directory = %path.display(),
                available,
                files_available,
                "the disk is full: uploads are refused; deletions are accepted, and collected at once"
            ),
            (false, true) => tracing::info!(directory = %path.display(), available, "there is space again"),
            _ => {}
        }
        Some((room == 0 || available < SHORT.of(bytes), available < NEAR.of(bytes)))
    }
}

impl Allowance {
    /// Counts received bytes.
    ///
    /// # Errors
    /// [`Error::DiskFull`] if they exceed what was promised and do not fit, or if the disk is exhausted.
    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        self.uncounted += bytes as u64;
        if self.uncounted < STEP {
            return Ok(());
        }
        let is_promised = self.uncounted <= self.left;
        self.count();
        let Shared { disks, written, .. } = &*self.space.0;
        let refuses = |disk: &Disk| {
            let is_over = disk.volume.takes_bodies && disk.room.load(Relaxed) < written.load(Relaxed);
            disk.is_exhausted.load(Relaxed) || (is_over && !is_promised)
        };
        if disks.iter().any(refuses) { Err(Error::DiskFull) } else { Ok(()) }
    }

    fn count(&mut self) {
        let Shared { promised, written, .. } = &*self.space.0;
        let kept = self.uncounted.min(self.left);
        self.left -= kept;
        promised.fetch_sub(kept, Relaxed);
        written.fetch_add(self.uncounted, Relaxed);
        self.uncounted = 0;
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.count();
        self.space.0.promised.fetch_sub(self.left, Relaxed);
    }
}

/// A number of bytes or files, or a fraction (`1 / share`) of the total if that is less.
struct Mark {
    bytes: u64,
    share: u64,
}

impl Mark {
    const fn of(&self, whole: u64) -> u64 {
        let share = whole / self.share;
        if share < self.bytes { share } else { self.bytes }
    }
}

/// The total and the available bytes and files of a disk.
struct Free {
    bytes: u64,
    available: u64,
    files: u64,
    files_available: u64,
}

impl Free {
    fn on(path: &Path) -> Option<Self> {
        let about = statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
        Some(Self {
            bytes: bytes(about.f_blocks),
            available: bytes(about.f_bavail),
            files: about.f_files,
            files_available: about.f_favail,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
fn approximate(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space_with(room: u64) -> DiskSpace {
        let volume = Volume { name: "store", path: PathBuf::from("/"), takes_bodies: true };
        let disk = Disk { volume, room: AtomicU64::new(room), is_exhausted: AtomicBool::new(false) };
        let (promised, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let is_near = AtomicBool::new(false);
        DiskSpace(Arc::new(Shared { disks: vec![disk], promised, written, is_near, is_short: watch::channel(false).0 }))
    }

    #[test]
    fn bodies_together_get_no_more_than_there_is() {
        let space = space_with(10 * MIB);
        let first = space.admit(6 * MIB).unwrap();
        assert!(space.admit(5 * MIB).is_err());
        let second = space.admit(4 * MIB).unwrap();
        assert!(space.admit(1).is_err());
        drop(second);
        space.admit(4 * MIB).unwrap();
        drop(first);
        space.admit(10 * MIB).unwrap();
    }

    #[test]
    fn what_came_counts_until_the_disk_is_looked_at_again() {
        let space = space_with(10 * MIB);
        let mut body = space.admit(6 * MIB).unwrap();
        body.take(6 * 1024 * 1024).unwrap();
        drop(body);
        assert!(space.admit(5 * MIB).is_err());
        space.0.written.store(0, Relaxed);
        space.admit(5 * MIB).unwrap();
    }

    #[test]
    fn a_body_of_unknown_length_ends_where_space_does() {
        let space = space_with(MIB);
        let mut body = space.admit(0).unwrap();
        body.take(1024 * 1024).unwrap();
        assert!(matches!(body.take(300 * 1024), Err(Error::DiskFull)));
    }

    #[test]
    fn what_others_take_ends_even_what_was_promised() {
        let space = space_with(10 * MIB);
        let mut body = space.admit(6 * MIB).unwrap();
        space.0.disks[0].is_exhausted.store(true, Relaxed);
        assert!(body.take(1024 * 1024).is_err());
    }

    #[test]
    fn a_small_disk_keeps_less() {
        assert_eq!(KEPT.of(8 * MIB), MIB / 2);
        assert_eq!(KEPT.of(u64::MAX), 64 * MIB);
    }
}
