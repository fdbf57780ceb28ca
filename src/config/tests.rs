//! Table-driven tests of command lines and environments.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::CommandFactory as _;

use super::*;
use crate::domain::{JsonlCheck, MimePolicy};

fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<CommandLine, Unusable> {
    let arguments = ["windlass"].iter().chain(arguments).map(OsString::from);
    environment::read(arguments, environment.iter().map(|(name, value)| (name.into(), value.into())))
}

fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
    read(arguments, environment).unwrap().options.try_into().unwrap()
}

#[test]
fn the_command_line_is_sound() {
    CommandLine::command().debug_assert();
}

#[test]
fn settings_may_stand_before_and_after_the_command_and_overrule_the_environment() {
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
fn white_space_around_a_value_is_no_part_of_it() {
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
    assert_eq!(config.api_key.unwrap().0.reveal(), "a-key-of-enough-letters");
    assert!(matches!(config.database, Database::Url(url) if url == "postgresql://u:p@h/d"));
    assert_eq!(config.data_dir, PathBuf::from("/a place"));
    assert_eq!(config.limits.part_bytes.get(), 1 << 20);
    assert_eq!(config.limits.mime_policy, MimePolicy::Any);
    assert_eq!(config.limits.jsonl_check, JsonlCheck::Lines);
    assert!(matches!(config.store, Location::Bucket(it) if it.to_string() == "s3://bucket"));
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_name_value_and_reason_but_no_secret() {
    let environment = [
        ("WINDLASS_LISTEN", "localhost"),
        ("WINDLASS_SWEEP_INTERVAL", "30"),
        ("WINDLASS_MAX_PART_BYTES", "64 megs"),
        ("WINDLASS_LOG_FORMAT", "yaml"),
        ("WINDLASS_DATABASE_CONNECTIONS", "1"),
        ("WINDLASS_API_KEY", "two secrets"),
        ("DATABASE_URL", "mysql://secret@h/d"),
    ];
    let Err(error @ Unusable::Settings(_)) = read(&["serve"], &environment) else { panic!("it can be used") };
    let said = error.to_string();
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
fn a_value_that_is_no_text_is_a_path_or_refused() {
    let strange = OsStr::from_bytes(b"/caf\xe9");
    let read = |name: &str| environment::read([OsString::from("windlass")], [(name.into(), strange.to_owned())]);
    let config: Config = read("WINDLASS_DATA_DIR").unwrap().options.try_into().unwrap();
    assert_eq!(config.data_dir, PathBuf::from(strange));
    let refused = read("WINDLASS_STORE").unwrap_err().to_string();
    assert!(refused.contains("WINDLASS_STORE is '/caf\u{fffd}'") && refused.contains("UTF-8"), "{refused}");
}

#[test]
fn a_variable_that_no_setting_has_is_named_with_the_one_that_may_be_meant() {
    let table = [
        ("WINDLASS_DATADIR", "/a", Some("WINDLASS_DATA_DIR is one")),
        ("WINDLASS_DATA_DIRECTORY", "/a", Some("WINDLASS_DATA_DIR is one")),
        ("WINDLASS_SWEEP_INTERVALL", "1s", Some("WINDLASS_SWEEP_INTERVAL is one")),
        ("WINDLASS_MAX_PARTS_BYTES", "1", Some("WINDLASS_MAX_PART_BYTES is one")),
        ("WINDLASS_XYZZY", "1", Some("is no setting")),
        ("WINDLASS_PORT", "9000", Some("is no setting")),
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
fn the_buffers_fit_into_a_small_container() {
    const MIB: u64 = 1024 * 1024;
    for (memory, expected) in [(300 * MIB, 75 * MIB), (32 * MIB, 16 * MIB), (u64::MAX, 256 * MIB)] {
        assert_eq!(buffer_bytes_within(memory).get(), expected, "{memory}");
    }
}

#[test]
fn a_key_or_a_password_on_the_command_line_is_refused_and_not_repeated() {
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
        let Err(Unusable::CommandLine(error)) = read(line, &[]) else { panic!("{line:?} can be used") };
        let said = error.to_string();
        assert!(said.contains("every user of the machine") && said.contains(instead), "{line:?}: {said}");
        assert!(!said.contains("secret"), "{line:?}: {said}");
    }
}

#[test]
fn a_database_without_a_password_may_be_on_the_command_line() {
    for url in ["postgres://u@h/d", "postgres:///d?host=/run/postgresql", "postgresql://h:5433/d?sslmode=require"] {
        let config = config(&["--database-url", url], &[("DATABASE_URL", "postgres://u:secret@other/d")]);
        assert!(matches!(config.database, Database::Url(it) if it == url), "{url}");
    }
}

#[test]
fn a_key_may_be_in_a_file_but_in_one_place_only() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("key");
    let path = path.to_str().unwrap();
    let read = |arguments: &[&str], environment: &[(&str, &str)]| {
        Config::try_from(read(arguments, environment).unwrap().options)
            .map(|it| it.api_key.map(|it| it.0.reveal().to_owned()))
    };
    std::fs::write(path, "  a-key-of-enough-letters\r\n").unwrap();
    let expected = Some("a-key-of-enough-letters".to_owned());
    assert_eq!(read(&["--api-key-file", path], &[]).unwrap(), expected);
    assert_eq!(read(&[], &[("WINDLASS_API_KEY_FILE", path)]).unwrap(), expected);
    assert_eq!(read(&[], &[("WINDLASS_API_KEY_FILE", path), ("WINDLASS_API_KEY", "")]).unwrap(), expected);
    assert_eq!(read(&["--api-key-file", path], &[("WINDLASS_API_KEY_FILE", "/nothing")]).unwrap(), expected);
    assert_eq!(read(&[], &[]).unwrap(), None);

    let both = [("WINDLASS_API_KEY_FILE", path), ("WINDLASS_API_KEY", "another-key-of-enough-letters")];
    let said = read(&[], &both).unwrap_err().to_string();
    assert!(said.contains("WINDLASS_API_KEY and WINDLASS_API_KEY_FILE"), "{said}");
    let refused = |path: &str| {
        let error = read(&[], &[("WINDLASS_API_KEY_FILE", path)]).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    };
    for (content, reason) in [(&b""[..], "is empty"), (b"short\n", "16 to 512"), (b"two words of a key\n", "no spaces")]
    {
        std::fs::write(path, content).unwrap();
        let said = refused(path);
        assert!(said.contains(path) && said.contains(reason), "{said}");
    }
    for content in [b"caf\xe9-is-not-unicode-text".to_vec(), b"x".repeat(10_000_000)] {
        std::fs::write(path, content).unwrap();
        assert!(refused(path).contains("printable ASCII"), "{}", refused(path));
    }
    for missing in ["/there/is/no/such/file", place.path().to_str().unwrap()] {
        assert!(refused(missing).contains(missing), "{}", refused(missing));
    }
}
