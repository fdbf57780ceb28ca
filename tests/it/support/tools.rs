//! What the tests need beside Cargo, and where `./dev` puts it.
#![expect(clippy::disallowed_methods, reason = "the tests' own settings")]

use std::env;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the machine's own tools, made by `./dev`.
pub fn dev_dir() -> PathBuf {
    env::var_os("WINDLASS_DEV_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".dev"), PathBuf::from)
}

/// The directory of PostgreSQL's programs, where one is asked for.
pub fn pg_bin() -> Option<PathBuf> {
    env::var_os("WINDLASS_PG_BIN").filter(|it| !it.is_empty()).map(PathBuf::from)
}

/// The major version of the PostgreSQL programs in a directory.
pub fn pg_major(dir: &Path) -> Option<u32> {
    let said = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    said.split("(PostgreSQL) ").nth(1)?.split('.').next()?.trim().parse().ok()
}

/// The search path.
pub fn path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// A tool that `./dev` installs; without it the test is passed over, but not under `./dev test`.
pub fn tool(relative: &str) -> Option<PathBuf> {
    let path = dev_dir().join(relative);
    if path.exists() {
        return Some(path);
    }
    assert!(env::var_os("WINDLASS_TEST_ALL").is_none(), "{} is missing", path.display());
    eprintln!("passed over: {} is missing; `./dev test` gets it", path.display());
    None
}

/// A program of the machine's own; without it the test is passed over, but not under `./dev test`.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = env::split_paths(&path()).map(|it| it.join(name)).find(|it| it.is_file());
    assert!(found.is_some() || env::var_os("WINDLASS_TEST_ALL").is_none(), "{name} is missing");
    if found.is_none() {
        eprintln!("passed over: {name} is missing; `./dev test` gets it");
    }
    found
}

/// A folder for this run, below Cargo's own.
pub fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{}", std::process::id()))
}

/// How often a race or a death at any moment is run: a few times in passing, thousands of times where `WINDLASS_ROUNDS` says so.
pub fn rounds() -> usize {
    env::var("WINDLASS_ROUNDS").map_or(16, |it| it.parse().unwrap())
}

/// The seeds of random cases: `WINDLASS_SEEDS` of them from `WINDLASS_SEED` on, or a few always the same.
pub fn seeds() -> Range<u64> {
    let number = |name, otherwise| env::var(name).map_or(otherwise, |it| it.parse().unwrap());
    let first = number("WINDLASS_SEED", 1);
    first..first + number("WINDLASS_SEEDS", 40)
}
