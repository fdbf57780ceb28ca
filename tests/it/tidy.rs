//! Code conventions that can be checked by scanning the source text. Cargo enforces the layers of the crates.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers of the engine, lowest first. A layer may use only those before it.
const ENGINE_LAYERS: &[&[&str]] = &[
    &["model", "failpoints", "spans", "spawn"],
    &["db", "store"],
    &["error"],
    &["resources", "retry"],
    &["service"],
    &["ingest", "read"],
    &["operations"],
    &["maintenance"],
];

/// Names that the code in each place must not contain: each external technology is used in one place only.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("crates/windlass-engine/src/model", &["tokio", "sqlx", "object_store"]),
    ("crates/windlass-engine/src/db", &["crate::store", "object_store"]),
    ("crates/windlass-engine/src/store", &["crate::db", "sqlx", "tokio::spawn", "task::spawn_blocking"]),
    ("crates/windlass-engine/src/resources", &["sqlx", "object_store"]),
    ("crates/windlass-engine/src/ingest", &["sqlx", "object_store", "crate::read"]),
    ("crates/windlass-engine/src/read", &["sqlx", "object_store", "crate::ingest"]),
    ("crates/windlass-engine/src/operations", &["sqlx", "object_store", "tokio::spawn", "task::spawn_blocking"]),
    ("crates/windlass-engine/src/maintenance", &["sqlx", "object_store"]),
    ("src/http", &["crate::app", "crate::config", "windlass_engine::store", "windlass_engine::failpoints"]),
    ("src/embedded", &["crate::", "windlass_engine", "tokio::", "actix_web"]),
    ("src/app.rs", &["actix_web"]),
    ("src/main.rs", &["actix_web"]),
];

/// Maximum length of a file, in lines.
const MAX_LINES: usize = 400;

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
fn each_technology_is_used_in_one_place() {
    for (place, forbidden) in FORBIDDEN {
        for path in files(place, ".rs") {
            for (number, line) in lines(&path).iter().enumerate() {
                let named = forbidden.iter().find(|it| line.contains(**it) && !line.trim_start().starts_with("//"));
                assert_eq!(named, None, "{}:{}", path.display(), number + 1);
            }
        }
    }
}

/// The engine's modules that a line of code or a `use` statement refers to, also in groups such as `crate::{db, store}`.
fn modules_named(line: &str) -> Vec<&str> {
    let is_name = |it: char| it.is_ascii_lowercase() || it == '_';
    let of = |rest: &'_ str| -> Vec<String> {
        match rest.strip_prefix('{') {
            Some(group) => {
                group.split(['{', '}', ',']).map(|it| it.trim().split("::").next().unwrap().to_owned()).collect()
            }
            None => vec![rest.chars().take_while(|it| is_name(*it)).collect()],
        }
    };
    let named: Vec<String> = line.split("crate::").skip(1).flat_map(of).collect();
    ENGINE_LAYERS.iter().flat_map(|it| it.iter().copied()).filter(|it| named.iter().any(|name| name == it)).collect()
}

#[test]
fn engine_modules_import_only_from_lower_layers() {
    for (height, layer) in ENGINE_LAYERS.iter().enumerate() {
        for module in *layer {
            let root = format!("crates/windlass-engine/src/{module}");
            let root = if Path::new(&root).exists() { root } else { format!("{root}.rs") };
            for path in files(&root, ".rs") {
                let code: Vec<_> = lines(&path).into_iter().filter(|it| !it.trim().starts_with("//")).collect();
                // By statement, since a group in a `use` may span several lines.
                for statement in code.join(" ").split(';') {
                    let above = ENGINE_LAYERS[height + 1..].iter().flat_map(|it| it.iter());
                    let named = modules_named(statement);
                    let wrong = above.copied().find(|it| named.contains(it));
                    assert_eq!(wrong, None, "{}: {}", path.display(), statement.trim());
                }
            }
        }
    }
    assert_eq!(modules_named("use crate::{db, store::ObjectKey};"), ["db", "store"]);
    assert_eq!(modules_named("use crate::{     db::{self, Db},     error::Error, };"), ["db", "error"]);
    for line in lines(Path::new("crates/windlass-engine/src/lib.rs")) {
        let module = line.strip_prefix("pub ").unwrap_or(&line).strip_prefix("mod ").map(|it| it.trim_end_matches(';'));
        let has_layer = module.is_none_or(|it| ENGINE_LAYERS.iter().any(|layer| layer.contains(&it)));
        assert!(has_layer, "`{line}` is in no layer");
    }
}

#[test]
fn every_file_begins_with_a_description_and_is_not_too_long() {
    for path in ["src", "crates", "tests/it", "benches", "fuzz/form", "fuzz/fuzz_targets"]
        .iter()
        .flat_map(|it| files(it, ".rs"))
    {
        let lines = lines(&path);
        assert!(lines[0].starts_with("//! "), "{}", path.display());
        assert!(lines.len() <= MAX_LINES, "{} has {} lines", path.display(), lines.len());
    }
    for path in files("migrations", ".sql") {
        assert!(lines(&path)[0].starts_with("-- "), "{}", path.display());
    }
}

#[test]
fn there_are_no_todos_and_no_catch_all_modules() {
    let markers = ["TODO", "FIXME"];
    for path in ["src", "crates", "tests"].iter().flat_map(|it| files(it, ".rs")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!["utils", "util", "helpers", "common", "misc"].contains(&name), "{}", path.display());
        if name != "tidy" {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!markers.iter().any(|it| text.contains(it)), "{}", path.display());
        }
    }
}
