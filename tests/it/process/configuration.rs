//! `windlass config`, and the table of all settings in the documentation.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::program;

const TABLE: &str = "docs/configuration.md";

/// Runs the program without any setting but these; returns its exit status and both outputs.
fn run(arguments: &[&str], settings: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    let done = command.args(arguments).env_clear().envs(settings.iter().copied()).current_dir("/").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

fn in_force(arguments: &[&str], settings: &[(&str, &str)]) -> Vec<Value> {
    let (status, json, log) = run(&[&["config", "--json"], arguments].concat(), settings);
    assert_eq!(status, 0, "{log}");
    serde_json::from_str(&json).unwrap()
}

#[test]
fn config_prints_each_setting_with_its_origin_and_no_secret() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("url");
    fs::write(&path, "postgres://u:secret@h/d\n").unwrap();
    let settings = [
        ("DATABASE_URL_FILE", path.to_str().unwrap()),
        ("WINDLASS_API_KEY", "a-secret-of-enough-letters"),
        ("WINDLASS_STORE", "s3://bucket"),
        ("AWS_ACCESS_KEY_ID", "secret"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-1"),
    ];
    let found = in_force(&["--listen", ":2"], &settings);
    let of = |name: &str| found.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name}"));
    let url = of("DATABASE_URL");
    assert_eq!((&url["value"], &url["source"]), (&"postgres://u:***@h/d".into(), &"file".into()));
    assert_eq!((&url["file"], &url["flag"]), (&path.to_str().into(), &"--database-url".into()));
    assert_eq!((&of("WINDLASS_API_KEY")["value"], &of("WINDLASS_API_KEY")["flag"]), (&"***".into(), &Value::Null));
    assert_eq!((&of("WINDLASS_LISTEN")["value"], &of("WINDLASS_LISTEN")["source"]), (&":2".into(), &"flag".into()));
    assert_eq!((&of("AWS_REGION")["value"], &of("AWS_REGION")["source"]), (&"eu-1".into(), &"environment".into()));
    assert_eq!(of("WINDLASS_LOG")["source"], "default");
    let (status, text, log) = run(&["config", "--listen", ":2"], &settings);
    assert_eq!((status, &*log), (0, ""), "{text}");
    assert_eq!(text.lines().count(), found.len());
    let line = text.lines().find(|it| it.starts_with("DATABASE_URL ")).unwrap();
    assert!(line.ends_with(&format!(" postgres://u:***@h/d (file {})", path.display())), "{line}");
    assert!(!text.contains("secret") && !format!("{found:?}").contains("secret"), "{text}");
}

#[test]
fn config_reports_everything_that_is_wrong() {
    let wrong = [("WINDLASS_LISTN", ":1"), ("WINDLASS_STORE", "s3://b"), ("AWS_TIMEOUT", "soon"), ("PGPORT", "x")];
    let (status, text, log) = run(&["config", "--sweep-interval=1", "--max-file-bytes=1PiB"], &wrong);
    assert_eq!((status, &*text), (2, ""), "{log}");
    for expected in [
        "windlass: --sweep-interval is '1': has no unit: write 1s",
        "windlass: WINDLASS_MAX_FILE_BYTES: a file may have 1125899906842624 bytes, but is stored as at most 10000 parts",
        "windlass: AWS_TIMEOUT (soon) cannot be used: it must be a duration",
        "windlass: PGPORT is 'x': is not a port",
        "windlass: the environment variable WINDLASS_LISTN is not a setting; did you mean WINDLASS_LISTEN?",
    ] {
        assert!(log.contains(expected), "'{expected}' is not in {log}");
    }
    assert_eq!(log.lines().count(), 5, "{log}");
}

#[test]
fn a_machine_without_ca_certificates_is_reported_as_such() {
    let empty = tempfile::tempdir().unwrap();
    let settings = [
        ("SSL_CERT_FILE", "/dev/null"),
        ("SSL_CERT_DIR", empty.path().to_str().unwrap()),
        ("WINDLASS_STORE", "s3://b"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let (status, _, log) = run(&["serve"], &settings);
    assert_eq!(status, 2, "{log}");
    assert!(log.contains("No CA certificates") && log.contains("install the package ca-certificates"), "{log}");
    assert_eq!(log.lines().count(), 1, "no setting is to blame: {log}");
}

#[test]
fn the_table_of_settings_is_complete_and_has_the_defaults() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let text = |it: &Value| it.as_str().map_or_else(String::new, |it| format!("`{it}`"));
    // These depend on the directory and the machine.
    let computed = ["WINDLASS_STORE", "WINDLASS_BUFFER_BYTES"];
    let mut names = BTreeSet::new();
    for setting in in_force(&[], &[]) {
        let name = setting["name"].as_str().unwrap();
        let default = if computed.contains(&name) { String::new() } else { format!(" {} |", text(&setting["value"])) };
        let row = format!("| `{name}` | {} |{default}", text(&setting["flag"])).replace("  ", " ");
        assert!(document.contains(&row), "{TABLE} has no row '{row}'");
        names.insert(name.to_owned());
    }
    let rows = document.lines().filter_map(|it| it.strip_prefix("| `")?.split_once('`'));
    for name in rows.map(|it| it.0).filter(|it| it.starts_with("WINDLASS_")) {
        assert!(names.contains(name), "{TABLE}: {name} is not a setting");
    }
    // The help text has the same settings.
    let help = String::from_utf8(program::run(&[], &["--help"]).stdout).unwrap();
    assert!(names.iter().all(|it| help.contains(it)), "{names:?}");
}
