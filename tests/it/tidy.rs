//! The rules of the house that a scan of the text can hold.

use std::fs;
use std::path::{Path, PathBuf};

/// What each place may not name: imports point down, and each outside technology has one home.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "src/domain",
        &[
            "crate::app",
            "crate::db",
            "crate::blobs",
            "crate::service",
            "crate::http",
            "crate::config",
            "actix_web",
            "object_store",
            "tokio",
        ],
    ),
    (
        "src/db",
        &["crate::app", "crate::blobs", "crate::service", "crate::http", "crate::config", "actix_web", "object_store"],
    ),
    ("src/blobs", &["crate::app", "crate::db", "crate::service", "crate::http", "crate::config", "actix_web", "sqlx"]),
    (
        "src/service",
        &["crate::app", "crate::http", "crate::config", "crate::sweeper", "actix_web", "sqlx", "object_store"],
    ),
    (
        "src/sweeper.rs",
        &[
            "crate::app",
            "crate::db",
            "crate::blobs",
            "crate::http",
            "crate::config",
            "actix_web",
            "sqlx",
            "object_store",
        ],
    ),
    ("src/http", &["crate::app", "crate::blobs", "crate::config", "crate::sweeper", "sqlx::", "object_store"]),
    ("src/embedded", &["crate::", "tokio::", "actix_web", "sqlx", "object_store"]),
    ("src/app.rs", &["actix_web", "sqlx", "object_store"]),
    ("src/main.rs", &["actix_web", "sqlx", "object_store"]),
];

/// The longest file, in lines.
const MOST_LINES: usize = 400;

fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    if root.is_file() {
        return vec![root];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let relative = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&relative, ending));
        } else if relative.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn imports_point_down_and_each_technology_has_one_home() {
    for (place, forbidden) in FORBIDDEN {
        for path in files(place, ".rs") {
            for (number, line) in lines(&path).iter().enumerate() {
                let named = forbidden.iter().find(|it| line.contains(**it) && !line.trim_start().starts_with("//"));
                assert_eq!(named, None, "{}:{}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_file_says_in_its_first_line_what_it_is_for_and_is_not_too_long() {
    for path in ["src", "tests/it", "benches", "fuzz/form", "fuzz/fuzz_targets"].iter().flat_map(|it| files(it, ".rs"))
    {
        let lines = lines(&path);
        assert!(lines[0].starts_with("//! "), "{}", path.display());
        assert!(lines.len() <= MOST_LINES, "{} has {} lines", path.display(), lines.len());
    }
    for path in files("migrations", ".sql") {
        assert!(lines(&path)[0].starts_with("-- "), "{}", path.display());
    }
}

#[test]
fn nothing_is_put_off_and_nothing_is_a_drawer() {
    let put_off = ["TODO", "FIXME"];
    for path in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!["utils", "util", "helpers", "common", "misc"].contains(&name), "{}", path.display());
        if name != "tidy" {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!put_off.iter().any(|it| text.contains(it)), "{}", path.display());
        }
    }
}
