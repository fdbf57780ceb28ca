//! Crash points: named steps after which tests kill the real program, or make it panic, and check what is left. Without
//! the feature `crash-points`, they do nothing.

/// Declares the crash points with their names.
macro_rules! points {
    ($($(#[doc = $doc:literal])* $point:ident = $name:literal,)*) => {
        /// A step that has just been completed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CrashPoint { $($(#[doc = $doc])* $point,)* }

        impl CrashPoint {
            /// All crash points, in the order in which an Upload passes them.
            pub const ALL: &[Self] = &[$(Self::$point),*];

            /// The name, as `operation: step`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }
        }
    };
}

points! {
    /// The advisory lock is held, and nothing is changed yet.
    MigrationLocked = "migrate: locked",
    /// A migration's statements have run, but are not committed.
    MigrationWritten = "migrate: statements run",
    /// Every migration is committed.
    Migrated = "migrate: committed",
    /// The ledger has the store's identity, but the store does not have it yet.
    StoreNamed = "link store: named in the ledger",
    /// The store has its identity, but the ledger does not record that yet.
    StoreIdentityWritten = "link store: identity written",
    /// The ledger and the store are linked.
    StoreLinked = "link store: linked",
    /// The first key is in its file, but its row is not committed.
    FirstKeyKept = "first key: kept in its file",
    /// The first key's row is committed, but the key has not been shown.
    FirstKeyCommitted = "first key: committed",
    /// The Upload's row is committed.
    UploadWritten = "create upload: committed",
    /// The row of an object is committed, but nothing was sent to the store.
    PartWritten = "add part: row committed",
    /// The file exists and is empty.
    FileCreated = "add part: file created",
    /// The store has begun a multipart upload, but its id is not in the ledger.
    MultipartBegun = "add part: multipart begun",
    /// The multipart upload's id is committed.
    MultipartWritten = "add part: multipart id committed",
    /// The store has some of the bytes.
    ChunkWritten = "add part: a chunk written",
    /// The file is synced, but its directory is not.
    FileSynced = "add part: file synced",
    /// The store has the whole object durably, but the ledger does not record that yet.
    ObjectFinished = "add part: object durable",
    /// The Part is committed as stored, but no response was sent.
    PartStored = "add part: committed",
    /// The response to an idempotent request is recorded in the transaction of the creation, but not committed.
    AnswerRecorded = "idempotency key: before commit",
    /// A Part is committed with its bytes, but no response was sent.
    PartKept = "add part: kept in the ledger",
    /// An object was abandoned and removed from the store, but the ledger does not record that yet.
    ObjectAborted = "give up part: object aborted",
    /// The ledger records that the object was abandoned.
    PartAbandoned = "give up part: committed",
    /// The row of a form's Upload is committed.
    FormWritten = "create file: upload committed",
    /// The form's name and purpose are written, but not committed.
    FormDeclared = "create file: declared",
    /// The Upload's row is locked for completion.
    UploadLocked = "complete: locked",
    /// The File is written with its manifest, unused Parts are garbage and the Upload is completed, but not committed.
    CompletionWritten = "complete: before commit",
    /// The File is committed, but no response was sent.
    CompletionCommitted = "complete: committed",
    /// The Upload is cancelled, but its Parts are unchanged and nothing is committed.
    CancelWritten = "cancel: written",
    /// The cancelled Upload's Parts are marked as garbage, but nothing is committed.
    CancelDiscarded = "cancel: before commit",
    /// The cancellation is committed, but no response was sent.
    CancelCommitted = "cancel: committed",
    /// The File is deleted, but its Parts are unchanged and nothing is committed.
    DeletionWritten = "delete: written",
    /// The deleted File's Parts are marked as garbage, but nothing is committed.
    DeletionDiscarded = "delete: before commit",
    /// The deletion is committed, but no response was sent.
    DeletionCommitted = "delete: committed",
    /// A batch of Uploads is expired, but not committed.
    UploadsExpired = "expire uploads: written",
    /// The expired Uploads' Parts are marked as garbage, but nothing is committed.
    UploadsDiscarded = "expire uploads: before commit",
    /// The batch of expired Uploads is committed.
    UploadExpiryCommitted = "expire uploads: committed",
    /// A batch of Files is expired, but not committed.
    FilesExpired = "expire files: written",
    /// The expired Files' Parts are marked as garbage, but nothing is committed.
    FilesDiscarded = "expire files: before commit",
    /// The batch of expired Files is committed.
    FileExpiryCommitted = "expire files: committed",
    /// A batch of queued Parts is marked as garbage, but not committed.
    DiscardContinued = "discard parts: before commit",
    /// The batch of queued Parts is committed as garbage.
    DiscardCommitted = "discard parts: committed",
    /// This process has claimed a batch of garbage, and the time of the next attempt is committed.
    GarbageClaimed = "collect: claimed",
    /// A file is removed, but its directory is not synced.
    FileRemoved = "collect: file removed",
    /// Incomplete multipart uploads are aborted; the objects may still exist.
    MultipartAborted = "collect: multipart aborted",
    /// The objects are deleted from the store, but their rows still exist.
    ObjectsDeleted = "collect: objects deleted",
    /// The objects' rows are deleted.
    RowsDeleted = "collect: rows deleted",
    /// The rows of Uploads that ended long ago are deleted.
    UploadsForgotten = "forget: uploads",
    /// Rows of Files are deleted, but not those of their Uploads, and nothing is committed.
    FilesForgotten = "forget: before commit",
    /// The deletion of the Files' and their Uploads' rows is committed.
    ForgettingCommitted = "forget: committed",
}

#[cfg(feature = "crash-points")]
pub use self::armed::{CrashAt, arm};

#[cfg(not(feature = "crash-points"))]
impl CrashPoint {
    /// Does nothing without the feature `crash-points`.
    #[inline]
    pub const fn passed(self) {}
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::CrashPoint;

    static AT: OnceLock<CrashAt> = OnceLock::new();
    static TIMES: AtomicU32 = AtomicU32::new(0);

    /// A prefix to the name of a crash point: panic there, instead of being killed.
    const PANIC: &str = "panic at ";

    /// An armed crash point: where to crash, and how.
    #[derive(Debug, Clone, Copy)]
    pub struct CrashAt {
        point: CrashPoint,
        panics: bool,
    }

    impl FromStr for CrashAt {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            let name = text.strip_prefix(PANIC).unwrap_or(text);
            let point = CrashPoint::ALL.iter().copied().find(|it| it.name() == name);
            let point = point.ok_or_else(|| format!("there is no crash point '{name}'"))?;
            Ok(Self { point, panics: text.starts_with(PANIC) })
        }
    }

    /// Arms a crash point: the process dies when it first passes it. Only the first call has an effect.
    pub fn arm(at: CrashAt) {
        AT.get_or_init(|| at);
    }

    impl CrashPoint {
        /// Marks the step as completed. If this point is armed, the process is killed immediately, or panics.
        ///
        /// # Panics
        /// If a panic was armed at this point.
        #[track_caller]
        pub fn passed(self) {
            let Some(at) = AT.get().filter(|it| it.point == self) else { return };
            if TIMES.fetch_add(1, Ordering::Relaxed) == 0 {
                assert!(!at.panics, "armed crash point '{}'", self.name());
                kill(Pid::this(), Signal::SIGKILL).ok();
            }
        }
    }
}
