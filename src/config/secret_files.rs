//! Secrets in files, such as container secrets: a variable `X_FILE` names a file with the value of `X`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use windlass_engine::store::Variables;

use super::environment::trimmed;
use super::problems::BadSetting;

/// The end of the names of variables that name a file with a secret.
pub(super) const SUFFIX: &str = "_FILE";

/// The maximum size of a file: more than any key, URL, certificate or service account.
const MOST_BYTES: u64 = 1024 * 1024;

/// Why the content of a file cannot be used. The messages do not contain it.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFile {
    #[error("cannot read the file {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the file {} is empty", .0.display())]
    Empty(PathBuf),
    #[error("the file {} is larger than 1 MiB: is it the right one?", .0.display())]
    TooLarge(PathBuf),
    #[error("the file {} is not UTF-8 text: is it the right one?", .0.display())]
    NotText(PathBuf),
}

/// Reads a secret. White space around it, such as the newline at the end of the file, is not part of it.
///
/// # Errors
/// When the file cannot be read, or is empty, too large or not UTF-8.
pub(super) fn read(path: &Path) -> Result<OsString, BadFile> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut content));
    read.map_err(|source| BadFile::Unreadable { path: path.to_owned(), source })?;
    if u64::try_from(content.len()).is_ok_and(|it| it > MOST_BYTES) {
        return Err(BadFile::TooLarge(path.to_owned()));
    }
    let content = String::from_utf8(content).map_err(|_| BadFile::NotText(path.to_owned()))?;
    // Some editors put a byte order mark at the beginning of a text.
    let content = content.trim_start_matches('\u{feff}').trim();
    if content.is_empty() { Err(BadFile::Empty(path.to_owned())) } else { Ok(content.into()) }
}

/// Sets the store's secrets that are in files. Returns the files by the name of the variable, and what cannot be used.
pub(super) fn read_for_store(
    environment: &mut BTreeMap<OsString, OsString>,
) -> (BTreeMap<String, PathBuf>, Vec<BadSetting>) {
    let (mut files, mut bad) = (BTreeMap::new(), Vec::new());
    let named = environment.iter().filter_map(|(name, path)| {
        let name = name.to_str()?.strip_suffix(SUFFIX).filter(|it| Variables::is_secret(it))?;
        Some((name.to_owned(), PathBuf::from(trimmed(path))))
    });
    let named: Vec<_> = named.filter(|it| !it.1.as_os_str().is_empty()).collect();
    for (name, path) in named {
        let is_set = environment.get(OsStr::new(&name)).is_some_and(|it| !trimmed(it).is_empty());
        let variable = format!("{name}{SUFFIX}");
        match read(&path) {
            _ if is_set => bad.push(BadSetting::both(&name, &name, &variable)),
            Ok(secret) => {
                environment.insert((&name).into(), secret);
                files.insert(name, path);
            }
            Err(error) => bad.push(BadSetting::value(&variable, &variable, None, error)),
        }
    }
    (files, bad)
}
