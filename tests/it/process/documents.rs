//! Checks the documentation: examples run as written, and everything it refers to exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::Executor as _;

use crate::support::client::id;
use crate::support::program;
use crate::support::{StoreKind, TestApp, cluster, tools};

/// Variables in the documentation that are settings of the tests or the stack, not of the program.
const OTHER_VARIABLES: &[&str] = &["WINDLASS_BENCH_DIR", "WINDLASS_PORT"];

/// Directories of planned features.
const PLANNED: &[&str] = &["crates/windlass-client", "crates/windlass-cli"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// All documents: the Markdown files at the top, below `docs` and in `migrations`, and the files for deployment.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = ["docker-compose.yml", "Dockerfile"].map(str::to_owned).into();
    for (folder, endings) in [
        ("", &["md"][..]),
        ("docs/", &["md"]),
        ("docs/decisions/", &["md"]),
        ("docs/integrations/", &["md"]),
        ("migrations/", &["md"]),
        ("deploy/nginx/", &["conf"]),
        ("deploy/systemd/", &["service", "env"]),
        ("deploy/helm/windlass/", &["yaml", "json"]),
        ("deploy/helm/windlass/ci/", &["yaml"]),
        ("deploy/helm/windlass/templates/", &["yaml", "tpl", "txt"]),
    ] {
        let names = fs::read_dir(root.join(folder)).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let has_ending = |it: &String| it.rsplit_once('.').is_some_and(|(_, it)| endings.contains(&it));
        paths.extend(names.filter(has_ending).map(|it| format!("{folder}{it}")));
    }
    paths.into_iter().map(|it| (it.clone(), read(&it))).collect()
}

/// The longest words that consist of `beginning` followed by alphanumeric characters or those in `more`.
fn words<'a>(text: &'a str, beginning: &'a str, more: &'a [u8]) -> impl Iterator<Item = &'a str> {
    text.match_indices(beginning).map(move |(at, _)| {
        let rest = &text[at + beginning.len()..];
        let end = rest.bytes().position(|it| !it.is_ascii_alphanumeric() && !more.contains(&it)).unwrap_or(rest.len());
        &text[at..at + beginning.len() + end]
    })
}

/// The code blocks in a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|it| it.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_example_runs_unchanged() {
    let Some(python) = tools::tool("venv/bin/python") else { return };
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("windlass-data")).unwrap();
    fs::write(place.path().join("windlass-data/api-key"), format!("{}\n", app.client.key)).unwrap();
    let sent = vec![7; 70_000_000];
    fs::write(place.path().join("big.tar"), &sent).unwrap();
    let [example] = &blocks(&read("README.md"), "python")[..] else { panic!("the README has one example") };
    let example = example.replace("http://127.0.0.1:8080", &app.client.address);
    assert!(example.contains(&app.client.address));
    let done = Command::new(python).args(["-c", &example]).current_dir(place.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(fs::read(place.path().join("the-same.tar")).unwrap() == sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_about_integrity_run_unchanged() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let place = tempfile::tempdir().unwrap();
    let script = blocks(&read("docs/integrity.md"), "sh").join("\n");
    let done = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(place.path())
        .envs([("WINDLASS", &app.client.address), ("KEY", &app.client.key)])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_about_keys_quotas_signed_urls_and_settings_run_unchanged() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("output.jsonl"), "{}\n").unwrap();
    let file = app.client.file("a file").await;
    let body = json!({ "method": "PUT", "filename": "output.jsonl", "purpose": "user_data" });
    let url = app.client.post("/v1/files/signed_url", &body).await.ok()["url"].as_str().unwrap().to_owned();
    let binary = Path::new(env!("CARGO_BIN_EXE_windlass"));
    let programs = format!("{}:{}", binary.parent().unwrap().display(), tools::path().display());
    for page in ["docs/keys.md", "docs/quotas.md", "docs/signed-urls.md", "docs/configuration.md"] {
        let made = app.run(&["keys", "create", "--json"]);
        let key = id(&serde_json::from_slice(&made.stdout).unwrap());
        let script = blocks(&read(page), "sh").join("\n").replace("key_…", &key);
        let script = format!("curl() {{ command curl --fail-with-body --silent --show-error \"$@\"; }}\n{script}");
        let done = Command::new("bash")
            .args(["-euxo", "pipefail", "-c", &script])
            .current_dir(place.path())
            .envs(app.settings.iter().cloned())
            .envs([("WINDLASS", &app.client.address), ("KEY", &app.client.key), ("FILE", &file), ("URL", &url)])
            .env("PATH", &programs)
            .output()
            .unwrap();
        assert!(done.status.success(), "{page}: {}", String::from_utf8_lossy(&done.stderr));
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_about_the_audit_trail_run_unchanged() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[("WINDLASS_AUDIT", "on")]).await else { return };
    let place = tempfile::tempdir().unwrap();
    let script = blocks(&read("docs/audit.md"), "sh").join("\n");
    let program = Path::new(env!("CARGO_BIN_EXE_windlass")).parent().unwrap();
    let done = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(place.path())
        .envs(app.settings.iter().cloned())
        .env("PATH", format!("{}:{}", program.display(), tools::path().into_string().unwrap()))
        .envs([("WINDLASS", &app.client.address), ("KEY", &app.client.key)])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[test]
fn the_documented_configuration_of_nginx_is_the_one_that_the_replicas_are_tested_with() {
    assert_eq!(blocks(&read("docs/deployment.md"), "nginx"), [read("deploy/nginx/windlass.conf")]);
}

#[test]
fn every_command_that_the_documents_name_exists() {
    let usage =
        String::from_utf8(Command::new("./dev").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap().stdout)
            .unwrap();
    let script = read("dev");
    for (path, text) in documents() {
        for command in words(&text, "./dev ", b"-").map(|it| &it["./dev ".len()..]).filter(|it| !it.is_empty()) {
            assert!(usage.contains(&format!("\n  {command} ")), "{path}: ./dev {command} is not in its usage");
            assert!(script.contains(&format!("\n{command})\n")), "{path}: there is no ./dev {command}");
        }
        for script in words(&text, "scripts/", b"-_.") {
            assert!(
                Path::new(env!("CARGO_MANIFEST_DIR")).join(script.trim_end_matches('.')).exists(),
                "{path}: {script}"
            );
        }
        for command in words(&text, "`windlass ", b"- ").map(|it| it["`windlass ".len()..].trim()) {
            let arguments: Vec<_> = command.split(' ').filter(|it| !it.is_empty() && !it.starts_with('-')).collect();
            let found = program::run(&[], &[&arguments[..], &["--help"]].concat());
            let is_known = found.status.success() || arguments.is_empty();
            // A value may follow the command, such as a time.
            assert!(
                is_known || program::run(&[], &[&arguments[..1], &["--help"]].concat()).status.success(),
                "{path}: windlass {command}"
            );
        }
    }
}

#[test]
fn every_file_that_the_documents_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in documents() {
        for place in ["`src/", "`crates/", "`tests/", "`docs/", "`migrations/", "`benches/", "`deploy/", "`fuzz/"] {
            for name in words(&text, place, b"/_-.").map(|it| it.trim_start_matches('`')) {
                // `V<next>` stands for the number of the next migration.
                let exists = name.ends_with("/V") || root.join(name).exists();
                assert!(exists || PLANNED.contains(&name), "{path}: {name}");
            }
        }
    }
}

#[test]
fn every_setting_that_the_documents_name_is_in_the_help_text() {
    let manual = String::from_utf8(program::run(&[], &["--help"]).stdout).unwrap();
    let settings: BTreeSet<_> = words(&manual, "WINDLASS_", b"_").collect();
    for (path, text) in documents() {
        for name in words(&text, "WINDLASS_", b"_").filter(|it| !it.ends_with('_')) {
            assert!(settings.contains(name) || OTHER_VARIABLES.contains(&name), "{path}: {name}");
        }
    }
}

#[test]
fn every_test_suite_that_the_documents_name_exists() {
    let operations = read("docs/operations.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let suites = ["api", "connections", "crash", "model", "process", "races", "sdk", "sql", "environment", "faults"];
    for suite in suites.map(|it| format!("{it}::")) {
        for name in words(&operations, &format!("`{suite}"), b"_:") {
            let path = name.trim_start_matches('`').trim_end_matches(':').replace("::", "/");
            assert!(root.join(format!("{path}.rs")).exists() || root.join(&path).join("mod.rs").exists(), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_in_the_operations_manual_runs() {
    let database = cluster::database().await;
    let operations = read("docs/operations.md");
    let queries: Vec<_> =
        operations.split("`select ").skip(1).map(|it| format!("select {}", it.split('`').next().unwrap())).collect();
    assert!(!queries.is_empty());
    for query in queries {
        database.pool.execute(AssertSqlSafe(query.replace('\n', " "))).await.unwrap();
    }
}
