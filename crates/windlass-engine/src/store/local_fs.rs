//! Objects as files. A file counts only once its row in the ledger is `stored`, so it is written under its final name:
//! no rename is needed, and no temporary names can be left over.
//!
//! Order of a write: create, write, sync the file, sync its directory. Only then does the caller commit the row as
//! `stored`. If a process dies before that, the sweeper finds the file through its row.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use windlass_types::{Crc64Digest, ErrorChain, StoreId};

use super::aligned_buffer::Buffer;
use super::direct_io::{DirectFile, MIN_DIRECT_BYTES};
use super::identity::{self, Identity};
use super::listing::{self, ListedObject, Listing};
use super::root::Root;
use super::{Chunk, Error, FileSlice, IfMissing, IfPresent, ObjectKey, Result, page_cache};
use crate::failpoints::CrashPoint;
use crate::spawn::spawn_blocking;

/// The size of a write: large enough to keep a disk busy, small enough for many concurrent bodies.
pub(super) const CHUNK_BYTES: usize = 384 * 1024;

/// The size of a write when memory is short; it still bypasses the page cache.
pub(super) const MIN_CHUNK_BYTES: usize = MIN_DIRECT_BYTES;

/// How many bytes are read and checked per call on a blocking thread: with fewer, thread switches take up more of the
/// time. No buffer of this size is needed.
pub(super) const PIECE_BYTES: u64 = 2 * 1024 * 1024;

/// How many bytes in the page cache are checked before they are sent: few enough to still be in the processor's cache
/// when the socket reads them, and not to delay other tasks on the thread.
const KEPT_BYTES: u64 = 512 * 1024;

/// Why a file system that does not sync directories cannot hold a store.
const NO_DIRECTORY_SYNC: &str = "its file system cannot sync directories, so an acknowledged file could be lost on \
                                 power failure; use a local file system such as ext4 or XFS, or a bucket";

/// Up to this size, bytes are copied to memory, which costs less than sending them from the file.
const SMALL_BYTES: u64 = 16 * 1024;

/// A directory of objects.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(super) root: Arc<Root>,
    /// Held while the identity is read, so that an unresponsive file system blocks at most one thread.
    verifying: Arc<tokio::sync::Mutex<()>>,
}

/// A file that is being written.
#[derive(Debug)]
pub struct FileWriter {
    /// `None` after a failed write.
    file: Option<DirectFile>,
    path: Arc<Path>,
    root: Arc<Root>,
}

/// A file that is being read.
#[derive(Debug, Clone)]
pub struct FileReader {
    file: Arc<File>,
    path: Arc<Path>,
    key: ObjectKey,
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

    /// Creates the directory and its 256 subdirectories where they are missing, and syncs them.
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

    fn path(&self, key: ObjectKey) -> Arc<Path> {
        self.root.path().join(key.to_string()).into()
    }

    pub(super) async fn create(&self, key: ObjectKey) -> Result<FileWriter> {
        let (path, root) = (self.path(key), Arc::clone(&self.root));
        let file = blocking(&path, {
            let (path, root) = (Arc::clone(&path), Arc::clone(&root));
            move || root.check().and_then(|()| create(&path))
        })
        .await?;
        Ok(FileWriter { file: Some(file), path, root })
    }

    /// Writes a whole file in a single blocking call: for a small file, switching threads is the main cost.
    pub(super) async fn put(&self, key: ObjectKey, whole: Buffer) -> Result<()> {
        let (path, root) = (self.path(key), Arc::clone(&self.root));
        blocking(&path.clone(), move || {
            root.check()?;
            let mut file = create(&path)?;
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

    pub(super) async fn read(&self, key: ObjectKey) -> Result<FileReader> {
        let path = self.path(key);
        let opened = blocking(&path, {
            let (path, root) = (Arc::clone(&path), Arc::clone(&self.root));
            move || {
                let file = File::open(&path).map_err(|error| root.explain(error))?;
                page_cache::advise_sequential(&file);
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

    /// Deletes files, and syncs their directories: a row may be deleted only once a crash cannot restore its file.
    pub(super) async fn delete(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Error)> {
        let paths: Vec<_> = keys.iter().map(|key| self.path(*key)).collect();
        let removed = spawn_blocking({
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

    pub(super) fn list(&self) -> Listing<ListedObject> {
        listing::files(self.root.path().to_path_buf(), "parts")
    }

    pub(super) async fn has(&self, key: ObjectKey) -> Result<bool> {
        let path = self.path(key);
        blocking(&path.clone(), move || path.try_exists()).await
    }

    pub(super) async fn size(&self, key: ObjectKey) -> Result<Option<u64>> {
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
        let file = self.file.take();
        let (file, chunk) = blocking(&self.path, move || {
            let mut file = file.ok_or_else(failed_before)?;
            file.write_all(chunk.bytes())?;
            chunk.clear();
            Ok((file, chunk))
        })
        .await?;
        self.file = Some(file);
        Ok(chunk)
    }

    pub(super) async fn finish(self) -> Result<()> {
        let path = Arc::clone(&self.path);
        blocking(&self.path, move || persist(&self.file.ok_or_else(failed_before)?, &path, &self.root)).await
    }

    pub(super) async fn abort(self) {
        let path = Arc::clone(&self.path);
        if let Err(error) = blocking(&self.path, move || fs::remove_file(&path)).await {
            tracing::warn!(
                error = %ErrorChain(&error),
                "a file could not be deleted and is left to the sweeper"
            );
        }
    }
}

impl FileReader {
    /// Reads a range on a blocking thread.
    pub fn read(&self, range: Range<u64>) -> mpsc::Receiver<Result<Chunk>> {
        let (out, chunks) = mpsc::channel(1);
        let this = self.clone();
        spawn_blocking(move || {
            // The channel has room for it.
            out.try_send(this.read_at_once(range)).ok();
        });
        chunks
    }

    /// Like [`Self::read`], for at most the first `PIECE_BYTES` of the range.
    pub fn wait_for(&self, range: Range<u64>) -> mpsc::Receiver<Result<Chunk>> {
        self.read(range.start..range.end.min(range.start + PIECE_BYTES))
    }

    /// The beginning of a range, as far as it can be read from the page cache without blocking.
    pub fn read_kept(&self, range: Range<u64>) -> Option<Chunk> {
        let mut crc64 = Crc64Digest::new();
        let range = range.start..range.end.min(range.start + KEPT_BYTES);
        let bytes = FileSlice::kept(&self.file, range, |seen| crc64.update(seen))?;
        Some(Chunk { bytes, crc64: crc64.finish() })
    }

    fn read_at_once(&self, range: Range<u64>) -> Result<Chunk> {
        let bytes = FileSlice::File(Arc::clone(&self.file), range);
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

fn failed_before() -> io::Error {
    io::Error::other("an earlier write failed")
}

/// Syncs a file and its directory entry, and checks that it is in the verified directory.
fn persist(file: &DirectFile, path: &Path, root: &Root) -> io::Result<()> {
    file.sync()?;
    CrashPoint::FileSynced.passed();
    path.parent().map_or(Ok(()), sync_directory)?;
    root.check()
}

/// Moves a file to its final name unless that name exists. On file systems without hard links this is not atomic, but
/// another process that does it concurrently writes the same bytes.
fn place(new: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(_) if !path.exists() => return fs::rename(new, path),
        linked => linked?,
    }
    fs::remove_file(new)
}

/// Removes all files, and only then syncs their directories: the journal commit of the first sync includes the changes
/// of the other directories.
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

/// Removes a file. If it is already gone, that counts as removed, so that its directory is synced as well: the process
/// that removed it may have died before doing so.
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

/// Runs file operations on a blocking thread, and adds the path to their errors.
async fn blocking<T: Send + 'static>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let done = spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|source| Error::Disk { path: path.to_path_buf(), source })
}

/// Runs blocking work that returns errors with their own paths.
async fn waiting<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let interrupted = |error| Error::Disk { path: PathBuf::new(), source: io::Error::other(error) };
    spawn_blocking(work).await.map_err(interrupted).flatten()
}
