//! Restricts the permissions of the data directory's files. PostgreSQL refuses to start if an orchestrator has widened
//! them (`chmod -R g+rwX`, `fsGroup`).

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use nix::unistd::geteuid;
use windlass_types::ErrorChain;

use super::{Error, cluster::Cluster};

/// The permissions that PostgreSQL refuses on its directory, and windlass on its files: any access by others, and write
/// access by the group. Group read access stays allowed, because some operators rely on it.
const REFUSED: u32 = 0o027;

/// Restricts the permissions of the cluster, the lock file, the log and the files with secrets. Logs a warning if any
/// of them were too wide.
pub fn close(cluster: &Cluster) -> Result<(), Error> {
    let dir = cluster.dir();
    let mut closed = Vec::new();
    if narrow(&dir, 0o700)? {
        closed.push(dir.clone());
    }
    for file in cluster.private_files() {
        match narrow(&file, 0o600) {
            Ok(true) => closed.push(file),
            Ok(false) => {}
            // Its permissions cannot be changed, but the file is usable.
            Err(error @ Error::ForeignOwner { .. }) => {
                tracing::warn!(error = %ErrorChain(&error), "a file is accessible to other users");
            }
            Err(error) => return Err(error),
        }
    }
    if !closed.is_empty() {
        tracing::warn!(
            files = ?closed,
            "files of the data directory were accessible to other users, which PostgreSQL refuses; their permissions \
             were restricted"
        );
    }
    own(&dir)
}

/// Sets `mode` if `path` has any of the refused permissions. Returns whether it had any.
fn narrow(path: &Path, mode: u32) -> Result<bool, Error> {
    let before = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        before => before.map_err(Error::file(path))?,
    };
    // The permissions of a symlink's target are the operator's responsibility.
    if before.is_symlink() || before.mode() & REFUSED == 0 {
        return Ok(false);
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && before.uid() != geteuid().as_raw() => {
            return Err(foreign(path, before.uid()));
        }
        // A file system without permissions either returns an error or ignores the call; the check below detects both.
        Err(error) if !is_unsupported(&error) => return Err(Error::file(path)(error)),
        Err(_) | Ok(()) => {}
    }
    let after = fs::symlink_metadata(path).map_err(Error::file(path))?.mode() & 0o7777;
    if after & REFUSED == 0 { Ok(true) } else { Err(Error::NoPermissions { path: path.to_owned(), mode: after }) }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// Checks that this user owns the cluster, as PostgreSQL requires, or is root, which can change the owner later.
fn own(dir: &Path) -> Result<(), Error> {
    let user = geteuid();
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file(dir)(error)),
        Ok(about) if user.is_root() || about.uid() == user.as_raw() => Ok(()),
        Ok(about) => Err(foreign(dir, about.uid())),
    }
}

fn foreign(path: &Path, owner: u32) -> Error {
    Error::ForeignOwner { path: path.to_owned(), owner, user: geteuid().as_raw() }
}
