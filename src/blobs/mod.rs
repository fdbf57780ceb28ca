//! The store: one object a Part, in a directory or in a bucket. Everything else asks only this module.

mod blob_key;
mod buffer;
mod clients;
mod deletion;
mod direct;
mod directory;
mod explanation;
mod identity;
mod listing;
mod location;
mod multiparts;
mod object_reader;
mod opening;
mod page_cache;
mod profile;
mod read_ahead;
mod remote;
mod root;
mod setup_error;
mod signed;
mod stretch;
mod transit;
mod variables;

use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::blob_key::BlobKey;
pub use self::buffer::Buffer;
pub use self::directory::FileReader;
use self::directory::{Directory, FileWriter};
pub use self::identity::{Identity, IfPresent};
pub use self::listing::{Begun, Listed, Listing};
pub use self::location::Location;
use self::object_reader::ObjectReader;
pub use self::read_ahead::{CHUNK_KIB, Chunks, ReadAhead};
use self::remote::{ObjectWriter, Remote};
pub use self::setup_error::SetupError;
pub use self::stretch::Stretch;
pub use self::variables::Variables;
use crate::domain::{Crc64, Crc64Digest, StoreId};

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is not there.
    #[error("object {0} is missing")]
    Missing(BlobKey),
    /// A read gave fewer or more bytes than the object has, by its row.
    #[error("object {0} has another length than the ledger says")]
    WrongLength(BlobKey),
    /// A file or directory could not be read or written.
    #[error("the store's file {path} failed", path = path.display())]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The object store refused, or could not be reached.
    #[error("the object store failed")]
    Remote(#[from] object_store::Error),
    /// The bucket's incomplete multipart uploads could not be listed; a retry may succeed.
    #[error("the half-done multipart uploads could not be listed: {0}")]
    Listing(String),
    /// A directory that was linked with the ledger does not exist.
    #[error("the store's directory {path} is missing; is its volume mounted?", path = .0.display())]
    Gone(PathBuf),
    /// The identity object has invalid content.
    #[error("the store's identity, the object {}, cannot be read", identity::NAME)]
    BadIdentity,
    /// The store does not support listing incomplete multipart uploads, or its pagination is broken.
    #[error("the store does not list half-done multipart uploads: {0}")]
    Unlisted(String),
    /// The pagination of the object listing does not terminate.
    #[error("the store's list of objects has no end")]
    EndlessList,
    /// The store cannot be used as configured.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl Error {
    /// Whether the disk is full or the quota was exceeded.
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Disk { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// Everything in this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An object that is to go.
#[derive(Debug, Clone)]
pub struct Doomed {
    /// Which.
    pub key: BlobKey,
    /// The multipart upload, as far as is known, that may be left of it half-done.
    pub multipart: Option<String>,
    /// Whether it was once acknowledged: then nothing half-done is left of it.
    pub whole: bool,
}

/// What to do if the directory or bucket does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Create it: the ledger has no store yet.
    Make,
    /// Fail: a store that has disappeared must not be replaced by an empty one.
    Fail,
}

/// An opened store.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// Files below a directory, each synced before it counts.
    Directory(Directory),
    /// Objects in a bucket.
    Remote(Remote),
}

impl Blobs {
    /// Opens the store and checks that it can be reached. A directory does not accept objects until its identity is
    /// verified.
    ///
    /// # Errors
    /// If the store cannot be reached or created, or does not exist and must not be created.
    pub async fn open(location: &Location, variables: &Variables, if_missing: IfMissing) -> Result<Self> {
        match location {
            Location::Directory(path) => Ok(Self::Directory(Directory::open(path.clone(), if_missing).await?)),
            Location::Bucket(bucket) => Ok(Self::Remote(opening::open(bucket, variables, if_missing).await?)),
        }
    }

    /// Creates what is needed before objects can be written: a directory store's root and subdirectories.
    ///
    /// # Errors
    /// If they cannot be created, or the file system does not support syncing directories.
    pub async fn prepare(&self) -> Result<()> {
        match self {
            Self::Directory(it) => it.prepare().await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// The store's identity, if it has one.
    ///
    /// # Errors
    /// If the store fails, or [`Error::BadIdentity`].
    pub async fn identity(&self) -> Result<Option<StoreId>> {
        match self {
            Self::Directory(it) => it.identity().await,
            Self::Remote(it) => it.identity().await,
        }
    }

    /// Compares the store's identity with the expected one. From then on, a directory accepts changes only while its
    /// path refers to the verified directory.
    ///
    /// # Errors
    /// If the store fails, or [`Error::BadIdentity`].
    pub async fn verify(&self, expected: StoreId) -> Result<Identity> {
        match self {
            Self::Directory(it) => it.verify(expected).await,
            Self::Remote(it) => Ok(Identity::of(it.identity().await?, expected)),
        }
    }

    /// Writes the store's identity durably. Several processes may do so concurrently.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn write_identity(&self, id: StoreId, if_present: IfPresent) -> Result<()> {
        match self {
            Self::Directory(it) => it.write_identity(id, if_present).await,
            Self::Remote(it) => it.write_identity(id, if_present).await,
        }
    }

    /// The least and the most bytes that a writer takes at once; the last chunk may be smaller.
    pub fn chunk_bytes(&self) -> RangeInclusive<usize> {
        match self {
            Self::Directory(_) => directory::LEAST_CHUNK_BYTES..=directory::CHUNK_BYTES,
            Self::Remote(_) => remote::CHUNK_BYTES..=remote::CHUNK_BYTES,
        }
    }

    /// How many bytes a reader is best asked for at once.
    pub fn piece_bytes(&self) -> u64 {
        match self {
            Self::Directory(_) => directory::PIECE_BYTES,
            Self::Remote(_) => object_reader::PIECE_BYTES,
        }
    }

    /// Writes an object whose bytes are all there: when this returns, they survive a crash of the machine.
    ///
    /// # Errors
    /// When the store fails: its row stays until it is surely gone.
    pub async fn put(&self, key: BlobKey, whole: Buffer) -> Result<()> {
        match self {
            Self::Directory(it) => it.put(key, whole).await,
            Self::Remote(it) => it.put(key, whole).await,
        }
    }

    /// Begins an object of several chunks.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn write(&self, key: BlobKey) -> Result<Writer> {
        match self {
            Self::Directory(it) => Ok(Writer::File(it.create(key).await?)),
            Self::Remote(it) => Ok(Writer::Object(it.create(key).await?)),
        }
    }

    /// Begins to read an object of so many bytes. Read-ahead from a bucket beyond one chunk is counted in `memory`.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn read(&self, key: BlobKey, bytes: u64, memory: &ReadAhead) -> Result<Reader> {
        match self {
            Self::Directory(it) => Ok(Reader::File(it.read(key).await?)),
            Self::Remote(it) => Ok(Reader::Object(it.read(key, bytes, memory.clone()))),
        }
    }

    /// Deletes objects, and what half-done multipart uploads may be left of them. What is not there
    /// counts as deleted. Gives the failures.
    pub async fn delete(&self, doomed: Vec<Doomed>) -> Vec<(BlobKey, Error)> {
        match self {
            Self::Directory(it) => it.delete(doomed.into_iter().map(|it| it.key).collect()).await,
            Self::Remote(it) => it.delete(doomed).await,
        }
    }

    /// Lists every object below the prefix.
    pub fn list(&self) -> Listing<Listed> {
        match self {
            Self::Directory(it) => it.list(),
            Self::Remote(it) => it.list(),
        }
    }

    /// Lists every half-done multipart upload below the prefix, where the store can tell.
    pub fn list_half_done(&self) -> Listing<Begun> {
        match self {
            Self::Directory(_) => mpsc::channel(1).1,
            Self::Remote(it) => it.list_half_done(),
        }
    }

    /// Aborts a half-done multipart upload; one that is not there counts as aborted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn abort(&self, key: BlobKey, multipart: &str) -> Result<()> {
        match self {
            Self::Directory(_) => Ok(()),
            Self::Remote(it) => it.abort(&it.path(key), multipart).await,
        }
    }

    /// Whether an object exists. Also works before the store's identity is verified.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn has(&self, key: BlobKey) -> Result<bool> {
        match self {
            Self::Directory(it) => it.has(key).await,
            Self::Remote(it) => Ok(it.size(key).await?.is_some()),
        }
    }

    /// How many bytes an object has; nothing where it is not there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn size(&self, key: BlobKey) -> Result<Option<u64>> {
        match self {
            Self::Directory(it) => it.size(key).await,
            Self::Remote(it) => it.size(key).await,
        }
    }
}

/// The location, without credentials.
impl fmt::Display for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(it) => it.fmt(f),
            Self::Remote(it) => it.fmt(f),
        }
    }
}

/// An object being written. It counts only after `finish`; dropped, it leaves what its row names.
#[derive(Debug)]
pub enum Writer {
    /// In a directory.
    File(FileWriter),
    /// In a bucket.
    Object(ObjectWriter),
}

impl Writer {
    /// The store's name for what is under way, where it has one.
    pub fn multipart(&self) -> Option<&str> {
        match self {
            Self::File(_) => None,
            Self::Object(it) => Some(it.multipart()),
        }
    }

    /// Writes the next bytes, and gives an empty buffer for the ones after.
    ///
    /// # Errors
    /// When the store fails: the object is then given up.
    pub async fn write(&mut self, chunk: Buffer) -> Result<Buffer> {
        match self {
            Self::File(it) => it.write(chunk).await,
            Self::Object(it) => it.write(chunk).await,
        }
    }

    /// Ends the object: when this returns, its bytes survive a crash of the machine.
    ///
    /// # Errors
    /// When the store fails: the object is then given up.
    pub async fn finish(self) -> Result<()> {
        match self {
            Self::File(it) => it.finish().await,
            Self::Object(it) => it.finish().await,
        }
    }

    /// Gives the object up, as well as the store lets us: its row stays until it is surely gone.
    pub async fn abort(self) {
        match self {
            Self::File(it) => it.abort().await,
            Self::Object(it) => it.abort().await,
        }
    }
}

/// An object being read.
#[derive(Debug, Clone)]
pub enum Reader {
    /// In a directory: the file stays readable even if it is deleted meanwhile.
    File(FileReader),
    /// In a bucket.
    Object(ObjectReader),
}

impl Reader {
    /// Reads a range. Its bytes come in order; a failure is the last item. If the bytes end early without one, the read
    /// was interrupted.
    pub fn read(&self, range: Range<u64>) -> Chunks {
        match self {
            Self::File(it) => it.read(range).into(),
            Self::Object(it) => it.read(range),
        }
    }
}

/// Bytes that were read, and looked at.
#[derive(Debug)]
pub struct Chunk {
    /// Where they are.
    pub bytes: Stretch,
    /// Their checksum.
    pub crc64: Crc64,
}

impl Chunk {
    fn of(bytes: Stretch) -> io::Result<Self> {
        let mut crc64 = Crc64Digest::new();
        bytes.look(|seen| crc64.update(seen))?;
        Ok(Self { bytes, crc64: crc64.finish() })
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        let mut crc64 = Crc64Digest::new();
        crc64.update(&bytes);
        Self { bytes: Stretch::Memory(bytes), crc64: crc64.finish() }
    }
}
