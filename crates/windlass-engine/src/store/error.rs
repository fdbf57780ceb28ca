//! The errors of the store.

use std::io;
use std::path::PathBuf;

use super::{ObjectKey, SetupError};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("object {0} is missing")]
    Missing(ObjectKey),
    /// A read returned fewer or more bytes than the object has according to the ledger.
    #[error("object {0} does not have the length that the ledger records")]
    WrongLength(ObjectKey),
    /// A file or directory could not be read or written.
    #[error("a file operation on {path} in the store failed", path = path.display())]
    Disk {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error from the operating system.
        source: io::Error,
    },
    /// The object store rejected a request, or is unreachable.
    #[error("a request to the object store failed")]
    Remote(#[from] object_store::Error),
    /// The bucket's incomplete multipart uploads could not be listed; a retry may succeed.
    #[error("incomplete multipart uploads could not be listed: {0}")]
    Listing(String),
    /// A directory that was linked with the ledger does not exist.
    #[error("the store's directory {path} is missing; is its volume mounted?", path = .0.display())]
    Gone(PathBuf),
    /// The identity object has invalid content.
    #[error("the store's identity, the object {}, has invalid content", super::identity::NAME)]
    BadIdentity,
    /// The store does not support listing incomplete multipart uploads, or its pagination is broken.
    #[error("the store does not list incomplete multipart uploads: {0}")]
    Unlisted(String),
    /// The pagination of the object listing does not terminate.
    #[error("the store's list of objects does not end")]
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
