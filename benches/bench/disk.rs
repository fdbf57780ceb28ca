//! The speed of the disk on which the benchmark runs.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Measures how many times a second 4 KiB can be written and synced, one after another.
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

/// Measures how fast a file that repeats these bytes is written and then synced, in MB/s.
pub fn synced_mb_a_second(bytes: &[u8], times: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    nix::unistd::sync();
    let began = Instant::now();
    let mut file = File::create(folder.path().join("probe")).unwrap();
    for _ in 0..times {
        // Like `dd bs=1M conv=fsync`.
        for block in bytes.chunks(1024 * 1024) {
            file.write_all(block).unwrap();
        }
    }
    file.sync_all().unwrap();
    let written = f64::from(u32::try_from((bytes.len() * times) >> 10).unwrap()) * 1.024e-3;
    written / began.elapsed().as_secs_f64()
}
