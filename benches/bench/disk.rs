//! How fast the disk below the benchmark is.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// How often a second it can be written to and synced, 4 KiB at a time, one after another.
pub fn syncs_a_second() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("probe")).unwrap();
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_secs(2) {
        file.write_all_at(&[7; 4096], u64::from(count % 1024) * 4096).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}
