//! The external tools that the tests use, and where `./dev` installs them.
#![expect(clippy::disallowed_methods, reason = "the tests' own settings")]

use std::env;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory in which `./dev` installs tools.
pub fn dev_dir() -> PathBuf {
    env::var_os("WINDLASS_DEV_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".dev"), PathBuf::from)
}

/// The directory of PostgreSQL's programs, if `WINDLASS_PG_BIN` sets one.
pub fn pg_bin() -> Option<PathBuf> {
    env::var_os("WINDLASS_PG_BIN").filter(|it| !it.is_empty()).map(PathBuf::from)
}

/// The major version of the PostgreSQL programs in a directory.
pub fn pg_major(dir: &Path) -> Option<u32> {
    let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    version.split("(PostgreSQL) ").nth(1)?.split('.').next()?.trim().parse().ok()
}

/// The value of `PATH`.
pub fn path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// The path of a tool that `./dev` installs. If it is missing, the test is skipped, or fails under `./dev test`.
pub fn tool(relative: &str) -> Option<PathBuf> {
    let path = dev_dir().join(relative);
    if path.exists() {
        return Some(path);
    }
    assert!(env::var_os("WINDLASS_TEST_ALL").is_none(), "{} is missing", path.display());
    eprintln!("skipped: {} is missing; `./dev test` installs it", path.display());
    None
}

/// The path of an installed program. If it is missing, the test is skipped, or fails under `./dev test`.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = env::split_paths(&path()).map(|it| it.join(name)).find(|it| it.is_file());
    assert!(found.is_some() || env::var_os("WINDLASS_TEST_ALL").is_none(), "{name} is missing");
    if found.is_none() {
        eprintln!("skipped: {name} is missing; `./dev test` installs it");
    }
    found
}

/// The directory of this test run, below Cargo's directory for temporary files.
pub fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{}", std::process::id()))
}

/// The number of rounds of a race or of a kill at a random moment: a few by default, or `WINDLASS_ROUNDS`.
pub fn rounds() -> usize {
    env::var("WINDLASS_ROUNDS").map_or(16, |it| it.parse().unwrap())
}

/// The seeds of random cases: `WINDLASS_SEEDS` (40) of them, starting from `WINDLASS_SEED` (1).
pub fn seeds() -> Range<u64> {
    let number = |name, otherwise| env::var(name).map_or(otherwise, |it| it.parse().unwrap());
    let first = number("WINDLASS_SEED", 1);
    first..first + number("WINDLASS_SEEDS", 40)
}
