//! Secrets: in files, and hidden among the settings in force.

use std::path::Path;

use super::*;

fn shown<'i>(invocation: &'i Invocation, name: &str) -> &'i InForce {
    invocation.in_force.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("{name} is not shown"))
}

fn url_of(config: &Config) -> &str {
    match &config.database {
        Database::Url(url) => url.expose_secret(),
        Database::Embedded(_) => panic!("no URL is set"),
    }
}

#[test]
fn every_secret_can_be_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (key, url) = (write("key", "\u{feff}a-key-of-enough-letters\r\n"), write("url", " postgres://u:pass@h/d\n"));
    let (id, secret) = (write("id", "an-id\n"), write("secret", "the-secret\n"));
    let environment = [
        ("WINDLASS_API_KEY_FILE", &*key),
        ("DATABASE_URL_FILE", &*url),
        ("WINDLASS_STORE", "s3://b"),
        ("AWS_ACCESS_KEY_ID_FILE", &*id),
        ("AWS_SECRET_ACCESS_KEY_FILE", &*secret),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/not/read/at/start"),
        ("DATABASE_URL", ""),
    ];
    let invocation = read(&["serve"], &environment).unwrap();
    assert_eq!(invocation.config.api_key.as_ref().unwrap().reveal(), "a-key-of-enough-letters");
    assert_eq!(url_of(&invocation.config), "postgres://u:pass@h/d");
    assert!(format!("{:?}", invocation.config.store_variables).contains("\"AWS_SECRET_ACCESS_KEY\""));
    for (name, file, value) in [
        ("WINDLASS_API_KEY", &key, "***"),
        ("DATABASE_URL", &url, "postgres://u:***@h/d"),
        ("AWS_ACCESS_KEY_ID", &id, "***"),
        ("AWS_SECRET_ACCESS_KEY", &secret, "***"),
    ] {
        let shown = shown(&invocation, name);
        assert_eq!((shown.source, shown.value.as_deref()), ("file", Some(value)), "{name}");
        assert_eq!(shown.file.as_deref(), Some(Path::new(file)), "{name}");
    }
    assert_eq!(url_of(&config(&["--database-url-file", &url], &[])), "postgres://u:pass@h/d");
    // Settings whose values must not be shown have a file each.
    let command = CommandLine::command();
    let variables: Vec<_> = command.get_arguments().filter_map(|it| it.get_env()?.to_str()).collect();
    for secret in command.get_arguments().filter(|it| it.is_hide_env_values_set()) {
        let file = format!("{}_FILE", secret.get_env().unwrap().to_str().unwrap());
        assert!(variables.contains(&&*file), "{file}");
    }
}

#[test]
fn a_file_that_holds_no_secret_is_refused_and_not_echoed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let path = path.to_str().unwrap();
    let store = ("WINDLASS_STORE", "s3://b");
    let of = |name: &str| refused(&["serve"], &[(name, path), store]);
    let variables = ["WINDLASS_API_KEY_FILE", "DATABASE_URL_FILE", "AWS_SESSION_TOKEN_FILE"];
    for name in variables {
        for (content, reason) in [
            (b"".to_vec(), "is empty"),
            (b" \r\n".to_vec(), "is empty"),
            (b"caf\xe9".to_vec(), "is not UTF-8 text"),
            (b"secret".repeat(200_000), "is larger than 1 MiB"),
        ] {
            std::fs::write(path, content).unwrap();
            let said = of(name);
            assert!(said.len() == 1 && said[0].starts_with(&format!("{name}: the file {path} {reason}")), "{said:?}");
        }
        for missing in ["/there/is/no/such/file", dir.path().to_str().unwrap()] {
            let said = refused(&["serve"], &[(name, missing), store]);
            assert!(said[0].starts_with(&format!("{name}: cannot read the file {missing}: ")), "{said:?}");
        }
    }
    for (name, content, reason) in [
        ("WINDLASS_API_KEY", "secret", "16 to 512"),
        ("WINDLASS_API_KEY", "two secret words of a key", "no spaces"),
        ("DATABASE_URL", "mysql://u:secret@h/d", "is not a Postgres URL"),
        ("DATABASE_URL", "postgres://u:secret@a:5432,b:5432/d", "it names several hosts"),
        ("DATABASE_URL", "postgres://u:secret@a,b/d?sslmode=require", "it names several hosts"),
        ("DATABASE_URL", "postgres:///d?user=u&password=secret&host=a,b", "it names several hosts"),
    ] {
        std::fs::write(path, content).unwrap();
        let variable = format!("{name}_FILE");
        let said = of(&variable);
        assert!(said[0].starts_with(&format!("{name} (in {path}): ")) && said[0].contains(reason), "{said:?}");
        assert!(!said[0].contains("secret"), "{said:?}");
    }
    std::fs::write(path, "bad secret \u{1}").unwrap();
    let said = of("AWS_SESSION_TOKEN_FILE");
    assert!(said[0].starts_with("AWS_SESSION_TOKEN cannot be used") && !said[0].contains("bad"), "{said:?}");
}

#[test]
fn a_secret_and_its_file_are_not_both_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "a-secret-of-enough-letters").unwrap();
    let path = path.to_str().unwrap();
    let api_key = [("WINDLASS_API_KEY", "a-secret-of-enough-letters")];
    let file = ("WINDLASS_API_KEY_FILE", path);
    let said = refused(&[], &[api_key[0], file]);
    assert_eq!(said, ["WINDLASS_API_KEY and WINDLASS_API_KEY_FILE are both set: unset one of them"]);
    let said = refused(&["--api-key-file", path], &api_key);
    assert_eq!(said, ["WINDLASS_API_KEY and --api-key-file are both set: unset one of them"]);
    let said = refused(&["--database-url=postgres://h/d"], &[("DATABASE_URL_FILE", path)]);
    assert_eq!(said, ["--database-url and DATABASE_URL_FILE are both set: unset one of them"]);
    let said = refused(&[], &[("AWS_SESSION_TOKEN", "secret"), ("AWS_SESSION_TOKEN_FILE", path)]);
    assert_eq!(said, ["AWS_SESSION_TOKEN and AWS_SESSION_TOKEN_FILE are both set: unset one of them"]);
    // A flag overrides the variable of the same setting.
    let key = config(&["--api-key-file", path], &[("WINDLASS_API_KEY_FILE", "/nothing")]).api_key;
    assert_eq!(key.unwrap().reveal(), "a-secret-of-enough-letters");
}

#[test]
fn the_settings_in_force_have_their_origins_and_no_secrets() {
    let environment = [
        ("DATABASE_URL", "postgres://u:secret@h/d?sslmode=require"),
        ("WINDLASS_API_KEY", "a-secret-of-enough-letters"),
        ("WINDLASS_LISTEN", ":1"),
        ("WINDLASS_LOG", "debug"),
        ("WINDLASS_STORE", "s3://b/p"),
        ("AWS_REGION", "eu-1"),
        ("AWS_ACCESS_KEY_ID", "secret-id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_PROXY_URL", "http://u:secret@proxy"),
        ("AWS_OF_OTHERS", "secret"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "other"),
        ("HTTPS_PROXY", "http://u:secret@proxy:1"),
        ("PGPASSWORD", "secret"),
        ("PGSSLROOTCERT", "/ca.pem"),
    ];
    let invocation = read(&["config", "--listen=:2", "--sweep-interval", "7s"], &environment).unwrap();
    for (name, value, source) in [
        ("DATABASE_URL", Some("postgres://u:***@h/d?sslmode=require"), "environment"),
        ("WINDLASS_API_KEY", Some("***"), "environment"),
        ("WINDLASS_LISTEN", Some(":2"), "flag"),
        ("WINDLASS_SWEEP_INTERVAL", Some("7s"), "flag"),
        ("WINDLASS_LOG", Some("debug"), "environment"),
        ("WINDLASS_MAX_PART_BYTES", Some("67108864"), "default"),
        ("WINDLASS_STORE", Some("s3://b/p"), "environment"),
        ("WINDLASS_CORS_ORIGINS", None, "default"),
        ("AWS_REGION", Some("eu-1"), "environment"),
        ("AWS_SECRET_ACCESS_KEY", Some("***"), "environment"),
        ("AWS_PROXY_URL", Some("***"), "environment"),
        ("HTTPS_PROXY", Some("http://u:***@proxy:1/"), "environment"),
        ("PGPASSWORD", Some("***"), "environment"),
        ("PGSSLROOTCERT", Some("/ca.pem"), "environment"),
    ] {
        let shown = shown(&invocation, name);
        assert_eq!((shown.value.as_deref(), shown.source), (value, source), "{name}");
    }
    for unused in ["AWS_OF_OTHERS", "AZURE_STORAGE_ACCOUNT_NAME", "WINDLASS_CRASH_AT"] {
        assert!(invocation.in_force.iter().all(|it| it.name != unused), "{unused}");
    }
    let text: String = invocation.in_force.iter().map(InForce::line).collect();
    assert!(!text.contains("secret"), "{text}");
    let elsewhere = read(&[], &[("WINDLASS_DATA_DIR", "/d")]).unwrap();
    assert_eq!(shown(&elsewhere, "WINDLASS_STORE").value.as_deref(), Some("file:///d/objects"));
}
