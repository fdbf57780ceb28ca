//! The object stores' standard environment variables: each one takes effect or is rejected by name.

use std::fs;
use std::process::Output;

use crate::support::s3_faults::FaultyS3;
use crate::support::store::{KEY, SECRET};
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp, program};

/// Runs a sweep with these settings in place of the app's (an empty value unsets one): whether it succeeded, and its
/// log.
fn sweep(app: &TestApp, instead: &[(&str, &str)]) -> (bool, String) {
    let kept = app.settings.iter().filter(|it| instead.iter().all(|(name, _)| *name != it.0)).cloned();
    let instead = instead.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let Output { status, stderr, .. } = program::run(&kept.chain(instead).collect::<Vec<_>>(), &["sweep"]);
    let log = String::from_utf8(stderr).unwrap();
    assert!(!log.contains("panicked"), "{instead:?}: {log}", instead = log.lines().last());
    (status.success(), log)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_value_fails_startup_with_the_variables_name() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    for (name, value, right) in [
        ("AWS_ENDPOINT_URL", "minio:9000", "http://"),
        ("AWS_ENDPOINT_URL", "localhost", "http://"),
        ("AWS_ENDPOINT_URL", "http://", "http://"),
        ("AWS_ENDPOINT_URL", "http://a b", "http://"),
        ("AWS_ENDPOINT_URL_S3", "//host", "http://"),
        ("AWS_METADATA_ENDPOINT", "metadata", "http://"),
        ("AWS_CONNECT_TIMEOUT", "5", "30s"),
        ("AWS_TIMEOUT", "soon", "30s"),
        ("AWS_POOL_IDLE_TIMEOUT", "-1s", "30s"),
        ("AWS_POOL_MAX_IDLE_PER_HOST", "many", "whole number"),
        ("AWS_ALLOW_INVALID_CERTIFICATES", "maybe", "true or false"),
        ("AWS_ALLOW_HTTP", "2", "true or false"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "path", "true or false"),
        ("AWS_CHECKSUM_ALGORITHM", "md5", "AWS_CHECKSUM_ALGORITHM"),
        ("AWS_PROXY_CA_CERTIFICATE", "/etc/ssl/ca.pem", "PEM"),
        ("AWS_PROXY_URL", "http://[", "AWS_PROXY_URL"),
        ("AWS_USER_AGENT", "a\u{1}b", "control character"),
        ("AWS_REGION", "eu central 1", "no space"),
        ("AWS_ACCESS_KEY_ID", "a\nb", "AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", "", "though AWS_SECRET_ACCESS_KEY is"),
        ("AWS_SECRET_ACCESS_KEY", "", "though AWS_ACCESS_KEY_ID is"),
        ("AWS_SESSION_TOKEN", "é", "ASCII"),
        ("WINDLASS_STORE", "s3://minio:9000/uploads", "AWS_ENDPOINT_URL"),
        ("WINDLASS_STORE", "s3://uploads/a?b", "%3F"),
        ("WINDLASS_STORE", "az://uploads/a", "AZURE_STORAGE_ACCOUNT_NAME"),
    ] {
        let (succeeded, log) = sweep(&app, &[(name, value)]);
        assert!(!succeeded, "{name}={value}");
        assert!(log.contains(right), "{name}={value}: {log}");
        assert!(log.contains(name) || name == "WINDLASS_STORE", "{name}={value}: {log}");
    }
    let (name, secret) = ("AWS_ACCESS_KEY_ID", "top\u{7f}secret");
    assert!(!sweep(&app, &[(name, secret)]).1.contains("secret\n"), "a secret is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_azure_and_google_are_checked_as_well() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let azure = ("WINDLASS_STORE", "az://uploads/a");
    let account = ("AZURE_STORAGE_ACCOUNT_NAME", "account");
    let google = ("WINDLASS_STORE", "gs://uploads/a");
    for (settings, expected) in [
        (vec![azure, account, ("AZURE_CONNECT_TIMEOUT", "5")], "AZURE_CONNECT_TIMEOUT (5)"),
        (vec![azure, account, ("AZURE_STORAGE_ENDPOINT", "host:10000")], "AZURE_STORAGE_ENDPOINT (host:10000)"),
        (vec![azure, ("AZURE_STORAGE_ACCOUNT_NAME", "an account")], "AZURE_STORAGE_ACCOUNT_NAME"),
        (vec![azure, account, ("AZURE_STORAGE_ACCOUNT_KEY", "no base64!")], "AZURE_STORAGE_ACCOUNT_KEY cannot be used"),
        (vec![google, ("GOOGLE_ALLOW_INVALID_CERTIFICATES", "maybe")], "GOOGLE_ALLOW_INVALID_CERTIFICATES (maybe)"),
        (vec![google, ("GOOGLE_BASE_URL", "host:1")], "GOOGLE_BASE_URL (host:1)"),
        (vec![google, ("GOOGLE_SERVICE_ACCOUNT", "/nowhere/key.json")], "GOOGLE_SERVICE_ACCOUNT"),
        (vec![google, ("GOOGLE_SERVICE_ACCOUNT_KEY", "no JSON")], "GOOGLE_SERVICE_ACCOUNT_KEY cannot be used"),
    ] {
        let (succeeded, log) = sweep(&app, &settings);
        assert!(!succeeded && log.contains(expected), "{settings:?}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_unknown_variables_and_surrounding_whitespace_are_no_error() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let endpoint = format!(" {}/ \n", app.setting("AWS_ENDPOINT_URL"));
    let secret = format!("{SECRET}\n");
    let settings = [
        ("AWS_ENDPOINT_URL", &*endpoint),
        ("AWS_SECRET_ACCESS_KEY", &*secret),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_TIMEOUT", ""),
        ("AWS_ALLOW_HTTP", ""),
        ("AWS_PAGER", "less"),
        ("AWS_EXECUTION_ENV", "é"),
    ];
    let (succeeded, log) = sweep(&app, &settings);
    assert!(succeeded, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_invalid_is_reported_at_once() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let wrong = [
        ("AWS_ENDPOINT_URL", "minio:9000"),
        ("AWS_TIMEOUT", "soon"),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("WINDLASS_LISTEN", "localhost"),
        ("WINDLASS_MAX_BATCH_FILE_BYTES", "1GiB"),
        ("WINDLASS_LISTN", ":1"),
    ];
    let refused = app.run_with(&wrong, &["sweep"]);
    let log = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{log}");
    assert_eq!(log.lines().count(), wrong.len(), "{log}");
    for (name, _) in wrong {
        assert!(log.contains(&format!("{name} ")) || log.contains(&format!("{name}:")), "{name}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_can_be_in_files() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = place.path().join(name);
        fs::write(&path, format!("{content}\n")).unwrap();
        path.display().to_string()
    };
    let (secret, id) = (file("secret", SECRET), file("id", KEY));
    let (wrong, url) = (file("wrong", "wrong"), file("url", app.setting("DATABASE_URL")));
    let with = |secret: &str| {
        sweep(
            &app,
            &[
                ("DATABASE_URL", ""),
                ("DATABASE_URL_FILE", &url),
                ("AWS_ACCESS_KEY_ID", ""),
                ("AWS_ACCESS_KEY_ID_FILE", &id),
                ("AWS_SECRET_ACCESS_KEY", ""),
                ("AWS_SECRET_ACCESS_KEY_FILE", secret),
            ],
        )
    };
    assert!(with(&secret).0, "{}", with(&secret).1);
    assert!(with(&wrong).1.contains("the secret key is wrong"));
    assert!(with("/nowhere").1.contains("AWS_SECRET_ACCESS_KEY_FILE: cannot read the file /nowhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_goes_through_the_configured_proxy() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let proxy = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    // Only the proxy can reach the endpoint; the bucket is created, written, listed and read.
    let bucket = format!("s3://made-{}/a", fastrand::u64(..));
    let through = [
        ("AWS_ENDPOINT_URL", "http://s3.invalid:9000"),
        ("AWS_PROXY_URL", &*proxy.endpoint),
        ("WINDLASS_STORE", &*bucket),
    ];
    let (is_made, log) = app.link(&through);
    assert!(is_made && log.contains("created the missing bucket"), "{log}");
    app.restart_with(&through);
    let large = vec![b'x'; 11 * 1024 * 1024];
    let file = app.client.file(large.clone()).await;
    assert!(app.client.download(&file).await == large);
    assert!(proxy.were_signed(), "a proxy on plain http may change bytes");
    let checked = app.run_with(&through, &["fsck", "--deep"]);
    assert!(checked.status.success(), "{checked:?}");
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_of_the_shared_files_is_used_if_the_environment_has_no_keys() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let credentials = format!(
        "[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n\n\
         [wrong]\naws_access_key_id = {KEY}\naws_secret_access_key = wrong\n"
    );
    fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
    fs::write(home.path().join(".aws/config"), "[profile sso]\nsso_session = work\n").unwrap();
    let without = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("HOME", home.path().to_str().unwrap())];
    let with = |profile| sweep(&app, &[&without[..], &[("AWS_PROFILE", profile)]].concat());
    assert!(with("").0, "{}", with("").1);
    for (profile, expected) in [
        ("wrong", "the signature does not match"),
        ("wrong", "the profile 'wrong' in"),
        ("sso", "sso_session, which is not supported"),
        ("nobody", "which is not in"),
    ] {
        let (succeeded, log) = with(profile);
        assert!(!succeeded && log.contains(expected), "{profile}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_keys_the_error_lists_where_they_were_looked_for() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[]).await else { return };
    let without = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1"),
        ("AWS_CONNECT_TIMEOUT", "1s"),
    ];
    let (succeeded, log) = sweep(&app, &without);
    assert!(!succeeded);
    for part in ["no credentials were found", "AWS_ACCESS_KEY_ID", "~/.aws/credentials", "metadata service"] {
        assert!(log.contains(part), "{part}: {log}");
    }
}
