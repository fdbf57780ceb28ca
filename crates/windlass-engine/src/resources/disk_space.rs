//! Keeps clients from filling up a disk: new bytes are rejected if they would not leave enough space for deletions, and
//! when space is low, the sweeper collects garbage at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::error::{Error, Result};

const MIB: u64 = 1024 * 1024;

/// Space that clients must leave free: 64 MiB or a sixteenth of the disk, whichever is less.
const RESERVE: Threshold = Threshold { count: 64 * MIB, divisor: 16 };
/// Space is low if less than this is free: 1 GiB or an eighth of the disk, whichever is less.
const LOW: Threshold = Threshold { count: 1024 * MIB, divisor: 8 };
/// Inodes that clients must leave free: 1024 or 1/64 of the disk's, whichever is less.
const INODE_RESERVE: Threshold = Threshold { count: 1024, divisor: 64 };

/// The interval between checks of the disks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The interval if less than [`NEAR_FULL`] is free: the database and the file system use space in addition to the
/// bodies.
const NEAR_FULL_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Space may run out before the next regular check if less than this is free: 2 GiB or half of the disk, whichever is
/// less.
const NEAR_FULL: Threshold = Threshold { count: 2048 * MIB, divisor: 2 };
/// A body's bytes are counted in steps of this size.
const STEP: u64 = 256 * 1024;

/// A directory whose disk is monitored.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The value of the label `directory` in metrics.
    pub name: &'static str,
    /// The path of the directory.
    pub path: PathBuf,
    /// Whether request bodies are written to it, and not only the ledger.
    pub takes_bodies: bool,
}

/// The free space on the disks that this process writes to. Without disks, nothing is rejected. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct DiskSpace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    disks: Vec<Disk>,
    /// The remaining bytes of bodies in progress, as far as these have declared their length.
    promised: AtomicU64,
    /// Bytes received since the last check.
    written: AtomicU64,
    /// Whether space may run out soon.
    is_near_full: AtomicBool,
    is_low: watch::Sender<bool>,
}

#[derive(Debug)]
struct Disk {
    volume: Volume,
    /// Bytes that clients may still use, as of the last check.
    usable: AtomicU64,
    /// Whether less than half of [`RESERVE`] is free; bodies in progress are then rejected as well.
    is_exhausted: AtomicBool,
}

/// The space reserved for one request body.
#[derive(Debug)]
pub(crate) struct SpaceClaim {
    space: DiskSpace,
    /// The promised bytes that have not been counted as written.
    left: u64,
    /// The received bytes that have not been counted.
    uncounted: u64,
}

impl DiskSpace {
    /// Checks the disks of these directories now, and periodically on `runtime` until the last clone is dropped.
    pub(crate) fn watch(volumes: Vec<Volume>, runtime: &Handle) -> Self {
        let disk = |volume| Disk { volume, usable: AtomicU64::new(u64::MAX), is_exhausted: AtomicBool::new(false) };
        let disks: Vec<_> = volumes.into_iter().map(disk).collect();
        let (is_low, _) = watch::channel(false);
        let (promised, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { disks, promised, written, is_near_full: AtomicBool::new(false), is_low });
        shared.check();
        if !shared.disks.is_empty() {
            let shared = Arc::downgrade(&shared);
            runtime.spawn(async move {
                loop {
                    let is_near_full = shared.upgrade().is_some_and(|it| it.is_near_full.load(Relaxed));
                    sleep(if is_near_full { NEAR_FULL_CHECK_INTERVAL } else { CHECK_INTERVAL }).await;
                    let Some(shared) = shared.upgrade() else { return };
                    // A network file system may be slow to respond. Until then, the previous check applies.
                    tokio::task::spawn_blocking(move || shared.check()).await.ok();
                }
            });
        }
        Self(shared)
    }

    /// Reserves space for a body of `bytes`. The body may exceed this length as long as there is space.
    ///
    /// # Errors
    /// [`Error::DiskFull`] if there is not enough space.
    pub(crate) fn admit(&self, bytes: u64) -> Result<SpaceClaim> {
        let Shared { disks, promised, written, .. } = &*self.0;
        let others = promised.fetch_add(bytes, Relaxed).saturating_add(written.load(Relaxed));
        let claim = SpaceClaim { space: self.clone(), left: bytes, uncounted: 0 };
        let fits = |disk: &Disk| {
            let needed = if disk.volume.takes_bodies { others.saturating_add(bytes) } else { 0 };
            disk.usable.load(Relaxed) >= needed.max(1)
        };
        if disks.iter().all(fits) { Ok(claim) } else { Err(Error::DiskFull) }
    }

    /// A claim of a body that is not stored.
    pub(crate) fn claim_nothing(&self) -> SpaceClaim {
        SpaceClaim { space: self.clone(), left: 0, uncounted: 0 }
    }

    /// Whether a disk is low on space.
    pub(crate) fn is_low(&self) -> bool {
        *self.0.is_low.borrow()
    }

    /// Waits until a disk is low on space. Cancel-safe.
    pub(crate) async fn becomes_low(&self) {
        // Cannot fail, since `self` owns the sender.
        self.0.is_low.subscribe().wait_for(|it| *it).await.ok();
    }
}

impl Shared {
    fn check(&self) {
        // Reset before the check: bytes written during it may be counted twice, but are never missed.
        self.written.store(0, Relaxed);
        let (mut is_low, mut is_near_full) = (false, false);
        for disk in &self.disks {
            // If a disk cannot be checked, the previous state applies.
            let (low, near) = disk.check().unwrap_or_else(|| (*self.is_low.borrow(), self.is_near_full.load(Relaxed)));
            (is_low, is_near_full) = (is_low || low, is_near_full || near);
        }
        self.is_near_full.store(is_near_full, Relaxed);
        self.is_low.send_if_modified(|before| std::mem::replace(before, is_low) != is_low);
    }
}

impl Disk {
    /// Returns whether space is low, and whether it may run out soon; `None` if the disk cannot be checked.
    fn check(&self) -> Option<(bool, bool)> {
        let Volume { name, path, .. } = &self.volume;
        let Usage { bytes, available, files, files_available } = Usage::of(path)?;
        metrics::gauge!("windlass_disk_available_bytes", "directory" => *name).set(approximate(available));
        let reserve = RESERVE.of(bytes);
        // Some file systems do not report inode counts.
        let has_files = files == 0 || files_available > INODE_RESERVE.of(files);
        let usable = if has_files { available.saturating_sub(reserve) } else { 0 };
        let was_usable = self.usable.swap(usable, Relaxed) > 0;
        self.is_exhausted.store(available < reserve / 2, Relaxed);
        match (was_usable, usable > 0) {
            (true, false) => tracing::error!(
                directory = %path.display(),
                available,
                files_available,
                "the disk is full: uploads are rejected; deletions are accepted, and free their space at once"
            ),
            (false, true) => tracing::info!(directory = %path.display(), available, "there is enough free space again"),
            _ => {}
        }
        Some((usable == 0 || available < LOW.of(bytes), available < NEAR_FULL.of(bytes)))
    }
}

impl SpaceClaim {
    /// Counts received bytes.
    ///
    /// # Errors
    /// [`Error::DiskFull`] if they exceed the promised bytes and do not fit, or if a disk is exhausted.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<()> {
        self.uncounted += bytes as u64;
        if self.uncounted < STEP {
            return Ok(());
        }
        let is_promised = self.uncounted <= self.left;
        self.count();
        let Shared { disks, written, .. } = &*self.space.0;
        let rejects = |disk: &Disk| {
            let is_over = disk.volume.takes_bodies && disk.usable.load(Relaxed) < written.load(Relaxed);
            disk.is_exhausted.load(Relaxed) || (is_over && !is_promised)
        };
        if disks.iter().any(rejects) { Err(Error::DiskFull) } else { Ok(()) }
    }

    fn count(&mut self) {
        let Shared { promised, written, .. } = &*self.space.0;
        let promised_bytes = self.uncounted.min(self.left);
        self.left -= promised_bytes;
        promised.fetch_sub(promised_bytes, Relaxed);
        written.fetch_add(self.uncounted, Relaxed);
        self.uncounted = 0;
    }
}

impl Drop for SpaceClaim {
    fn drop(&mut self) {
        self.count();
        self.space.0.promised.fetch_sub(self.left, Relaxed);
    }
}

/// A number of bytes or inodes, or a fraction (`1 / divisor`) of the disk's total if that is less.
struct Threshold {
    count: u64,
    divisor: u64,
}

impl Threshold {
    const fn of(&self, total: u64) -> u64 {
        let share = total / self.divisor;
        if share < self.count { share } else { self.count }
    }
}

/// The total and the available bytes and inodes of a disk.
struct Usage {
    bytes: u64,
    available: u64,
    files: u64,
    files_available: u64,
}

impl Usage {
    fn of(path: &Path) -> Option<Self> {
        let stat = statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Self {
            bytes: bytes(stat.f_blocks),
            available: bytes(stat.f_bavail),
            files: stat.f_files,
            files_available: stat.f_favail,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact")]
pub(crate) fn approximate(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space_with(usable: u64) -> DiskSpace {
        let volume = Volume { name: "store", path: PathBuf::from("/"), takes_bodies: true };
        let disk = Disk { volume, usable: AtomicU64::new(usable), is_exhausted: AtomicBool::new(false) };
        let (promised, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let is_near_full = AtomicBool::new(false);
        let (is_low, _) = watch::channel(false);
        DiskSpace(Arc::new(Shared { disks: vec![disk], promised, written, is_near_full, is_low }))
    }

    #[test]
    fn concurrent_bodies_cannot_reserve_more_than_is_free() {
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
    fn received_bytes_count_until_the_next_check() {
        let space = space_with(10 * MIB);
        let mut body = space.admit(6 * MIB).unwrap();
        body.take(6 * 1024 * 1024).unwrap();
        drop(body);
        assert!(space.admit(5 * MIB).is_err());
        space.0.written.store(0, Relaxed);
        space.admit(5 * MIB).unwrap();
    }

    #[test]
    fn a_body_of_unknown_length_is_rejected_when_space_runs_out() {
        let space = space_with(MIB);
        let mut body = space.admit(0).unwrap();
        body.take(1024 * 1024).unwrap();
        assert!(matches!(body.take(300 * 1024), Err(Error::DiskFull)));
    }

    #[test]
    fn an_exhausted_disk_rejects_even_reserved_bodies() {
        let space = space_with(10 * MIB);
        let mut body = space.admit(6 * MIB).unwrap();
        space.0.disks[0].is_exhausted.store(true, Relaxed);
        assert!(body.take(1024 * 1024).is_err());
    }

    #[test]
    fn the_reserve_of_a_small_disk_is_smaller() {
        assert_eq!(RESERVE.of(8 * MIB), MIB / 2);
        assert_eq!(RESERVE.of(u64::MAX), 64 * MIB);
    }
}
