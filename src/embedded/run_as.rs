//! Chooses the user that PostgreSQL runs as, since it refuses to run as root, and grants that user access to its files.

use std::{
    fmt, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown},
    path::Path,
    process::Output,
    str::FromStr,
};

use nix::unistd::{Uid, User, geteuid};

use super::Error;

/// The user that PostgreSQL refuses to run as.
pub const ROOT: Account = Account { uid: 0, gid: 0 };

/// A user and its primary group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// Whether the mode of a directory grants search permission to the account.
    fn may_enter(self, dir: &fs::Metadata) -> bool {
        let bit = match (dir.uid() == self.uid, dir.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        dir.mode() & bit != 0
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}

/// How PostgreSQL is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// As the user that windlass runs as.
    Own,
    /// As root, in a user namespace that maps root to this account. The files remain owned by root, so the data
    /// directory may be in root's home. Most containers forbid user namespaces.
    Namespace(Account),
    /// As this user, without capabilities.
    Switch(Account),
    /// As this user, with only the capability to traverse any directory. Used without user namespaces if the files are
    /// in a directory that the user cannot traverse, such as root's home.
    Pass(Account),
}

impl RunAs {
    /// Chooses how to run PostgreSQL on a data directory that the uid `owner` owns. `version_as` runs a program of
    /// PostgreSQL to test whether user namespaces are available.
    ///
    /// # Errors
    /// [`Error::NoAccount`] when running as root and no suitable user exists; also when the user database cannot be
    /// read or the test cannot be run.
    pub fn choose(owner: u32, version_as: impl FnOnce(Self) -> io::Result<Output>) -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        // The owner must not change: after `sudo windlass keys create`, a service that runs as an unprivileged user
        // must still be able to access its data directory.
        if owner != ROOT.uid
            && let Some(user) = User::from_uid(Uid::from_raw(owner)).map_err(Error::system("look up a user"))?
        {
            return Ok(Self::Switch(user.into()));
        }
        // PostgreSQL requires that its user has a name.
        let named = |name| User::from_name(name).map_err(Error::system("look up a user"));
        let user = match named("postgres")? {
            Some(user) => user,
            None => named("nobody")?.ok_or(Error::NoAccount)?,
        };
        let namespace = Self::Namespace(user.clone().into());
        let allowed = version_as(namespace).map_err(Error::system("run windlass itself"))?.status.success();
        Ok(if allowed { namespace } else { Self::Switch(user.into()) })
    }

    /// Makes sure that PostgreSQL can access its files and its programs: grants search permission on the data
    /// directory, and falls back to [`RunAs::Pass`] if another directory cannot be traversed. `version_as` runs a
    /// program of PostgreSQL to test whether that is possible.
    ///
    /// # Errors
    /// [`Error::Closed`] when it is not possible, or an I/O error.
    pub fn ensure_access(
        self,
        data_dir: &Path,
        bin_dir: &Path,
        version_as: impl FnOnce(Self) -> io::Result<Output>,
    ) -> Result<Self, Error> {
        let Self::Switch(account) = self else {
            return Ok(self);
        };
        let metadata = |path| fs::metadata(path).map_err(Error::file(path));
        let data = metadata(data_dir)?;
        // Grants the group search permission, but no read permission.
        if data.uid() == ROOT.uid && !account.may_enter(&data) {
            let mode = fs::Permissions::from_mode(data.mode() | 0o010);
            chown(data_dir, None, Some(account.gid))
                .and_then(|()| fs::set_permissions(data_dir, mode))
                .map_err(Error::file(data_dir))?;
        }
        for path in [data_dir, bin_dir] {
            for dir in path.ancestors() {
                if !account.may_enter(&metadata(dir)?) {
                    let pass = Self::Pass(account);
                    if version_as(pass).map_err(Error::system("run windlass itself"))?.status.success() {
                        return Ok(pass);
                    }
                    let user = User::from_uid(Uid::from_raw(account.uid)).ok().flatten();
                    let user = user.map_or_else(|| account.uid.to_string(), |user| user.name);
                    return Err(Error::Closed { user, closed: dir.to_owned(), path: path.to_owned() });
                }
            }
        }
        Ok(self)
    }

    /// Changes the owner of a file, or recursively of a directory, to the user that PostgreSQL runs as.
    pub fn give(self, path: &Path) -> Result<(), Error> {
        let owner = match self {
            Self::Own => return Ok(()),
            Self::Namespace(_) => ROOT,
            Self::Switch(account) | Self::Pass(account) => account,
        };
        let metadata = fs::symlink_metadata(path).map_err(Error::file(path))?;
        if metadata.uid() == owner.uid {
            return Ok(());
        }
        give(path, &metadata, owner)
    }
}

/// Changes the owner recursively. A directory comes after its entries, so that its owner shows whether all of them have
/// been changed.
fn give(path: &Path, metadata: &fs::Metadata, to: Account) -> Result<(), Error> {
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::file(path))? {
            let entry = entry.map_err(Error::file(path))?;
            give(&entry.path(), &entry.metadata().map_err(Error::file(path))?, to)?;
        }
    }
    lchown(path, Some(to.uid), Some(to.gid)).map_err(Error::file(path))
}

/// The format of the exec wrapper's argument.
impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "own"),
            Self::Namespace(Account { uid, gid }) => write!(f, "namespace:{uid}:{gid}"),
            Self::Switch(Account { uid, gid }) => write!(f, "switch:{uid}:{gid}"),
            Self::Pass(Account { uid, gid }) => write!(f, "pass:{uid}:{gid}"),
        }
    }
}

impl FromStr for RunAs {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.parse().map_err(drop);
        match *text.split(':').collect::<Vec<_>>() {
            ["own"] => Ok(Self::Own),
            ["namespace", uid, gid] => Ok(Self::Namespace(Account { uid: number(uid)?, gid: number(gid)? })),
            ["pass", uid, gid] => Ok(Self::Pass(Account { uid: number(uid)?, gid: number(gid)? })),
            ["switch", uid, gid] => Ok(Self::Switch(Account { uid: number(uid)?, gid: number(gid)? })),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_of_the_exec_wrapper_round_trips() {
        let account = Account { uid: 101, gid: 104 };
        for run_as in [RunAs::Own, RunAs::Namespace(account), RunAs::Switch(account), RunAs::Pass(account)] {
            assert_eq!(run_as.to_string().parse(), Ok(run_as));
        }
        assert_eq!("switch:root:0".parse::<RunAs>(), Err(()));
    }
}
