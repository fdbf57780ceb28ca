//! Sets right who may get to the files of the data directory: orchestrators widen their permissions
//! (`chmod -R g+rwX`, `fsGroup`), and Postgres then refuses its own.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use nix::unistd::geteuid;

use super::{Error, cluster::Cluster};

/// What Postgres refuses of its directory, and we of our files: that the group may write, and that others may do
/// anything. That the group may read is some operators' own arrangement.
const REFUSED: u32 = 0o027;

/// Closes the cluster to others, and the files with secrets and locks. Says so once where something was open.
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
            // It is of use all the same.
            Err(error @ Error::ForeignOwner { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a file is open to others");
            }
            Err(error) => return Err(error),
        }
    }
    if !closed.is_empty() {
        tracing::warn!(
            files = ?closed,
            "files of the data directory were accessible to other users, which PostgreSQL refuses; their permissions are set \
             right again"
        );
    }
    own(&dir)
}

/// Sets a mode where it has any of what is refused. Whether it had.
fn narrow(path: &Path, mode: u32) -> Result<bool, Error> {
    let before = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        before => before.map_err(Error::file(path))?,
    };
    // What a link names is the operator's own arrangement.
    if before.is_symlink() || before.mode() & REFUSED == 0 {
        return Ok(false);
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && before.uid() != geteuid().as_raw() => {
            return Err(foreign(path, before.uid()));
        }
        // A file system without permissions refuses, or does nothing: the look afterwards tells.
        Err(error) if !is_unsupported(&error) => return Err(Error::file(path)(error)),
        Err(_) | Ok(()) => {}
    }
    let after = fs::symlink_metadata(path).map_err(Error::file(path))?.mode() & 0o7777;
    if after & REFUSED == 0 { Ok(true) } else { Err(Error::NoPermissions { path: path.to_owned(), mode: after }) }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// Postgres runs on its own cluster only. Root takes over what is another's; anybody else cannot.
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
