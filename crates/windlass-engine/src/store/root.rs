//! The root of a directory store, and whether its path still refers to the verified directory.
//!
//! Unmounting a volume leaves an empty directory at the mount point, and another volume may be mounted there. So the
//! root's device and inode are recorded when its identity is verified, and compared before and after every change,
//! which costs two calls of `stat`, a few microseconds.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use windlass_types::StoreId;

use super::identity::{self, Identity};
use super::{Error, Result};

/// The device and inode of a directory.
type Inode = (u64, u64);

/// The root directory of a store.
#[derive(Debug)]
pub(super) struct Root {
    path: Box<Path>,
    verified: Mutex<Option<Inode>>,
}

impl Root {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), verified: Mutex::new(None) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The identity stored in this directory, if any.
    pub(super) fn identity(&self) -> Result<Option<StoreId>> {
        let path = self.path.join(identity::NAME);
        match fs::read(&path) {
            Ok(bytes) => identity::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Disk { path, source }),
        }
    }

    /// Compares the identity in this directory with the expected one. Changes are allowed from then on only if they
    /// match.
    pub(super) fn verify(&self, expected: StoreId) -> Result<Identity> {
        let inode = || match fs::metadata(&self.path) {
            Ok(about) => Ok(Some(inode_of(&about))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Disk { path: self.path.to_path_buf(), source }),
        };
        let before = inode()?;
        let found = self.identity().map(|it| Identity::of(it, expected));
        let after = inode()?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let is_verified = match found {
            Ok(Identity::Expected) => before == after,
            // If the identity cannot be read this time, an earlier verification of the same directory remains valid.
            Err(_) => before == after && before == *verified,
            Ok(Identity::Other(_) | Identity::Missing) => false,
        };
        *verified = before.filter(|_| is_verified);
        found
    }

    /// Checks that the path refers to the verified directory.
    pub(super) fn check(&self) -> io::Result<()> {
        let verified = *self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::metadata(&self.path) {
            Ok(about) if Some(inode_of(&about)) == verified => Ok(()),
            Ok(_) => Err(replaced()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(replaced()),
            Err(error) => Err(error),
        }
    }

    /// Makes a change between two checks, to ensure that it was made in the verified directory.
    pub(super) fn change<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.check()?;
        let changed = change()?;
        self.check()?;
        Ok(changed)
    }

    /// Returns `error`, unless the path no longer refers to the verified directory, which is then the likely cause.
    pub(super) fn explain(&self, error: io::Error) -> io::Error {
        self.check().err().unwrap_or(error)
    }
}

fn inode_of(about: &Metadata) -> Inode {
    (about.dev(), about.ino())
}

fn replaced() -> io::Error {
    io::Error::other("the store's directory is not the one that was verified; is its volume mounted?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(place: &Path, id: Option<StoreId>) -> Root {
        let path = place.join("store");
        fs::create_dir(&path).unwrap();
        if let Some(id) = id {
            fs::write(path.join(identity::NAME), identity::encode(id)).unwrap();
        }
        Root::new(&path)
    }

    #[test]
    fn changes_to_an_unverified_directory_are_rejected() {
        let place = tempfile::tempdir().unwrap();
        let (ours, other) = (StoreId::generate(), StoreId::generate());
        let root = root(place.path(), Some(other));
        assert!(root.change(|| Ok(())).is_err());
        assert_eq!(root.verify(ours).unwrap(), Identity::Other(other));
        assert!(root.change(|| Ok(())).is_err());
        assert_eq!(root.verify(other).unwrap(), Identity::Expected);
        assert!(root.change(|| Ok(())).is_ok());
    }

    #[test]
    fn a_replaced_directory_is_detected_before_and_after_a_change() {
        let place = tempfile::tempdir().unwrap();
        let id = StoreId::generate();
        let root = root(place.path(), Some(id));
        root.verify(id).unwrap();
        let replace = || {
            fs::rename(root.path(), place.path().join("away"))?;
            fs::create_dir(root.path())
        };
        assert!(root.change(replace).is_err(), "it was replaced during the change");
        assert!(root.change(|| -> io::Result<()> { panic!("the change must not run") }).is_err());
        assert_eq!(root.verify(id).unwrap(), Identity::Missing);
        fs::remove_dir(root.path()).unwrap();
        assert_eq!(root.verify(id).unwrap(), Identity::Missing);
        fs::rename(place.path().join("away"), root.path()).unwrap();
        assert!(root.change(|| Ok(())).is_err(), "it is not known to be the same before it is verified again");
        assert_eq!(root.verify(id).unwrap(), Identity::Expected);
        assert!(root.change(|| Ok(())).is_ok());
    }
}
