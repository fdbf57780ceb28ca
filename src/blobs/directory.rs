//! Objects as files. The ledger's row is the staging area: a file counts once its row says `stored`,
//! so it is written in its place at once, and no rename and no left-over staging name exist.
//!
//! Order of a write: create, write, sync the file, sync its directory. Only then does the caller
//! commit the row. A file from a process that died is named by a row, which the sweeper collects.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::buffer::Buffer;
use super::direct::{DirectFile, WORTHWHILE_BYTES};
use super::identity::{self, Identity};
use super::listing::{self, Listed, Listing};
use super::root::Root;
use super::{BlobKey, Chunk, Error, IfMissing, IfPresent, Result, Stretch, page_cache};
use crate::crash::CrashPoint;
use crate::domain::{Crc64Digest, StoreId};

/// One write: large enough to keep a disk busy, small enough for many bodies at once.
pub(super) const CHUNK_BYTES: usize = 384 * 1024;

/// The size of a write when memory is short; it still bypasses the page cache.
pub(super) const LEAST_CHUNK_BYTES: usize = WORTHWHILE_BYTES;

/// What is read and checked in one visit to a thread that may block: with less, more time goes into the
/// visits. No memory is held for it.
pub(super) const PIECE_BYTES: u64 = 2 * 1024 * 1024;

/// What is checked of what the system keeps before it is sent: the processor's cache has it still when the
/// socket takes it, and nobody else on the thread waits for long.
const KEPT_BYTES: u64 = 512 * 1024;

/// Why a file system that does not sync directories cannot hold a store.
const NO_DIRECTORY_SYNC: &str = "its file system refuses to sync a directory, so a file that was acknowledged could be \
                                 lost with the power; use a local file system such as ext4 or XFS, or a bucket";

/// Fewer are given in memory: what is done with so few costs more than their copy.
const SMALL_BYTES: u64 = 16 * 1024;

/// A directory of objects.
#[derive(Debug, Clone)]
pub struct Directory {
    root: Arc<Root>,
    /// Held while the identity is read, so that an unresponsive file system blocks at most one thread.
    verifying: Arc<tokio::sync::Mutex<()>>,
}

/// A file being written.
#[derive(Debug)]
pub struct FileWriter {
    file: Arc<DirectFile>,
    path: Arc<Path>,
    root: Arc<Root>,
}

/// A file being read.
#[derive(Debug, Clone)]
pub struct FileReader {
    file: Arc<File>,
    path: Arc<Path>,
    key: BlobKey,
}

impl Directory {
    /// Opens a directory. Nothing is created before [`Self::prepare`].
    pub(super) async fn open(path: PathBuf, if_missing: IfMissing) -> Result<Self> {
        let root = Arc::new(Root::new(&path));
        let is_there = blocking(&path, {
            let path = path.clone();
            move || path.try_exists()
        })
        .await?;
        if !is_there && if_missing == IfMissing::Fail {
            return Err(Error::Gone(path));
        }
        Ok(Self { root, verifying: Arc::default() })
    }

    /// Makes the directory and its 256 subdirectories where they are missing, synced.
    pub(super) async fn prepare(&self) -> Result<()> {
        let root = Arc::clone(&self.root);
        blocking(self.root.path(), move || {
            let parts = root.path().join("parts");
            let mut missing = fs::DirBuilder::new();
            missing.recursive(true).mode(0o700);
            let is_new = !root.path().exists();
            for shard in 0..=u8::MAX {
                missing.create(parts.join(format!("{shard:02x}")))?;
            }
            sync_directory(&parts)?;
            sync_directory(root.path())?;
            // The parent of an existing directory may not be accessible to this user.
            if is_new { root.path().parent().map_or(Ok(()), sync_directory) } else { Ok(()) }
        })
        .await
    }

    pub(super) async fn identity(&self) -> Result<Option<StoreId>> {
        let root = Arc::clone(&self.root);
        waiting(move || root.identity()).await
    }

    pub(super) async fn verify(&self, expected: StoreId) -> Result<Identity> {
        let root = Arc::clone(&self.root);
        let Ok(turn) = Arc::clone(&self.verifying).try_lock_owned() else {
            return Err(Error::Disk { path: root.path().to_owned(), source: io::ErrorKind::TimedOut.into() });
        };
        waiting(move || {
            let _turn = turn;
            let found = root.verify(expected)?;
            let parts = root.path().join("parts");
            match (found, fs::metadata(&parts)) {
                (Identity::Expected, Err(source)) => Err(Error::Disk { path: parts, source }),
                (found, _) => Ok(found),
            }
        })
        .await
    }

    /// Writes the identity to a temporary file first, so that the final file is always complete.
    pub(super) async fn write_identity(&self, id: StoreId, if_present: IfPresent) -> Result<()> {
        let path = self.root.path().join(identity::NAME);
        let new = path.with_extension(uuid::Uuid::now_v7().simple().to_string());
        blocking(&path.clone(), move || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&identity::encode(id))?;
            file.sync_all()?;
            let placed = match if_present {
                IfPresent::Replace => fs::rename(&new, &path),
                IfPresent::Keep => place(&new, &path),
            };
            if placed.is_err() {
                fs::remove_file(&new).ok();
            }
            placed?;
            path.parent().map_or(Ok(()), sync_directory)
        })
        .await
    }

    fn path(&self, key: BlobKey) -> Arc<Path> {
        self.root.path().join(key.to_string()).into()
    }

    pub(super) async fn create(&self, key: BlobKey) -> Result<FileWriter> {
        let (path, root) = (self.path(key), Arc::clone(&self.root));
        let file = blocking(&path, {
            let (path, root) = (Arc::clone(&path), Arc::clone(&root));
            move || root.check().and_then(|()| create(&path))
        })
        .await?;
        Ok(FileWriter { file: Arc::new(file), path, root })
    }

    /// In one go, since what costs a small file its time is waking threads.
    pub(super) async fn put(&self, key: BlobKey, whole: Buffer) -> Result<()> {
        let (path, root) = (self.path(key), Arc::clone(&self.root));
        blocking(&path.clone(), move || {
            root.check()?;
            let file = create(&path)?;
            let written = file.write_all(whole.bytes()).and_then(|()| {
                CrashPoint::ChunkWritten.passed();
                persist(&file, &path, &root)
            });
            if written.is_err() {
                fs::remove_file(&path).ok();
            }
            written
        })
        .await
    }

    pub(super) async fn read(&self, key: BlobKey) -> Result<FileReader> {
        let path = self.path(key);
        let opened = blocking(&path, {
            let (path, root) = (Arc::clone(&path), Arc::clone(&self.root));
            move || {
                let file = File::open(&path).map_err(|error| root.explain(error))?;
                page_cache::reads_forwards(&file);
                Ok(file)
            }
        })
        .await;
        match opened {
            Ok(file) => Ok(FileReader { file: Arc::new(file), path, key }),
            Err(Error::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(Error::Missing(key)),
            Err(error) => Err(error),
        }
    }

    /// Deletes files, and syncs their directories: a row may go only once its file cannot come back.
    pub(super) async fn delete(&self, keys: Vec<BlobKey>) -> Vec<(BlobKey, Error)> {
        let paths: Vec<_> = keys.iter().map(|key| self.path(*key)).collect();
        let removed = tokio::task::spawn_blocking({
            let (paths, root) = (paths.clone(), Arc::clone(&self.root));
            move || root.change(|| Ok(remove_all(&paths)))
        })
        .await
        .map_err(io::Error::other)
        .flatten()
        .unwrap_or_else(|error| paths.iter().map(|_| Err(io::Error::other(error.to_string()))).collect());
        let outcomes = keys.into_iter().zip(paths).zip(removed);
        outcomes
            .filter_map(|((key, path), outcome)| {
                outcome.err().map(|source| (key, Error::Disk { path: path.to_path_buf(), source }))
            })
            .collect()
    }

    pub(super) fn list(&self) -> Listing<Listed> {
        listing::files(self.root.path().to_path_buf(), "parts")
    }

    pub(super) async fn has(&self, key: BlobKey) -> Result<bool> {
        let path = self.path(key);
        blocking(&path.clone(), move || path.try_exists()).await
    }

    pub(super) async fn size(&self, key: BlobKey) -> Result<Option<u64>> {
        let (path, root) = (self.path(key), Arc::clone(&self.root));
        blocking(&path.clone(), move || match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => root.check().map(|()| None),
            about => about.map(|it| Some(it.len())),
        })
        .await
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.root.path().display())
    }
}

impl FileWriter {
    pub(super) async fn write(&mut self, mut chunk: Buffer) -> Result<Buffer> {
        let file = Arc::clone(&self.file);
        blocking(&self.path, move || {
            file.write_all(chunk.bytes())?;
            chunk.clear();
            Ok(chunk)
        })
        .await
    }

    pub(super) async fn finish(self) -> Result<()> {
        let path = Arc::clone(&self.path);
        blocking(&self.path, move || persist(&self.file, &path, &self.root)).await
    }

    pub(super) async fn abort(self) {
        let path = Arc::clone(&self.path);
        if let Err(error) = blocking(&self.path, move || fs::remove_file(&path)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a file was left for the sweeper");
        }
    }
}

impl FileReader {
    /// Reads a stretch on a thread that may wait for the disk.
    pub fn read(&self, range: Range<u64>) -> mpsc::Receiver<Result<Chunk>> {
        let (out, chunks) = mpsc::channel(1);
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            // There is room for it.
            out.try_send(this.read_at_once(range)).ok();
        });
        chunks
    }

    /// The same for no more of the stretch than is best read at once.
    pub fn wait_for(&self, range: Range<u64>) -> mpsc::Receiver<Result<Chunk>> {
        self.read(range.start..range.end.min(range.start + PIECE_BYTES))
    }

    /// As many bytes of a stretch as can be had without waiting, if any.
    pub fn read_kept(&self, range: Range<u64>) -> Option<Chunk> {
        let mut crc64 = Crc64Digest::new();
        let range = range.start..range.end.min(range.start + KEPT_BYTES);
        let bytes = Stretch::kept(&self.file, range, |seen| crc64.update(seen))?;
        Some(Chunk { bytes, crc64: crc64.finish() })
    }

    fn read_at_once(&self, range: Range<u64>) -> Result<Chunk> {
        let bytes = Stretch::File(Arc::clone(&self.file), range);
        let read = if bytes.length() <= SMALL_BYTES { bytes.in_memory() } else { Ok(bytes) };
        read.and_then(Chunk::of).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> Error {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return Error::WrongLength(self.key);
        }
        Error::Disk { path: self.path.to_path_buf(), source }
    }
}

fn create(path: &Path) -> io::Result<DirectFile> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    CrashPoint::FileCreated.passed();
    Ok(DirectFile::new(file))
}

/// Syncs a file and its directory entry, and checks that it is in the verified directory.
fn persist(file: &DirectFile, path: &Path, root: &Root) -> io::Result<()> {
    file.sync()?;
    CrashPoint::FileSynced.passed();
    path.parent().map_or(Ok(()), sync_directory)?;
    root.check()
}

/// Gives a file its final name unless the name is taken. On file systems without hard links this is not atomic, but
/// another process that does it concurrently writes the same bytes.
fn place(new: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(_) if !path.exists() => return fs::rename(new, path),
        linked => linked?,
    }
    fs::remove_file(new)
}

/// Removes files, and then syncs each of their directories: the journal that the first sync writes
/// holds the other directories' changes as well.
fn remove_all(paths: &[Arc<Path>]) -> Vec<io::Result<()>> {
    let mut outcomes: Vec<_> = paths.iter().map(|path| remove(path)).collect();
    let mut by_directory: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, path) in paths.iter().enumerate().filter(|(at, _)| outcomes[*at].is_ok()) {
        by_directory.entry(path.parent()).or_default().push(at);
    }
    CrashPoint::FileRemoved.passed();
    for (directory, removed) in by_directory {
        if let Some(Err(error)) = directory.map(sync_directory) {
            for at in removed {
                outcomes[at] = Err(io::Error::new(error.kind(), error.to_string()));
            }
        }
    }
    outcomes
}

/// A file that is gone already needs its directory synced as well: whoever removed it may have died.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all().map_err(|error| {
        let is_refused = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported);
        if is_refused { io::Error::new(error.kind(), NO_DIRECTORY_SYNC) } else { error }
    })
}

/// Runs file work where it blocks no other task, and names the file in its error.
async fn blocking<T: Send + 'static>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|source| Error::Disk { path: path.to_path_buf(), source })
}

/// Runs blocking work that returns errors with their own paths.
async fn waiting<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let interrupted = |error| Error::Disk { path: PathBuf::new(), source: io::Error::other(error) };
    tokio::task::spawn_blocking(work).await.map_err(interrupted).flatten()
}
