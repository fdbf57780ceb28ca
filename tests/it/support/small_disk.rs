//! A file system that is small enough to be filled, available if the tests run as root.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

/// A small file system, unmounted on drop.
pub struct SmallDisk {
    place: PathBuf,
    /// Holds the image and the mount point of an ext4 file system.
    _files: Option<TempDir>,
}

impl SmallDisk {
    /// Mounts a tmpfs of this size, or returns `None` if mounting is not permitted.
    pub fn in_memory(place: &Path, mib: u32) -> Option<Self> {
        mounted(mount(&["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"], place))?;
        Some(Self { place: place.to_owned(), _files: None })
    }

    /// Mounts an ext4 file system in an image file, with its own mount point and no blocks reserved for root; `None` if
    /// that is not permitted.
    pub fn ext4(mib: u32) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let (image, place) = (files.path().join("image"), files.path().join("mounted"));
        File::create(&image).unwrap().set_len(u64::from(mib) << 20).unwrap();
        fs::create_dir(&place).unwrap();
        let made =
            Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).output().is_ok_and(|it| it.status.success());
        mounted(made && mount(&["-o", "loop", image.to_str().unwrap()], &place))?;
        Some(Self { place, _files: Some(files) })
    }

    pub fn path(&self) -> &Path {
        &self.place
    }

    pub fn remount(&self, how: &str) {
        assert!(mount(&["-o", &format!("remount,{how}")], &self.place));
    }

    /// The number of bytes that can still be written.
    pub fn available(&self) -> u64 {
        let about = statvfs(&self.place).unwrap();
        about.blocks_available() * about.fragment_size()
    }

    /// Limits the number of files that can still be created. Only for a tmpfs.
    pub fn leave_files(&self, count: u64) {
        let about = statvfs(&self.place).unwrap();
        self.remount(&format!("nr_inodes={}", about.files() - about.files_available() + count));
    }

    /// Appends to a file until no space is left.
    pub fn fill(&self, name: &str) -> PathBuf {
        let path = self.place.join(name);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for size in [1024 * 1024, 4096, 1] {
            let bytes = vec![7; size];
            while file.write_all(&bytes).is_ok() {}
        }
        file.sync_data().ok();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.place).status().ok();
    }
}

fn mounted(done: bool) -> Option<()> {
    if !done {
        eprintln!("skipped: only root may mount a small disk");
    }
    done.then_some(())
}

fn mount(options: &[&str], place: &Path) -> bool {
    let done = Command::new("mount").args(options).arg(place).output();
    done.is_ok_and(|it| it.status.success())
}
