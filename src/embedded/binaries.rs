//! Finds the `initdb` and `postgres` to use.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Error, Settings, guard, identity::Identity, server::of_shared_memory};

/// `initdb --no-instructions` came with it.
pub const OLDEST_MAJOR: u32 = 14;

/// Where distributions put them, none of it on the `PATH`: a directory, how names in it begin, and what follows.
const USUAL_PLACES: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),         // Debian: /usr/lib/postgresql/15/bin
    ("/usr", "pgsql-", "bin"),                  // PGDG's RPMs: /usr/pgsql-17/bin
    ("/usr/lib", "postgresql", "bin"),          // SUSE: /usr/lib/postgresql17/bin
    ("/usr/lib64", "postgresql", "bin"),        // Gentoo: /usr/lib64/postgresql-17/bin
    ("/usr/libexec", "postgresql", ""),         // Alpine: /usr/libexec/postgresql17
    ("/usr/local", "pgsql", "bin"),             // from source
    ("/opt/homebrew/opt", "postgresql", "bin"), // Homebrew: /opt/homebrew/opt/postgresql@17/bin
    ("/usr/local/opt", "postgresql", "bin"),    // Homebrew on Intel
];

/// A Postgres version, such as 15.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// The major version, such as 15: a cluster can be run only by the one that created it.
    pub fn major(self) -> u32 {
        self.major
    }

    /// Reads what `postgres --version` prints: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    fn parse(line: &str) -> Option<Self> {
        let (_, version) = line.split_once("(PostgreSQL) ")?;
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        // Releases to come have none: `19beta1` is older than 19.0, but nobody has both.
        let minor = match version.split_whitespace().next()?.split_once('.') {
            Some(_) => numbers.next()?.parse().ok()?,
            None => 0,
        };
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A directory with `initdb` and `postgres` of one version.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
    version: Version,
}

impl Binaries {
    /// The newest on this machine, or the directory the settings name; of the major version that made the cluster, if
    /// there is a cluster.
    pub fn find(settings: &Settings, made_by: Option<u32>) -> Result<Self, Error> {
        let found = match &settings.bin_dir {
            Some(dir) => vec![Self::at(dir).ok_or_else(|| Error::NotBinaries(dir.clone()))?],
            None => Self::search(settings),
        };
        let newest = found.iter().max_by_key(|it| it.version).ok_or(Error::NoBinaries)?;
        let fitting = match made_by {
            Some(major) => found.iter().filter(|it| it.version.major == major).max_by_key(|it| it.version),
            None => Some(newest).filter(|it| it.version.major >= OLDEST_MAJOR),
        };
        let (dir, found) = (newest.dir.clone(), newest.version);
        fitting.cloned().ok_or_else(|| match made_by {
            Some(needed) => Error::OtherMajor { cluster: settings.data_dir.clone(), needed, dir, found },
            None => Error::TooOld { dir, found },
        })
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The command that creates a cluster, under the guard.
    pub fn initdb_command(&self, guard: &Path, identity: Identity) -> Command {
        let mut command = guard::command(guard, identity, &self.dir.join("initdb"));
        // `initdb` runs a server, which needs the same settings. Older versions have no `--set`.
        if self.version.major >= 16 {
            for setting in of_shared_memory().into_iter().chain(["huge_pages=off"]) {
                command.args(["--set", setting]);
            }
        }
        command
    }

    /// The server.
    pub fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// Another program in the same directory.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What `postgres` says it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The newest binaries of a major version, in `dir` or in the usual places.
    pub fn of_major(major: u32, dir: Option<&Path>, settings: &Settings) -> Option<Self> {
        let found = dir.map_or_else(|| Self::search(settings), |dir| Self::at(dir).into_iter().collect());
        found.into_iter().filter(|it| it.version.major == major).max_by_key(|it| it.version)
    }

    fn search(settings: &Settings) -> Vec<Self> {
        let usual = USUAL_PLACES.into_iter().flat_map(|(parent, prefix, rest)| {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            entries
                .filter(move |it| it.file_name().to_string_lossy().starts_with(prefix))
                .map(move |it| it.path().join(rest))
        });
        env::split_paths(&settings.path).chain(usual).filter_map(|dir| Self::at(&dir)).collect()
    }

    /// What is in a directory, or in the one that its links point to: Postgres finds its other files from where its
    /// programs really are.
    fn at(dir: &Path) -> Option<Self> {
        let dir = fs::canonicalize(dir.join("initdb")).ok()?.parent()?.to_owned();
        let output = Command::new(dir.join("postgres")).arg("--version").env_clear().output().ok()?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { dir, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_postgres_prints() {
        let version = |line| Version::parse(line).map(|it| (it.major, it.minor));
        assert_eq!(version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(version("postgres (PostgreSQL) 18.6\n"), Some((18, 6)));
        assert_eq!(version("postgres (PostgreSQL) 19beta1\n"), Some((19, 0)));
        assert_eq!(version("postgres (PostgreSQL) 19devel (Debian 19.0)\n"), Some((19, 0)));
        assert_eq!(version("postgres (PostgreSQL) \n"), None);
        assert_eq!(version("bash: postgres: command not found\n"), None);
    }

    #[test]
    fn newer_is_greater() {
        let version = |major, minor| Version { major, minor };
        assert!(version(9, 6) < version(15, 2));
        assert!(version(15, 2) < version(15, 18));
    }
}
