//! What a store holds below its prefix, as it says itself, one after another.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::{BlobKey, Error, Result};

/// An object that is there.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name below the prefix.
    pub name: String,
    /// Its name as one of ours; nothing where it is not.
    pub key: Option<BlobKey>,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified: SystemTime,
}

/// A multipart upload that was begun, and neither completed nor aborted.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The object that it would become, by its name below the prefix.
    pub name: String,
    /// The same as one of ours; nothing where it is not.
    pub key: Option<BlobKey>,
    /// The store's name for it.
    pub multipart: String,
    /// When it was begun, by the store's clock; nothing where the store does not say.
    pub begun: Option<SystemTime>,
}

/// What a listing gives, until it ends or fails.
pub type Listing<T> = mpsc::Receiver<Result<T>>;

/// Lists the files below a directory, in a thread that ends when nobody listens.
pub(super) fn files(root: PathBuf, below: &'static str) -> Listing<Listed> {
    let (out, listing) = mpsc::channel(256);
    tokio::task::spawn_blocking(move || {
        let top = root.join(below);
        if let Err(source) = walk(&root, &top, &out)
            && (source.kind() != io::ErrorKind::NotFound || top.exists())
        {
            out.blocking_send(Err(Error::Disk { path: root, source })).ok();
        }
    });
    listing
}

/// Whether somebody still listens is of no matter: a walk without a listener sends into nothing.
fn walk(root: &Path, directory: &Path, out: &mpsc::Sender<Result<Listed>>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if out.is_closed() {
            return Ok(());
        }
        if entry.file_type()?.is_dir() {
            walk(root, &entry.path(), out)?;
        } else if let Some(listed) = look(root, &entry)? {
            out.blocking_send(Ok(listed)).ok();
        }
    }
    Ok(())
}

/// Nothing where the file was deleted since.
fn look(root: &Path, entry: &DirEntry) -> io::Result<Option<Listed>> {
    let about = match entry.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    let path = entry.path();
    let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(Some(Listed { key: BlobKey::from_name(&name), name, bytes: about.len(), modified: about.modified()? }))
}
