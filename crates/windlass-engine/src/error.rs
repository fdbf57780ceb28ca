//! The errors of the engine.

use std::io;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinError;
use windlass_types::{AnyPurpose, ByteCount, FileId, KeyId, Md5, PartId, ProjectName, StoreId, UploadId};

use crate::db;
use crate::model::{
    Answer, BadUploadSpec, LifetimeTooLong, NotJsonl, NotPending, PartsDoNotFit, QuotaExceeded, Scope, UploadState,
};
use crate::store;

/// An error of the engine. The messages are for operators and logs; `src/http/engine_error.rs` has those for clients.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The project has no Upload with this id.
    #[error("no such upload: {0}")]
    NoSuchUpload(UploadId),
    /// The project has no File with this id.
    #[error("no such file: {0}")]
    NoSuchFile(FileId),
    /// The list has no object with the id in `after`, after which the page should begin.
    #[error("no such cursor: {0}")]
    NoSuchCursor(String),
    /// The Upload has already been completed or cancelled.
    #[error("upload {upload} is {status}")]
    NotPending {
        /// Id of the Upload.
        upload: UploadId,
        /// The name of its state in the API.
        status: &'static str,
    },
    /// The Upload has expired.
    #[error("upload {0} has expired")]
    Expired(UploadId),
    /// The declared file exceeds a limit or violates a policy.
    #[error(transparent)]
    Spec(#[from] BadUploadSpec),
    /// The project would exceed a quota.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The File would live longer than its project permits.
    #[error(transparent)]
    Lifetime(#[from] LifetimeTooLong),
    /// The Upload has the maximum number of Parts.
    #[error("upload {0} has the maximum number of parts")]
    TooManyParts(UploadId),
    /// The Upload's Parts have many more bytes than it has declared.
    #[error("upload {0} has many more bytes than declared")]
    TooManyBytes(UploadId),
    /// The body exceeds the maximum size of a Part. Contains that size.
    #[error("the part exceeds {0} bytes")]
    PartTooLarge(ByteCount),
    /// The Part has no bytes.
    #[error("the part is empty")]
    PartEmpty,
    /// The body exceeds the maximum size of a File sent in one request. Contains that size.
    #[error("the file exceeds {0} bytes")]
    FileTooLarge(ByteCount),
    /// The body exceeds the maximum size of a File of its purpose sent in one request.
    #[error("the file has {bytes} bytes, but the limit for the purpose {purpose} is {limit}")]
    PurposeTooLarge {
        /// The purpose of the File.
        purpose: AnyPurpose,
        /// The limit for this purpose in bytes.
        limit: ByteCount,
        /// The size of the File in bytes.
        bytes: ByteCount,
    },
    /// A listed Part is not stored, or the Parts do not add up to the declared size.
    #[error(transparent)]
    PartsDoNotFit(#[from] PartsDoNotFit),
    /// The Upload has already been completed with other Parts, or its File is gone, so an `md5` cannot be compared.
    #[error("upload {0} was completed with other parts")]
    CompletedOtherwise(UploadId),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Another request with the same idempotency key was faster. The operation returns its response, or
    /// [`Error::KeyReused`], so no client receives this error.
    #[error("a request with the same idempotency key was faster")]
    AnsweredBefore(Box<Answer>),
    /// The MD5 of the bytes is not the one that the client sent.
    #[error("the md5 is {actual}, but the client sent {claimed}")]
    WrongMd5 {
        /// The MD5 that the client sent.
        claimed: Md5,
        /// The MD5 of the bytes.
        actual: Md5,
    },
    /// The file sent in one request is not JSON lines, which its purpose requires.
    #[error(transparent)]
    FileNotJsonl(NotJsonl),
    /// The listed Parts are not JSON lines, which the file's purpose requires.
    #[error(transparent)]
    PartsNotJsonl(NotJsonl),
    /// The key lacks this scope.
    #[error("the key lacks the scope {}", .0.as_str())]
    NotInScope(Scope),
    /// A service key was used without naming the project, or naming different ones.
    #[error("the request does not name one project")]
    ProjectNotNamed,
    /// A service key may not act for the named project, or it does not exist.
    #[error("the key may not act for the project {0}")]
    ProjectNotAllowed(String),
    /// The token of a signed URL is not one that this service has issued, or the key that created it is no longer valid.
    #[error("the signed URL is not valid")]
    BadUrl,
    /// The signed URL has expired.
    #[error("the signed URL has expired")]
    UrlExpired,
    /// The signed URL can be used once, and was used.
    #[error("the signed URL was used")]
    UrlUsed,
    /// The body exceeds the size that the signed URL permits, in bytes.
    #[error("the file exceeds the {0} bytes of its signed URL")]
    UrlFileTooLarge(ByteCount),
    /// The key is unknown, revoked or expired.
    #[error("unknown API key")]
    UnknownKey,
    /// No key has this id.
    #[error("there is no key '{0}'; `windlass keys list` shows them")]
    NoSuchKey(KeyId),
    /// No project has this name.
    #[error("there is no project '{0}'; `windlass projects list` shows them")]
    NoSuchProject(ProjectName),
    /// The events of a request could not be added to the audit trail. What it did may have taken effect.
    #[error("the request could not be recorded in the audit trail")]
    Unaudited,
    /// There is no time between the bounds of an export of the audit trail.
    #[error("--since ({since}) must be before --until ({until}), which is now by default")]
    NoTime {
        /// The beginning.
        since: DateTime<Utc>,
        /// The end.
        until: DateTime<Utc>,
    },
    /// No memory or permit became available in time, or too many tasks are running or waiting.
    #[error("the service is overloaded")]
    Busy,
    /// The request would wait longer than the limit for its project's turn.
    #[error("the request would wait for {wait:?}, which exceeds {limit:?}")]
    Overloaded {
        /// How long it would probably wait.
        wait: Duration,
        /// The limit.
        limit: Duration,
    },
    /// Unread responses use all of the memory for responses, or too many lists are being read.
    #[error("no memory is left for responses")]
    BusySending,
    /// The store does not belong to the ledger.
    #[error(transparent)]
    StoreMismatch(#[from] StoreMismatch),
    /// The ledger failed.
    #[error("the ledger failed")]
    Db(#[from] db::Error),
    /// A disk does not have enough free space.
    #[error("the disk is full")]
    DiskFull,
    /// The store rejected a write because its disk is full.
    #[error("the store's disk is full")]
    StoreFull(#[source] store::Error),
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] store::Error),
    /// Stored bytes could not be read.
    #[error("stored bytes cannot be read")]
    Read(#[source] io::Error),
    /// A stored Part could not be read.
    #[error("{part} of {upload} cannot be read")]
    Unreadable {
        /// Id of the Part.
        part: PartId,
        /// The Upload it belongs to.
        upload: UploadId,
        /// [`Error::Missing`], [`Error::Damaged`], or a failure of the store or the ledger.
        source: Box<Self>,
    },
    /// A stored Part's bytes do not have the length or the checksum in the ledger.
    #[error("the bytes of {0} are damaged: their length or checksum does not match")]
    Damaged(PartId),
    /// A stored Part's bytes are missing.
    #[error("the bytes of {0} are missing")]
    Missing(PartId),
    /// The handler stopped before the end of the body, so no client receives this error.
    #[error("the body was abandoned")]
    Abandoned,
    /// The runtime is shutting down and no longer runs tasks.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// A task panicked, which is a bug; the panic hook has logged its location. Unfinished work is recovered as after a
    /// crash.
    #[error("the operation panicked")]
    Panicked,
    /// An invariant does not hold, which is a bug.
    #[error("invariant violated: {0}")]
    Bug(&'static str),
}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Self {
        if error.is_panic() { Self::Panicked } else { Self::ShuttingDown }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        if error.is_disk_full() { Self::StoreFull(error) } else { Self::Store(error) }
    }
}

/// The result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Box<NotPending>> for Error {
    fn from(ended: Box<NotPending>) -> Self {
        let upload = ended.0;
        match upload.state {
            UploadState::Expired => Self::Expired(upload.id),
            UploadState::Pending | UploadState::Completed(_) | UploadState::Cancelled => {
                Self::NotPending { upload: upload.id, status: upload.state.as_str() }
            }
        }
    }
}

/// Why the service is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The ledger failed or timed out.
    #[error("the database cannot be used")]
    Database,
    /// A newer version has removed something from the schema that this one uses.
    #[error("the schema no longer supports this version")]
    Schema,
    /// The store failed or timed out.
    #[error("the store cannot be used")]
    Store,
    /// The store does not belong to the ledger.
    #[error(transparent)]
    StoreMismatch(#[from] StoreMismatch),
    /// The service is shutting down, and will soon accept no more connections.
    #[error("the service is shutting down")]
    ShuttingDown,
}

const HINT: &str = "Check DATABASE_URL, WINDLASS_DATA_DIR and WINDLASS_STORE, and that the store's volume is mounted. \
                    If the two belong together, for example after a restore, link them with `windlass store link`";

/// Why the ledger and the store cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreMismatch {
    /// The store has a different identity.
    #[error("the store {store} belongs to another database: its id is {found}, not {expected} as in this one. {HINT}")]
    Other {
        /// The location of the store.
        store: String,
        /// The store's identity.
        found: StoreId,
        /// The ledger's identity.
        expected: StoreId,
    },
    /// The store has no identity, or does not exist.
    #[error("the store {store} has no identity, but this database is linked to {expected}. {HINT}")]
    Missing {
        /// The location of the store.
        store: String,
        /// The ledger's identity.
        expected: StoreId,
    },
    /// The store has an identity, but the ledger has none.
    #[error("the store {store} belongs to another database: its id is {found}, but this one has no store yet. {HINT}")]
    Taken {
        /// The location of the store.
        store: String,
        /// The store's identity.
        found: StoreId,
    },
    /// The store's identity object cannot be parsed.
    #[error("the object `windlass-store.json` in the store {store} is not a valid identity. {HINT}")]
    Unreadable {
        /// The location of the store.
        store: String,
    },
    /// Neither has an identity, the ledger has no objects, and none of the store's sampled objects are in the ledger.
    #[error("the store {store} has objects, but this database references none of them. {HINT}")]
    UnknownObjects {
        /// The location of the store.
        store: String,
    },
    /// Neither has an identity, and none of the ledger's sampled objects are in the store.
    #[error("this database references objects, but the store {store} has none of them. {HINT}")]
    MissingObjects {
        /// The location of the store.
        store: String,
    },
}
