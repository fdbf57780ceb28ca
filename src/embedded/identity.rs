//! Chooses the user Postgres runs as, since it refuses root, and lets that user at its files.

use std::{
    fmt, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown},
    path::Path,
    process::Output,
    str::FromStr,
};

use nix::unistd::{Uid, User, geteuid};

use super::Error;

/// Who Postgres refuses to be.
pub const ROOT: Account = Account { uid: 0, gid: 0 };

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl Account {
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

/// Who Postgres is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The user windlass runs as.
    Own,
    /// Root, in a user namespace in which root is called this. The files stay root's, so a data directory in root's
    /// home works. Containers mostly forbid it.
    Namespace(Account),
    /// This user, with none of root's rights.
    Switch(Account),
    /// This user, with the one right of root's to pass through directories that are closed to it: where there are no
    /// namespaces, and the files lie in root's home.
    Pass(Account),
}

impl Identity {
    /// Decides it, for files of this owner. `version_as` runs some program of Postgres's, to see whether an identity can
    /// be taken.
    pub fn choose(owner: u32, version_as: impl FnOnce(Self) -> io::Result<Output>) -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        // What is a user's stays that user's: `sudo windlass keys create` must not take it away from a service that
        // runs as its own user.
        if owner != ROOT.uid
            && let Some(user) = User::from_uid(Uid::from_raw(owner)).map_err(Error::system("look up a user"))?
        {
            return Ok(Self::Switch(user.into()));
        }
        // Postgres wants its user to have a name, so it must be one from the passwd file.
        let named = |name| User::from_name(name).map_err(Error::system("look up a user"));
        let user = match named("postgres")? {
            Some(user) => user,
            None => named("nobody")?.ok_or(Error::NoAccount)?,
        };
        let namespace = Self::Namespace(user.clone().into());
        let allowed = version_as(namespace).map_err(Error::system("run windlass itself"))?.status.success();
        Ok(if allowed { namespace } else { Self::Switch(user.into()) })
    }

    /// The identity with which Postgres can get to its files and its programs. `version_as` as in [`Identity::choose`].
    pub fn open_way_to(
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
        // Our own directory: its group may pass through, but not look around.
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

    /// Gives it a file, or a directory and all that is in it.
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

/// The directory itself comes last: as long as it is the old owner's, not everything in it has been given.
fn give(path: &Path, metadata: &fs::Metadata, to: Account) -> Result<(), Error> {
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::file(path))? {
            let entry = entry.map_err(Error::file(path))?;
            give(&entry.path(), &entry.metadata().map_err(Error::file(path))?, to)?;
        }
    }
    lchown(path, Some(to.uid), Some(to.gid)).map_err(Error::file(path))
}

/// As the guard reads it.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "own"),
            Self::Namespace(Account { uid, gid }) => write!(f, "namespace:{uid}:{gid}"),
            Self::Switch(Account { uid, gid }) => write!(f, "switch:{uid}:{gid}"),
            Self::Pass(Account { uid, gid }) => write!(f, "pass:{uid}:{gid}"),
        }
    }
}

impl FromStr for Identity {
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
    fn the_guard_reads_what_was_written() {
        let account = Account { uid: 101, gid: 104 };
        for identity in
            [Identity::Own, Identity::Namespace(account), Identity::Switch(account), Identity::Pass(account)]
        {
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        assert_eq!("switch:root:0".parse::<Identity>(), Err(()));
    }
}
