//! The check of the store at startup: a small object is written, read and deleted.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use uuid::Uuid;
use windlass_types::ErrorChain;

use super::bucket::Remote;
use super::explanation::explain;
use super::{BlobStore, Error, Result, SetupError};
use crate::spawn::spawn_blocking;

/// The name of the object. In a directory, a unique extension follows.
const NAME: &str = "startup-check";

const CONTENT: &[u8] = b"Written, read and deleted at each start of Windlass.\n";

/// How often the check of a bucket is repeated if the object is missing when it is read: another replica that starts at
/// the same time may have deleted it.
const ATTEMPTS: usize = 10;

impl BlobStore {
    /// Writes, reads and deletes a small object. If it cannot be deleted, this is only logged: the sweeper retries
    /// deletions for as long as it takes.
    ///
    /// # Errors
    /// [`SetupError::Unusable`] with what is wrong and what to change, if it cannot be written or read.
    pub async fn try_out(&self) -> Result<()> {
        let tried = match self {
            Self::Directory(it) => {
                let root = Arc::clone(&it.root);
                let path = root.path().to_owned();
                let tried = spawn_blocking(move || in_directory(root.path())).await.map_err(io::Error::other);
                tried.flatten().map_err(|source| Error::Disk { path, source })
            }
            Self::Remote(it) => in_bucket(it).await,
        };
        tried.map_err(|error| self.explained(error))
    }

    /// Adds to an error at startup what is wrong, and what to change.
    pub(crate) fn explained(&self, error: Error) -> Error {
        match self {
            Self::Directory(_) => explain_disk(error),
            Self::Remote(it) => explain(error, &it.place, None),
        }
    }
}

fn in_directory(root: &Path) -> io::Result<()> {
    let path = root.join(NAME).with_extension(Uuid::now_v7().simple().to_string());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let tried = file.write_all(CONTENT).and_then(|()| file.sync_all()).and_then(|()| fs::read(&path));
    let deleted = fs::remove_file(&path);
    if tried? != CONTENT {
        return Err(io::Error::other("a file does not contain what was written to it"));
    }
    deleted
}

async fn in_bucket(bucket: &Remote) -> Result<()> {
    let (objects, path) = (&bucket.client.objects, bucket.prefix.clone().join(NAME));
    let failed = |what: &str, error: Error| {
        let mut error = explain(error, &bucket.place, None);
        if let Error::Setup(SetupError::Unusable { problem, .. }) = &mut error {
            *problem = format!("a small object could not be {what}: {problem}");
        }
        error
    };
    for _ in 0..ATTEMPTS {
        objects.put(&path, CONTENT.into()).await.map_err(|it| failed("written", it.into()))?;
        let read = match objects.get(&path).await {
            Ok(found) => found.bytes().await,
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => Err(error),
        };
        if read.map_err(|it| failed("read", it.into()))? != CONTENT {
            return Err(lossy(bucket, "a small object does not have the content that was written to it"));
        }
        // Not every S3-compatible store supports bulk deletion.
        let deleted = match &bucket.s3 {
            Some(s3) => s3.singly.delete(&path).await,
            None => objects.delete(&path).await,
        };
        match deleted {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                let error = failed("deleted", error.into());
                tracing::warn!(error = %ErrorChain(&error), "deleted files stay in the store until this is fixed");
            }
        }
        return Ok(());
    }
    Err(lossy(bucket, "a small object was written, but is missing when it is read"))
}

/// The store does not return what was written.
fn lossy(bucket: &Remote, problem: &'static str) -> Error {
    SetupError::Lossy { place: bucket.place.name.clone(), problem }.into()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "there are many kinds, and their names say enough")]
fn explain_disk(error: Error) -> Error {
    let Error::Disk { path, source } = &error else { return error };
    let problem = match source.kind() {
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only: mount it read-write".to_owned(),
        ErrorKind::PermissionDenied => format!(
            "this process (user {}, group {}) has no write access: change the owner or the mode of the directory",
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw()
        ),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "it must be a directory".to_owned(),
        _ => return error,
    };
    SetupError::Unusable {
        place: format!("the store's directory {}", path.display()),
        problem,
        source: Box::new(error),
    }
    .into()
}
