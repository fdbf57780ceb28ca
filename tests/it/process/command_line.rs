//! The command line: help, settings, exit codes.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use crate::support::program::{self, Program};
use crate::support::{Client, cluster};

/// The settings that operators rely on, each a flag and an environment variable.
const SETTINGS: &[&str] = &[
    "DATABASE_URL",
    "WINDLASS_LISTEN",
    "WINDLASS_DATA_DIR",
    "WINDLASS_STORE",
    "WINDLASS_API_KEY_FILE",
    "WINDLASS_UPLOAD_LIFETIME",
    "WINDLASS_SWEEP_INTERVAL",
    "WINDLASS_MAX_PART_BYTES",
    "WINDLASS_LEDGER_PART_BYTES",
    "WINDLASS_MAX_UPLOAD_BYTES",
    "WINDLASS_MAX_FILE_BYTES",
    "WINDLASS_MIME_POLICY",
];

#[test]
fn help_names_every_command_and_setting_and_shows_no_secret() {
    let secrets = [("WINDLASS_API_KEY", "a-secret-key"), ("DATABASE_URL", "postgres://u:a-secret@h/d")];
    let secrets: Vec<_> = secrets.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let help = String::from_utf8(program::run(&secrets, &["--help"]).stdout).unwrap();
    for word in SETTINGS.iter().chain(&["WINDLASS_API_KEY ", "serve", "migrate", "sweep", "keys"]) {
        assert!(help.contains(word), "{word}");
    }
    for setting in &SETTINGS[1..] {
        let flag = setting.strip_prefix("WINDLASS_").unwrap().to_lowercase().replace('_', "-");
        assert!(help.contains(&format!("--{flag} ")), "{flag}");
    }
    assert!(!help.contains("a-secret"), "{help}");
    assert!(!help.contains("--api-key "), "there is a flag for the key: {help}");
}

#[test]
fn an_invalid_setting_is_refused_with_a_hint() {
    let wrong = [
        ("WINDLASS_STORE", "/var/objects", "file:///path"),
        ("WINDLASS_UPLOAD_LIFETIME", "1", "1h"),
        ("WINDLASS_SWEEP_INTERVAL", "0s", "30s"),
        ("WINDLASS_MAX_PART_BYTES", "0", "at least 1"),
        ("WINDLASS_LEDGER_PART_BYTES", "65537", "65536"),
        ("WINDLASS_MIME_POLICY", "strict", "contract"),
        ("WINDLASS_LISTEN", "localhost", "localhost:8080"),
        ("WINDLASS_API_KEY", "two words of a key", "no spaces"),
        ("WINDLASS_API_KEY", "x", "16 to 512"),
        ("WINDLASS_API_KEY", "fifteen-letters", "16 to 512"),
        ("WINDLASS_API_KEY_FILE", "/there/is/no/such/file", "cannot read the file /there/is/no/such/file"),
        ("WINDLASS_API_KEY_FILE", "/dev/null", "/dev/null is empty"),
    ];
    for (name, value, right) in wrong {
        let refused = program::run(&[(name.to_owned(), value.to_owned())], &["serve"]);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{name}: {text}");
        assert!(text.contains(right), "{name}: '{right}' is not in {text}");
    }
}

#[test]
fn a_secret_in_an_argument_is_refused_and_not_repeated() {
    for arguments in [
        &["serve", "--api-key", "a-secret-of-enough-letters"][..],
        &["--api-key=a-secret"],
        &["migrate", "--database-url", "postgres://u:a-secret@127.0.0.1/d"],
    ] {
        let refused = program::run(&[], arguments);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains("every user of the machine"), "{arguments:?}: {text}");
        assert!(!text.contains("a-secret"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_from_a_file_is_accepted_and_no_other_is_created() {
    let (database, place) = (cluster::database().await, tempfile::tempdir().unwrap());
    let path = place.path().join("the-key");
    std::fs::write(&path, "a-key-that-was-chosen\n").unwrap();
    let settings = [
        ("DATABASE_URL", database.url),
        ("WINDLASS_DATA_DIR", place.path().display().to_string()),
        ("WINDLASS_DATABASE_CONNECTIONS", "2".to_owned()),
        ("WINDLASS_API_KEY_FILE", path.display().to_string()),
        ("WINDLASS_API_KEY", String::new()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    let program = Program::serve(&settings, &place.path().join("log"), false);
    Client::new(&program.address, "a-key-that-was-chosen").get("/v1/files").await.ok();
    assert!(!place.path().join("api-key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_the_database_that_refused_the_login() {
    let database = cluster::empty_database().await;
    let url = database.url.replace("windlass:", "nobody:");
    let refused = program::run(&[("DATABASE_URL".to_owned(), url)], &["migrate"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("the database cannot be used"), "{text}");
    assert!(!text.contains(database.url.split(':').nth(2).unwrap().split('@').next().unwrap()), "a password is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_concurrent_first_starts_all_serve_and_one_shows_a_key() {
    let database = cluster::empty_database().await;
    let place = tempfile::tempdir().unwrap();
    let programs: Vec<Program> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8)
            .map(|number| {
                let (url, directory) = (database.url.clone(), place.path().join(number.to_string()));
                let store = format!("file://{}", place.path().join("store").display());
                scope.spawn(move || {
                    std::fs::create_dir(&directory).unwrap();
                    let settings = [
                        ("DATABASE_URL", url),
                        ("WINDLASS_DATA_DIR", directory.display().to_string()),
                        ("WINDLASS_STORE", store),
                        ("WINDLASS_DATABASE_CONNECTIONS", "2".to_owned()),
                    ];
                    Program::serve_here(&settings.map(|(name, value)| (name.to_owned(), value)), &directory.join("log"))
                })
            })
            .collect();
        starting.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let addresses: BTreeSet<_> = programs.iter().map(|it| it.address.clone()).collect();
    assert_eq!(addresses.len(), 8);
    for program in programs {
        assert_eq!(reqwest::get(format!("{}/readyz", program.address)).await.unwrap().status(), 200);
        program.signal(Signal::SIGTERM);
    }
    let kept = (0..8).filter(|it| place.path().join(it.to_string()).join("api-key").exists()).count();
    assert_eq!(kept, 1, "more or less than one of the first starts created a key");
}
