//! The store: one object per Part, in a directory or in a bucket. It is accessed only through this module.

mod aligned_buffer;
mod bucket;
mod clients;
mod deletion;
mod direct_io;
mod error;
mod explanation;
mod file_slice;
mod identity;
mod incomplete_uploads;
mod listing;
mod local_fs;
mod location;
mod object_key;
mod object_reader;
mod opening;
mod operation_metrics;
mod page_cache;
mod payload_integrity;
mod profile;
mod read_ahead;
mod root;
mod settings_check;
mod setup_error;
mod signed;
mod trial;
mod variables;

use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use windlass_types::{Crc64, Crc64Digest, StoreId};

pub use self::aligned_buffer::Buffer;
use self::bucket::{ObjectWriter, Remote};
pub use self::error::Error;
pub use self::file_slice::FileSlice;
pub use self::identity::{Identity, IfPresent};
pub use self::listing::{IncompleteUpload, ListedObject, Listing};
pub use self::local_fs::FileReader;
use self::local_fs::{Directory, FileWriter};
pub use self::location::Location;
pub use self::object_key::ObjectKey;
use self::object_reader::ObjectReader;
pub use self::read_ahead::{CHUNK_KIB, Chunks, ReadAhead};
pub use self::setup_error::SetupError;
pub use self::variables::Variables;
use crate::spans;

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An object to be deleted.
#[derive(Debug, Clone)]
pub struct ObjectToDelete {
    /// The name of the object.
    pub key: ObjectKey,
    /// The id of its multipart upload, if known, which may be incomplete.
    pub multipart: Option<String>,
    /// Whether the object was stored completely: then it has no incomplete multipart upload.
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
pub enum BlobStore {
    /// Files below a directory.
    Directory(Directory),
    /// Objects in a bucket.
    Remote(Remote),
}

impl BlobStore {
    /// Opens the store and checks that it is reachable. A directory does not accept objects until its identity is
    /// verified.
    ///
    /// # Errors
    /// If the store is unreachable or cannot be created, or does not exist and must not be created.
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

    /// The minimum and maximum size of a chunk that is written; the last chunk may be smaller.
    pub fn chunk_bytes(&self) -> RangeInclusive<usize> {
        match self {
            Self::Directory(_) => local_fs::MIN_CHUNK_BYTES..=local_fs::CHUNK_BYTES,
            Self::Remote(_) => bucket::CHUNK_BYTES..=bucket::CHUNK_BYTES,
        }
    }

    /// The most efficient size of a read, in bytes.
    pub fn piece_bytes(&self) -> u64 {
        match self {
            Self::Directory(_) => local_fs::PIECE_BYTES,
            Self::Remote(_) => object_reader::PIECE_BYTES,
        }
    }

    /// Writes a whole object. When this returns, it survives a crash of the machine.
    ///
    /// # Errors
    /// If the store fails. The object may exist nevertheless, so its row must be kept until it is deleted.
    pub async fn put(&self, key: ObjectKey, whole: Buffer) -> Result<()> {
        let work = async {
            match self {
                Self::Directory(it) => it.put(key, whole).await,
                Self::Remote(it) => it.put(key, whole).await,
            }
        };
        operation_metrics::recorded("put", work).await
    }

    /// Begins to write an object of several chunks.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn write(&self, key: ObjectKey) -> Result<Writer> {
        let work = async {
            match self {
                Self::Directory(it) => Ok(Writer::File(it.create(key).await?)),
                Self::Remote(it) => Ok(Writer::Object(it.create(key).await?)),
            }
        };
        operation_metrics::recorded("begin", work).await
    }

    /// Begins to read an object of `bytes` bytes. Read-ahead from a bucket beyond one chunk is counted in `memory`.
    ///
    /// # Errors
    /// If the file does not exist or cannot be opened. An object in a bucket is not requested before the first read.
    pub async fn read(&self, key: ObjectKey, bytes: u64, memory: &ReadAhead) -> Result<Reader> {
        match self {
            Self::Directory(it) => Ok(Reader::File(it.read(key).await?)),
            Self::Remote(it) => Ok(Reader::Object(it.read(key, bytes, memory.clone()))),
        }
    }

    /// Deletes objects and their incomplete multipart uploads. A missing object counts as deleted. Returns the objects
    /// that could not be deleted, with the errors.
    pub async fn delete(&self, objects: Vec<ObjectToDelete>) -> Vec<(ObjectKey, Error)> {
        let (began, count) = (Instant::now(), objects.len() as u64);
        let failed = match self {
            Self::Directory(it) => it.delete(objects.into_iter().map(|it| it.key).collect()).await,
            Self::Remote(it) => it.delete(objects).await,
        };
        operation_metrics::record("delete", began, count, failed.len() as u64);
        failed
    }

    /// Lists all objects below the prefix.
    pub fn list(&self) -> Listing<ListedObject> {
        match self {
            Self::Directory(it) => it.list(),
            Self::Remote(it) => it.list(),
        }
    }

    /// Lists all incomplete multipart uploads below the prefix, if the store supports that.
    pub fn list_incomplete(&self) -> Listing<IncompleteUpload> {
        match self {
            Self::Directory(_) => mpsc::channel(1).1,
            Self::Remote(it) => it.list_incomplete(),
        }
    }

    /// Aborts a multipart upload. A missing one counts as aborted.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn abort(&self, key: ObjectKey, multipart: &str) -> Result<()> {
        match self {
            Self::Directory(_) => Ok(()),
            Self::Remote(it) => it.abort(&it.path(key), multipart).await,
        }
    }

    /// Whether an object exists. Also works before the store's identity is verified.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn has(&self, key: ObjectKey) -> Result<bool> {
        match self {
            Self::Directory(it) => it.has(key).await,
            Self::Remote(it) => Ok(it.size(key).await?.is_some()),
        }
    }

    /// The size of an object in bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn size(&self, key: ObjectKey) -> Result<Option<u64>> {
        match self {
            Self::Directory(it) => it.size(key).await,
            Self::Remote(it) => it.size(key).await,
        }
    }
}

/// The location, without credentials.
impl fmt::Display for BlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(it) => it.fmt(f),
            Self::Remote(it) => it.fmt(f),
        }
    }
}

/// An object that is being written, complete only after `finish`. If it is dropped, the sweeper deletes what was written.
#[derive(Debug)]
pub enum Writer {
    /// In a directory.
    File(FileWriter),
    /// In a bucket.
    Object(ObjectWriter),
}

impl Writer {
    /// The store's id of the multipart upload; `None` for a file.
    pub fn multipart(&self) -> Option<&str> {
        match self {
            Self::File(_) => None,
            Self::Object(it) => Some(it.multipart()),
        }
    }

    /// Writes the next chunk, and returns an empty buffer for the one after it.
    ///
    /// # Errors
    /// If the store fails. The object must then be aborted.
    pub async fn write(&mut self, chunk: Buffer) -> Result<Buffer> {
        let work = async {
            match self {
                Self::File(it) => it.write(chunk).await,
                Self::Object(it) => it.write(chunk).await,
            }
        };
        operation_metrics::recorded("write", work).await
    }

    /// Completes the object. When this returns, it survives a crash of the machine.
    ///
    /// # Errors
    /// If the store fails. The object may exist nevertheless.
    pub async fn finish(self) -> Result<()> {
        let work = async {
            match self {
                Self::File(it) => it.finish().await,
                Self::Object(it) => it.finish().await,
            }
        };
        operation_metrics::recorded("finish", work).await
    }

    /// Aborts the object. A failure is logged and left to the sweeper, so its row must be kept until it is deleted.
    pub async fn abort(self) {
        match self {
            Self::File(it) => it.abort().await,
            Self::Object(it) => it.abort().await,
        }
    }
}

/// An object that is being read.
#[derive(Debug, Clone)]
pub enum Reader {
    /// In a directory: the file stays readable even if it is deleted while it is read.
    File(FileReader),
    /// In a bucket.
    Object(ObjectReader),
}

impl Reader {
    /// Reads a range. Its bytes arrive in order; an error is the last item. If they end early without an error, the
    /// read was interrupted.
    pub fn read(&self, range: Range<u64>) -> Chunks {
        match self {
            Self::File(it) => Chunks::from(it.read(range)).with_span(spans::store("read")),
            Self::Object(it) => it.read(range).with_span(spans::store("read")),
        }
    }
}

/// Bytes that were read, with their checksum.
#[derive(Debug)]
pub struct Chunk {
    /// The bytes.
    pub bytes: FileSlice,
    /// Their checksum.
    pub crc64: Crc64,
}

impl Chunk {
    fn of(bytes: FileSlice) -> io::Result<Self> {
        let mut crc64 = Crc64Digest::new();
        bytes.look(|seen| crc64.update(seen))?;
        Ok(Self { bytes, crc64: crc64.finish() })
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        let mut crc64 = Crc64Digest::new();
        crc64.update(&bytes);
        Self { bytes: FileSlice::Memory(bytes), crc64: crc64.finish() }
    }
}
