//! The steps after which a process may die, by name: the tests make the real program die at each of
//! them, or panic, and check what is left. Without the feature `crash-points`, none of this is compiled in.

/// Declares the points, with their names as they are told and shown.
macro_rules! points {
    ($($(#[doc = $doc:literal])* $point:ident = $name:literal,)*) => {
        /// A step that has just been done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CrashPoint { $($(#[doc = $doc])* $point,)* }

        impl CrashPoint {
            /// Every one, in the order in which an Upload's life passes them.
            pub const ALL: &[Self] = &[$(Self::$point),*];

            /// Its name: the operation, and the step.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }
        }
    };
}

points! {
    /// The advisory lock is held; nothing is changed yet.
    MigrationLocked = "migrate: locked",
    /// A migration's statements have run; not committed.
    MigrationWritten = "migrate: statements run",
    /// Every migration is committed.
    Migrated = "migrate: committed",
    /// The ledger has the store's identity; the store does not have it yet.
    StoreNamed = "link store: named in the ledger",
    /// The store has its identity; the ledger does not record that yet.
    StoreIdentityWritten = "link store: identity written",
    /// The ledger and the store are linked.
    StoreLinked = "link store: linked",
    /// The first key is in its file; its row is not committed.
    FirstKeyKept = "first key: kept in its file",
    /// The first key's row is committed; nobody has been shown it.
    FirstKeyCommitted = "first key: committed",
    /// The Upload's row is committed.
    UploadWritten = "create upload: committed",
    /// The row of an object is committed; the store knows nothing of it.
    PartWritten = "add part: row committed",
    /// The file is there, and empty.
    FileCreated = "add part: file created",
    /// The store has begun a multipart upload; nobody else knows its id.
    MultipartBegun = "add part: multipart begun",
    /// The multipart upload's id is committed.
    MultipartWritten = "add part: multipart id committed",
    /// The store has some of the bytes.
    ChunkWritten = "add part: a chunk written",
    /// The file is synced, its directory is not.
    FileSynced = "add part: file synced",
    /// The store has the whole object, durably; the ledger does not know.
    ObjectFinished = "add part: object durable",
    /// The Part is committed as stored; nobody has been told.
    PartStored = "add part: committed",
    /// A Part is committed with its bytes; nobody has been told.
    PartKept = "add part: kept in the ledger",
    /// An object was given up and removed from the store; the ledger does not know.
    ObjectAborted = "give up part: object aborted",
    /// The ledger knows that the object was given up.
    PartAbandoned = "give up part: committed",
    /// The row of a form's Upload is committed.
    FormWritten = "create file: upload committed",
    /// The form's name and purpose are written down; not committed.
    FormDeclared = "create file: declared",
    /// The Upload's row is locked for completion.
    UploadLocked = "complete: locked",
    /// The File is written with its manifest, what is left over is garbage, the Upload is completed; not committed.
    CompletionWritten = "complete: before commit",
    /// The File is there; nobody has been told.
    CompletionCommitted = "complete: committed",
    /// The Upload is cancelled; its Parts are as they were; not committed.
    CancelWritten = "cancel: written",
    /// Its Parts are garbage; not committed.
    CancelDiscarded = "cancel: before commit",
    /// The Upload is cancelled; nobody has been told.
    CancelCommitted = "cancel: committed",
    /// The File is deleted; its Parts are as they were; not committed.
    DeletionWritten = "delete: written",
    /// Its Parts are garbage; not committed.
    DeletionDiscarded = "delete: before commit",
    /// The File is deleted; nobody has been told.
    DeletionCommitted = "delete: committed",
    /// A batch of Uploads is expired; not committed.
    UploadsExpired = "expire uploads: written",
    /// Their Parts are garbage; not committed.
    UploadsDiscarded = "expire uploads: before commit",
    /// The batch is committed.
    UploadExpiryCommitted = "expire uploads: committed",
    /// A batch of Files is expired; not committed.
    FilesExpired = "expire files: written",
    /// Their Parts are garbage; not committed.
    FilesDiscarded = "expire files: before commit",
    /// The batch is committed.
    FileExpiryCommitted = "expire files: committed",
    /// A batch of leftover Parts is garbage; not committed.
    DiscardContinued = "discard parts: before commit",
    /// The batch is committed.
    DiscardCommitted = "discard parts: committed",
    /// A batch of garbage is in this process's hands; the next try is committed.
    GarbageClaimed = "collect: claimed",
    /// A file is removed, its directory is not synced.
    FileRemoved = "collect: file removed",
    /// What is left of a multipart upload is aborted; the object may still be there.
    MultipartAborted = "collect: multipart aborted",
    /// The objects are gone from the store; their rows are not.
    ObjectsDeleted = "collect: objects deleted",
    /// The objects' rows are gone.
    RowsDeleted = "collect: rows deleted",
    /// Uploads that ended long ago are forgotten.
    UploadsForgotten = "forget: uploads",
    /// Rows of Files are deleted, those of their Uploads are not; not committed.
    FilesForgotten = "forget: before commit",
    /// The Files' rows and their Uploads' are gone.
    ForgettingCommitted = "forget: committed",
}

#[cfg(feature = "crash-points")]
pub use self::armed::{CrashAt, arm};

#[cfg(not(feature = "crash-points"))]
impl CrashPoint {
    /// Says that the step has been done.
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

    /// Where to crash, and how.
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

    /// Makes this process die at a point.
    pub fn arm(at: CrashAt) {
        AT.get_or_init(|| at);
    }

    impl CrashPoint {
        /// Marks the step as done. If this point is armed, the process is killed on the spot, or panics.
        ///
        /// # Panics
        /// If a panic was armed at this point.
        #[track_caller]
        pub fn passed(self) {
            let Some(at) = AT.get().filter(|it| it.point == self) else { return };
            if TIMES.fetch_add(1, Ordering::Relaxed) == 0 {
                assert!(!at.panics, "a test wants it at '{}'", self.name());
                kill(Pid::this(), Signal::SIGKILL).ok();
            }
        }
    }
}
