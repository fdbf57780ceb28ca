//! Finds the PostgreSQL programs (`initdb`, `postgres`) to use.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Error, Settings, exec_wrapper, run_as::RunAs, server::of_shared_memory};

/// The oldest supported major version: the first one with `initdb --no-instructions`.
pub const OLDEST_MAJOR: u32 = 14;

/// Where distributions install the programs outside of the `PATH`: a directory, the prefix of its subdirectories'
/// names, and the path below such a subdirectory.
const USUAL_PLACES: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),         // Debian: /usr/lib/postgresql/15/bin
    ("/usr", "pgsql-", "bin"),                  // PGDG's RPMs: /usr/pgsql-17/bin
    ("/usr/lib", "postgresql", "bin"),          // SUSE: /usr/lib/postgresql17/bin
    ("/usr/lib64", "postgresql", "bin"),        // Gentoo: /usr/lib64/postgresql-17/bin
    ("/usr/libexec", "postgresql", ""),         // Alpine: /usr/libexec/postgresql17
    ("/usr/local", "pgsql", "bin"),             // built from source
    ("/opt/homebrew/opt", "postgresql", "bin"), // Homebrew: /opt/homebrew/opt/postgresql@17/bin
    ("/usr/local/opt", "postgresql", "bin"),    // Homebrew on Intel
];

/// A PostgreSQL version, such as 15.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// The major version, such as 15. A cluster can be run only by the major version that created it.
    pub fn major(self) -> u32 {
        self.major
    }

    /// Parses the output of `postgres --version`: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    fn parse(line: &str) -> Option<Self> {
        let (_, version) = line.split_once("(PostgreSQL) ")?;
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        // Prereleases such as `19beta1` have no minor version. They are treated as 19.0.
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

/// A directory with the `initdb` and `postgres` of one version.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
    version: Version,
}

impl Binaries {
    /// Finds the newest programs on this machine, or those in the configured directory. If there is a cluster, only
    /// programs of `made_by`, the major version that created it, are eligible.
    ///
    /// # Errors
    /// When no programs are found, or none of the required version.
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

    /// The directory of the programs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The command that creates a cluster, run by the exec wrapper.
    pub fn initdb_command(&self, guard: &Path, run_as: RunAs) -> Command {
        let mut command = exec_wrapper::command(guard, run_as, &self.dir.join("initdb"));
        // `initdb` runs a server, which needs these settings too. Older versions have no `--set`.
        if self.version.major >= 16 {
            for setting in of_shared_memory().into_iter().chain(["huge_pages=off"]) {
                command.args(["--set", setting]);
            }
        }
        command
    }

    /// The path of the server program.
    pub fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// The path of another program in the same directory.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The version reported by `postgres --version`.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The newest programs of a major version, in `dir` or, without one, anywhere on this machine.
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

    /// The programs in a directory, if they run. Symlinks are resolved, because PostgreSQL locates its other files
    /// relative to the real path of its programs.
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
    fn parses_the_output_of_postgres() {
        let version = |line| Version::parse(line).map(|it| (it.major, it.minor));
        assert_eq!(version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(version("postgres (PostgreSQL) 18.6\n"), Some((18, 6)));
        assert_eq!(version("postgres (PostgreSQL) 19beta1\n"), Some((19, 0)));
        assert_eq!(version("postgres (PostgreSQL) 19devel (Debian 19.0)\n"), Some((19, 0)));
        assert_eq!(version("postgres (PostgreSQL) \n"), None);
        assert_eq!(version("bash: postgres: command not found\n"), None);
    }

    #[test]
    fn newer_versions_compare_greater() {
        let version = |major, minor| Version { major, minor };
        assert!(version(9, 6) < version(15, 2));
        assert!(version(15, 2) < version(15, 18));
    }
}
