//! The API key that shall exist: from a variable or from a file, as secrets are given to containers.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::HiddenKey;
use crate::domain::{ApiKey, NotANewKey};

/// More than a key with white space around it can have.
const MOST_BYTES: u64 = 4096;

/// Why there is no key. No message repeats it.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// There are two of them.
    #[error("WINDLASS_API_KEY and WINDLASS_API_KEY_FILE (or --api-key-file) are both set; set one of them")]
    Both,
    /// The file cannot be read.
    #[error("the API key's file {path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has nothing but white space.
    #[error("the API key's file {0} is empty")]
    Empty(PathBuf),
    /// It has something else.
    #[error("the API key's file {path} has no key that can be used")]
    NoKey {
        /// Which.
        path: PathBuf,
        /// What would be right.
        source: NotANewKey,
    },
}

/// The key of whichever setting is there.
pub(super) fn choose(key: Option<HiddenKey>, path: Option<PathBuf>) -> Result<Option<HiddenKey>, BadKey> {
    match (key, path) {
        (Some(_), Some(_)) => Err(BadKey::Both),
        (None, Some(path)) => read(&path).map(Some),
        (key, None) => Ok(key),
    }
}

fn read(path: &Path) -> Result<HiddenKey, BadKey> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut content));
    read.map_err(|source| BadKey::Unreadable { path: path.to_owned(), source })?;
    let content = content.trim_ascii();
    if content.is_empty() {
        return Err(BadKey::Empty(path.to_owned()));
    }
    let key = str::from_utf8(content).map_err(|_| NotANewKey).and_then(ApiKey::chosen);
    key.map(HiddenKey).map_err(|source| BadKey::NoKey { path: path.to_owned(), source })
}
