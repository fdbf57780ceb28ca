//! Lists a store's objects and incomplete multipart uploads below its prefix, as streams.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use object_store::ObjectMeta;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use tokio::sync::mpsc;

use super::{Error, ObjectKey, Result};
use crate::spawn::spawn_blocking;

/// The maximum number of consecutive empty pages in the listing of a bucket.
const MAX_EMPTY_PAGES: usize = 10_000;

/// An object found in the store.
#[derive(Debug, Clone)]
pub struct ListedObject {
    /// Its name, relative to the prefix.
    pub name: String,
    /// The parsed name; `None` if it is not a name that this service generates.
    pub key: Option<ObjectKey>,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified: SystemTime,
}

/// A multipart upload that was begun, and neither completed nor aborted.
#[derive(Debug, Clone)]
pub struct IncompleteUpload {
    /// The name of the object that it would become, relative to the prefix.
    pub name: String,
    /// The parsed name; `None` if it is not a name that this service generates.
    pub key: Option<ObjectKey>,
    /// The store's id of the upload.
    pub multipart: String,
    /// When it was begun, by the store's clock; `None` if the store does not report it.
    pub begun: Option<SystemTime>,
}

/// The items of a listing, until it ends or fails.
pub type Listing<T> = mpsc::Receiver<Result<T>>;

/// Lists the objects of a bucket whose names begin with `prefix`, page by page.
pub(super) struct ObjectPages {
    lists: Arc<dyn PaginatedListStore>,
    prefix: String,
    token: Option<String>,
    is_last: bool,
    /// Tokens of all previous pages: a listing that returns one again does not terminate.
    seen: HashSet<String>,
    empty_in_a_row: usize,
}

impl ObjectPages {
    pub(super) fn new(lists: Arc<dyn PaginatedListStore>, prefix: String) -> Self {
        Self { lists, prefix, token: None, is_last: false, seen: HashSet::new(), empty_in_a_row: 0 }
    }

    /// Whether there are any objects. Sends a single request and does not follow pagination.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn has_any(lists: &dyn PaginatedListStore, prefix: &str) -> object_store::Result<bool> {
        let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        Ok(!lists.list_paginated(Some(prefix), options).await?.result.objects.is_empty())
    }

    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// If the store fails, or the pagination does not terminate.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<ObjectMeta>>> {
        if self.is_last {
            return Ok(None);
        }
        self.is_last = true;
        let options = PaginatedListOptions { page_token: self.token.take(), ..PaginatedListOptions::default() };
        let page = self.lists.list_paginated(Some(&self.prefix), options).await?;
        self.empty_in_a_row = if page.result.objects.is_empty() { self.empty_in_a_row + 1 } else { 0 };
        if let Some(token) = page.page_token.filter(|it| !it.is_empty()) {
            if !self.seen.insert(token.clone()) || self.empty_in_a_row > MAX_EMPTY_PAGES {
                return Err(Error::EndlessList);
            }
            self.token = Some(token);
            self.is_last = false;
        }
        // Some stores ignore the prefix.
        let ours = page.result.objects.into_iter().filter(|it| it.location.as_ref().starts_with(&self.prefix));
        Ok(Some(ours.collect()))
    }
}

/// Lists the files below a directory, on a blocking thread that ends when the receiver is dropped.
pub(super) fn files(root: PathBuf, below: &'static str) -> Listing<ListedObject> {
    let (out, listing) = mpsc::channel(256);
    spawn_blocking(move || {
        let top = root.join(below);
        if let Err(source) = walk(&root, &top, &out)
            && (source.kind() != io::ErrorKind::NotFound || top.exists())
        {
            out.blocking_send(Err(Error::Disk { path: root, source })).ok();
        }
    });
    listing
}

/// Sends the files below a directory. A failed send is ignored, since the next check of the channel ends the walk.
fn walk(root: &Path, directory: &Path, out: &mpsc::Sender<Result<ListedObject>>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if out.is_closed() {
            return Ok(());
        }
        if entry.file_type()?.is_dir() {
            walk(root, &entry.path(), out)?;
        } else if let Some(listed) = describe(root, &entry)? {
            out.blocking_send(Ok(listed)).ok();
        }
    }
    Ok(())
}

/// Describes a file; `None` if it has been deleted since.
fn describe(root: &Path, entry: &DirEntry) -> io::Result<Option<ListedObject>> {
    let about = match entry.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    let path = entry.path();
    let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(Some(ListedObject { key: ObjectKey::from_name(&name), name, bytes: about.len(), modified: about.modified()? }))
}
