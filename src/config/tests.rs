//! Table-driven tests of command lines and environments.

mod secrets;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::CommandFactory as _;
use secrecy::ExposeSecret as _;
use windlass_engine::model::{JsonlCheck, MimePolicy};

use super::*;

fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Invocation, Unusable> {
    let arguments = ["windlass"].iter().chain(arguments).map(OsString::from);
    environment::read(arguments, environment.iter().map(|(name, value)| (name.into(), value.into())))
}

fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
    read(arguments, environment).unwrap().config
}

/// The lines that are printed about invalid settings.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    match read(arguments, environment) {
        Err(error @ Unusable::Settings(_)) => error.to_string().split("\nwindlass: ").map(str::to_owned).collect(),
        other => panic!("{arguments:?}, {environment:?}: {other:?}"),
    }
}

#[test]
fn the_command_line_definition_is_valid() {
    CommandLine::command().debug_assert();
}

#[test]
fn flags_are_accepted_before_and_after_the_command_and_override_the_environment() {
    let environment = [("WINDLASS_LISTEN", "127.0.0.1:1")];
    for (line, expected) in [
        (&["--listen=:2", "serve"][..], ":2"),
        (&["serve", "--listen=:2"], ":2"),
        (&["serve", "--listen", ":2"], ":2"),
        (&["serve"], "127.0.0.1:1"),
        (&[], "127.0.0.1:1"),
        (&["keys", "create", "--name", "a"], "127.0.0.1:1"),
    ] {
        assert_eq!(config(line, &environment).listen.to_string(), expected, "{line:?}");
    }
    // An overridden variable is not validated.
    assert_eq!(config(&["--listen=:2"], &[("WINDLASS_LISTEN", "nonsense")]).listen.to_string(), ":2");
}

#[test]
fn an_empty_variable_is_not_set() {
    let names: Vec<_> =
        CommandLine::command().get_arguments().filter_map(|it| it.get_env().map(OsStr::to_owned)).collect();
    assert!(names.len() > 20, "{names:?}");
    for empty in ["", " ", "\n"] {
        let environment: Vec<_> = names.iter().map(|it| (it.to_str().unwrap(), empty)).collect();
        assert_eq!(format!("{:?}", config(&[], &environment)), format!("{:?}", config(&[], &[])), "{empty:?}");
    }
}

#[test]
fn white_space_around_a_value_is_ignored() {
    let config = config(
        &[],
        &[
            ("WINDLASS_API_KEY", "a-key-of-enough-letters\n"),
            ("DATABASE_URL", " postgresql://u:p@h/d\r\n"),
            ("WINDLASS_DATA_DIR", "/a place\n"),
            ("WINDLASS_MAX_PART_BYTES", " 1 MiB "),
            ("WINDLASS_MIME_POLICY", "any\n"),
            ("WINDLASS_JSONL_CHECK", " lines\n"),
            ("WINDLASS_STORE", "s3://bucket\n"),
        ],
    );
    assert_eq!(config.api_key.unwrap().reveal(), "a-key-of-enough-letters");
    assert!(matches!(config.database, Database::Url(url) if url.expose_secret() == "postgresql://u:p@h/d"));
    assert_eq!(config.data_dir, PathBuf::from("/a place"));
    assert_eq!(config.limits.part_bytes.get(), 1 << 20);
    assert_eq!(config.limits.mime_policy, MimePolicy::Any);
    assert_eq!(config.limits.jsonl_check, JsonlCheck::Lines);
    assert!(matches!(config.store, Location::Bucket(it) if it.to_string() == "s3://bucket"));
}

#[test]
fn all_invalid_variables_are_reported_together_without_secrets() {
    let environment = [
        ("WINDLASS_LISTEN", "localhost"),
        ("WINDLASS_SWEEP_INTERVAL", "30"),
        ("WINDLASS_MAX_PART_BYTES", "64 megs"),
        ("WINDLASS_LOG_FORMAT", "yaml"),
        ("WINDLASS_DATABASE_CONNECTIONS", "1"),
        ("WINDLASS_API_KEY", "two secrets"),
        ("DATABASE_URL", "mysql://secret@h/d"),
    ];
    let said = refused(&["serve"], &environment).join("\n");
    for expected in [
        "WINDLASS_LISTEN is 'localhost': has no port",
        "WINDLASS_SWEEP_INTERVAL is '30': has no unit: write 30s",
        "WINDLASS_MAX_PART_BYTES is '64 megs': is not a size",
        "WINDLASS_LOG_FORMAT is 'yaml': must be one of text, json",
        "WINDLASS_DATABASE_CONNECTIONS is '1': 1 is not in 2..=10000",
        "WINDLASS_API_KEY: an API key must have",
        "DATABASE_URL: is not a Postgres URL",
    ] {
        assert!(said.contains(expected), "'{expected}' is not in {said}");
    }
    assert_eq!(said.lines().count(), environment.len());
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn a_value_that_is_not_utf_8_is_accepted_only_as_a_path() {
    let strange = OsStr::from_bytes(b"/caf\xe9");
    let read = |name: &str| environment::read([OsString::from("windlass")], [(name.into(), strange.to_owned())]);
    assert_eq!(read("WINDLASS_DATA_DIR").unwrap().config.data_dir, PathBuf::from(strange));
    let refused = read("WINDLASS_STORE").unwrap_err().to_string();
    assert!(refused.contains("WINDLASS_STORE is '/caf\u{fffd}'") && refused.contains("UTF-8"), "{refused}");
}

#[test]
fn an_unknown_variable_is_reported_with_the_most_similar_setting() {
    let table = [
        ("WINDLASS_DATA_DIRECTORY", "/a", Some("did you mean WINDLASS_DATA_DIR?")),
        ("WINDLASS_MAX_FILES", "1", Some("is not a setting")),
        ("WINDLASS_DEV_DIR", "/a", Some("is not a setting")),
        ("WINDLASS_XYZZY", "1", Some("is not a setting")),
        ("WINDLASS_PORT", "9000", Some("is not a setting")),
        ("WINDLASS_XYZZY", "", None),
        ("WINDLASS_LISTEN", ":1", None),
        ("windlass_listen", ":1", None),
        ("OTHER", "1", None),
        // Set by Kubernetes for a Service named `windlass`.
        ("WINDLASS_PORT", "tcp://10.0.0.1:8080", None),
        ("WINDLASS_SERVICE_HOST", "10.0.0.1", None),
        ("WINDLASS_SERVICE_PORT_HTTP", "8080", None),
        ("WINDLASS_PORT_8080_TCP_ADDR", "10.0.0.1", None),
    ];
    for (name, value, expected) in table {
        let said: Vec<_> = read(&[], &[(name, value)]).unwrap().unknown.iter().map(ToString::to_string).collect();
        match expected {
            Some(expected) => {
                assert!(said.len() == 1 && said[0].contains(name) && said[0].contains(expected), "{said:?}");
            }
            None => assert!(said.is_empty(), "{said:?}"),
        }
    }
}

#[test]
fn the_default_buffer_memory_fits_into_a_small_container() {
    const MIB: u64 = 1024 * 1024;
    for (memory, expected) in [(300 * MIB, 75 * MIB), (32 * MIB, 16 * MIB), (u64::MAX, 256 * MIB)] {
        assert_eq!(buffer_bytes_within(memory).get(), expected, "{memory}");
    }
}

#[test]
fn secrets_on_the_command_line_are_rejected_and_not_echoed() {
    let table: &[(&[&str], &str)] = &[
        (&["--api-key", "a-secret-of-enough-letters"], "WINDLASS_API_KEY"),
        (&["--api-key=secret"], "WINDLASS_API_KEY"),
        (&["serve", "--api-key", "two secrets"], "WINDLASS_API_KEY"),
        (&["keys", "list", "--api-key", "a-secret-of-enough-letters"], "WINDLASS_API_KEY"),
        (&["--database-url", "postgres://u:secret@h/d"], "DATABASE_URL"),
        (&["--database-url=postgresql://h/d?password=secret"], "DATABASE_URL"),
        (&["migrate", "--database-url", "postgres://h/d?pass%77ord=secret"], "DATABASE_URL"),
        (&["--database-url", "mysql://u:secret@h/d"], "DATABASE_URL"),
        (&["--database-url", "host=h password=secret"], "DATABASE_URL"),
        (&["--database-url", "u:secret@h/d"], "DATABASE_URL"),
        (&["--database-url", "postgres://u:secret@h:port/d"], "DATABASE_URL"),
    ];
    for (line, instead) in table {
        let Err(Unusable::CommandLine(error)) = read(line, &[]) else { panic!("{line:?} is accepted") };
        let said = error.to_string();
        assert!(said.contains("every user of the machine") && said.contains(instead), "{line:?}: {said}");
        assert!(!said.contains("secret"), "{line:?}: {said}");
    }
}

#[test]
fn a_database_url_without_a_password_is_accepted_on_the_command_line() {
    for url in ["postgres://u@h/d", "postgres:///d?host=/run/postgresql", "postgresql://h:5433/d?sslmode=require"] {
        let config = config(&["--database-url", url], &[("DATABASE_URL", "postgres://u:secret@other/d")]);
        assert!(matches!(config.database, Database::Url(it) if it.expose_secret() == url), "{url}");
    }
}

#[test]
fn credentials_in_a_location_are_not_echoed() {
    for store in ["s3://key:secret@bucket/a", "https://key:secret@host/a", "key:secret@host"] {
        let said = refused(&[], &[("WINDLASS_STORE", store)]);
        assert!(
            said.len() == 1 && said[0].starts_with("WINDLASS_STORE is ") && !said[0].contains("secret"),
            "{said:?}"
        );
    }
}

#[test]
fn a_misspelled_variable_is_refused() {
    for (name, right) in [
        ("WINDLASS_DATADIR", "WINDLASS_DATA_DIR"),
        ("WINDLASS_STROE", "WINDLASS_STORE"),
        ("WINDLASS_LISTN", "WINDLASS_LISTEN"),
        ("WINDLASS_MAX_FILE_BYTE", "WINDLASS_MAX_FILE_BYTES"),
        ("WINDLASS_MAX_PARTS_BYTES", "WINDLASS_MAX_PART_BYTES"),
        ("WINDLASS_SWEEP_INTERVALL", "WINDLASS_SWEEP_INTERVAL"),
        ("WINDLASS_DATABASE_URL", "DATABASE_URL"),
        ("WINDLASS_API_KEYFILE", "WINDLASS_API_KEY_FILE"),
    ] {
        let said = refused(&[], &[(name, "secret")]);
        assert_eq!(said, [format!("the environment variable {name} is not a setting; did you mean {right}?")]);
    }
}

#[test]
fn the_longest_wait_for_a_turn_has_a_least_and_a_most() {
    assert_eq!(config(&[], &[]).limits.max_queue_wait, Duration::from_secs(5));
    for (text, right) in [("10ms", 10), ("1h", 3_600_000)] {
        let set = config(&[], &[("WINDLASS_MAX_QUEUE_WAIT", text)]).limits.max_queue_wait;
        assert_eq!(set, Duration::from_millis(right));
    }
    for text in ["9ms", "0", "61m"] {
        let said = refused(&[], &[("WINDLASS_MAX_QUEUE_WAIT", text)]);
        assert_eq!(said, [format!("WINDLASS_MAX_QUEUE_WAIT is '{text}': must be 10ms to 1h, such as 5s")]);
    }
}

#[test]
fn everything_that_is_wrong_is_reported_together_wherever_it_was_set() {
    let said = refused(
        &["keys", "list", "--listen=nowhere", "--log-format=yaml", "--sweep-interval", "30"],
        &[
            ("WINDLASS_MAX_PART_BYTES", "64 megs"),
            ("DATABASE_URL", "postgres://u:secret@h:port/d"),
            ("WINDLASS_API_KEY_FILE", "/nothing"),
            ("WINDLASS_STROE", "s3://b"),
            ("WINDLASS_MAX_BATCH_FILE_BYTES", "1GiB"),
            ("AWS_SECRET_ACCESS_KEY_FILE", "/nothing"),
            ("PGSSLMODE", "verify_full"),
            ("PGPORT", "x"),
            ("SSL_CERT_FILE", "/nothing"),
        ],
    );
    let expected = [
        "WINDLASS_API_KEY_FILE: cannot read the file /nothing",
        "DATABASE_URL: is not a Postgres URL such as postgres://user:password@host:5432/name: invalid port number",
        "--listen is 'nowhere': has no port",
        "--sweep-interval is '30': has no unit",
        "WINDLASS_MAX_PART_BYTES is '64 megs': is not a size",
        "--log-format is 'yaml': must be one of text, json",
        "AWS_SECRET_ACCESS_KEY_FILE: cannot read the file /nothing",
        "PGSSLMODE is 'verify_full': must be one of",
        "PGPORT is 'x': is not a port",
        "SSL_CERT_FILE is '/nothing': cannot be read",
        "WINDLASS_MAX_BATCH_FILE_BYTES: a batch file may have 1073741824 bytes, but a file at most 536870912",
        "the environment variable WINDLASS_STROE is not a setting; did you mean WINDLASS_STORE?",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected) && !said.contains("secret"), "{expected}: {said}");
    }
}

#[test]
fn the_variables_of_the_store_are_checked_for_commands_that_use_it() {
    let environment =
        [("WINDLASS_STORE", "s3://b"), ("AWS_TIMEOUT", "soon"), ("AWS_ENDPOINT_URL", "h:1"), ("WINDLASS_LOG", "inof")];
    for command in ["serve", "sweep", "fsck", "config"] {
        let said = refused(&[command], &environment);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[1].contains("AWS_ENDPOINT_URL (h:1)") && said[2].contains("AWS_TIMEOUT (soon)"), "{said:?}");
    }
    assert_eq!(refused(&["keys", "list"], &environment).len(), 1);
    // Whatever is set, no variable of a store that is not used is an error.
    assert!(read(&["serve"], &environment[1..3]).is_ok());
}

/// An environment, and part of what is said about it if it is refused.
type Case<'c> = (&'c [(&'c str, &'c str)], Option<&'c str>);

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let table: &[Case] = &[
        (&[("WINDLASS_MAX_PART_BYTES", "9GiB")], Some("WINDLASS_MAX_PART_BYTES: a part may have 9663676416 bytes")),
        (&[("WINDLASS_MAX_PART_BYTES", "9GiB"), ("WINDLASS_MAX_UPLOAD_BYTES", "9GiB")], None),
        // Smaller than a part, whose size was not set.
        (&[("WINDLASS_MAX_UPLOAD_BYTES", "1MiB")], None),
        (&[("WINDLASS_MAX_UPLOAD_BYTES", "0")], None),
        (&[("WINDLASS_MAX_UPLOAD_BYTES", "1TiB")], Some("671088640000 bytes in all")),
        (&[("WINDLASS_MAX_UPLOAD_BYTES", "1TiB"), ("WINDLASS_MAX_PART_BYTES", "128MiB")], None),
        (&[("WINDLASS_MAX_FILE_BYTES", "1TiB")], Some("a file may have 1099511627776 bytes")),
        (&[("WINDLASS_MAX_FILE_BYTES", "8EB"), ("WINDLASS_MAX_PART_BYTES", "8GiB")], Some("WINDLASS_MAX_FILE_BYTES")),
        (&[("WINDLASS_MAX_PART_BYTES", "10")], None),
        (
            &[("WINDLASS_MAX_PART_BYTES", "10"), ("WINDLASS_LEDGER_PART_BYTES", "11")],
            Some("WINDLASS_LEDGER_PART_BYTES"),
        ),
        (&[("WINDLASS_MAX_PART_BYTES", "10"), ("WINDLASS_LEDGER_PART_BYTES", "10")], None),
        (&[("WINDLASS_MAX_BATCH_FILE_BYTES", "513MiB")], Some("WINDLASS_MAX_BATCH_FILE_BYTES")),
        (&[("WINDLASS_MAX_BATCH_FILE_BYTES", "1GiB"), ("WINDLASS_MAX_FILE_BYTES", "1GiB")], None),
        (&[("WINDLASS_MAX_FILE_BYTES", "1MiB")], None),
        (&[("WINDLASS_BODY_IDLE", "61m")], Some("a body may pause for 1h 1m, but has to arrive within 1h")),
        (&[("WINDLASS_BODY_IDLE", "1h")], None),
        (&[("WINDLASS_BODY_DEADLINE", "10s")], None),
        (&[("WINDLASS_BODY_DEADLINE", "2h")], Some("expires after 1h (WINDLASS_UPLOAD_LIFETIME)")),
        (&[("WINDLASS_BODY_DEADLINE", "2h"), ("WINDLASS_UPLOAD_LIFETIME", "2h")], None),
        (&[("WINDLASS_UPLOAD_LIFETIME", "1m")], None),
        (&[("WINDLASS_BUFFER_BYTES", "8000PiB")], Some("the machine or container has only")),
        (&[("WINDLASS_BUFFER_BYTES", "16MiB")], None),
        (
            &[("WINDLASS_DATA_DIR", "/d"), ("WINDLASS_STORE", "file:///d/postgres/x")],
            Some("/d/postgres is for the files"),
        ),
        (&[("WINDLASS_DATA_DIR", "/d"), ("WINDLASS_STORE", "file:///d")], None),
    ];
    for (environment, expected) in table {
        match expected {
            None => assert!(read(&["serve"], environment).is_ok(), "{environment:?}"),
            Some(expected) => {
                let said = refused(&["serve"], environment);
                assert!(said.len() == 1 && said[0].contains(expected), "{environment:?}: {said:?}");
            }
        }
    }
    // The part size is invalid, so nothing is known about what contradicts it.
    let said = refused(&[], &[("WINDLASS_MAX_UPLOAD_BYTES", "1TiB"), ("WINDLASS_MAX_PART_BYTES", "x")]);
    assert_eq!(said.len(), 1, "{said:?}");
}
