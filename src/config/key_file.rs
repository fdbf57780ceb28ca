//! The configured API key, from an environment variable or from a file such as a container secret.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::HiddenKey;
use crate::domain::{ApiKey, NotANewKey};

/// How much of the file is read: more than a key with white space around it can have.
const MOST_BYTES: u64 = 4096;

/// Why no key could be read. No message contains the key.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// Both settings are set.
    #[error("WINDLASS_API_KEY and WINDLASS_API_KEY_FILE (or --api-key-file) are both set; set one of them")]
    Both,
    /// The file cannot be read.
    #[error("cannot read the API key file {path}")]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file has nothing but white space.
    #[error("the API key file {0} is empty")]
    Empty(PathBuf),
    /// The file's content is not a valid key.
    #[error("the API key file {path} does not contain a valid key")]
    NoKey {
        /// Its path.
        path: PathBuf,
        /// The format of a valid key.
        source: NotANewKey,
    },
}

/// Reads the key from whichever setting is set.
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
