//! The commands that show and change quotas and rates.

use serde_json::{Value, json};

use super::set;
use crate::support::TestApp;

crate::on_a_directory_and_s3! {
    usage_is_shown_for_one_project_or_all (WINDLASS_PROJECT_MAX_FILES = "7");
    limits_are_set_and_listed;
    rates_of_a_key_are_set_and_listed;
    bad_values_are_refused_with_what_would_be_right;
}

fn json_of(app: &TestApp, arguments: &[&str]) -> Value {
    let done = app.run(&[arguments, &["--json"]].concat());
    assert!(done.status.success(), "{arguments:?}: {done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

async fn usage_is_shown_for_one_project_or_all(app: &TestApp) {
    app.client.file("a file").await;
    app.client.upload(10).await;
    app.stranger().upload(3).await;
    set(app, "default", &["--max-bytes", "1KiB"]);
    let own = json!({"project": "default", "bytes": 16, "pending_uploads": 1, "files": 1, "max_bytes": 1024,
                     "max_pending_uploads": null, "max_files": 7});
    assert_eq!(json_of(app, &["usage", "--project", "default"]), json!([own]));
    let all = json_of(app, &["usage"]);
    assert_eq!((&all[0], &all[1]["project"], &all[1]["bytes"]), (&own, &json!("stranger"), &json!(3)));
    let text = String::from_utf8(app.run(&["usage"]).stdout).unwrap();
    assert!(text.contains("default  16 of 1024 bytes  1 pending uploads  1 of 7 files\n"), "{text}");
}

async fn limits_are_set_and_listed(app: &TestApp) {
    let arguments =
        ["projects", "set", "default", "--max-bytes", "10GiB", "--max-pending-uploads", "100", "--max-files"];
    let set = json_of(app, &[&arguments[..], &["unlimited", "--file-lifetimes", "batch=7d"]].concat());
    assert_eq!((&set["max_bytes"], &set["max_pending_uploads"]), (&json!("10737418240"), &json!("100")));
    assert_eq!((&set["max_files"], &set["file_lifetimes"]), (&json!("unlimited"), &json!("batch=7days")));
    let changed = json_of(app, &["projects", "set", "default", "--max-bytes", "default"]);
    assert_eq!((&changed["max_bytes"], &changed["max_pending_uploads"]), (&json!("default"), &json!("100")));
    assert_eq!(json_of(app, &["projects", "list"])[0], changed);
    let text = String::from_utf8(app.run(&["projects", "list"]).stdout).unwrap();
    assert!(text.contains("max pending uploads 100  max files unlimited  file lifetimes batch=7days"), "{text}");
}

async fn rates_of_a_key_are_set_and_listed(app: &TestApp) {
    let create = ["keys", "create", "--max-requests-per-second", "5", "--max-bytes-per-second", "1MiB"];
    let key = json_of(app, &create);
    assert_eq!((&key["max_requests_per_second"], &key["max_bytes_per_second"]), (&json!("5"), &json!("1048576")));
    let id = key["id"].as_str().unwrap();
    let changed = json_of(app, &["keys", "set", id, "--max-requests-per-second", "unlimited"]);
    assert_eq!(changed["max_requests_per_second"], "unlimited");
    assert_eq!(changed["max_bytes_per_second"], "1048576");
    let text = String::from_utf8(app.run(&["keys", "list"]).stdout).unwrap();
    assert!(text.contains("unlimited requests/s  1048576 bytes/s"), "{text}");
}

async fn bad_values_are_refused_with_what_would_be_right(app: &TestApp) {
    for (wrong, right) in [
        (&["projects", "set", "default"][..], "--max-bytes"),
        (&["projects", "set", "nobody", "--max-files", "1"], "there is no project 'nobody'"),
        (&["projects", "set", "default", "--max-bytes", "10 apples"], "64MiB"),
        (&["projects", "set", "default", "--max-bytes", "-1"], "--max-bytes"),
        (&["projects", "set", "default", "--max-files", "many"], "a whole number"),
        (&["projects", "set", "default", "--max-files", "9223372036854775808"], "a whole number"),
        (&["projects", "set", "default", "--max-pending-uploads", ""], "`unlimited`"),
        (&["projects", "set", "default", "--file-lifetimes", "batch=1m"], "3600"),
        (&["projects", "set", "default", "--max-file-lifetimes", "data=7d"], "not one of"),
        (&["keys", "create", "--max-requests-per-second", "0"], "at least 1"),
        (&["keys", "set", "key_1", "--max-requests-per-second", "5"], "key_1"),
        (&["usage", "--project", "nobody"], "there is no project 'nobody'"),
    ] {
        let done = app.run(wrong);
        let log = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && log.contains(right), "{wrong:?}: '{right}' is not in {log}");
    }
    let wrong = [
        ("WINDLASS_PROJECT_MAX_BYTES", "1GiB"),
        ("WINDLASS_MAX_UPLOAD_BYTES", "2GiB"),
        ("WINDLASS_PROJECT_FILE_LIFETIMES", "batch=2d"),
        ("WINDLASS_PROJECT_MAX_FILE_LIFETIMES", "*=1d"),
    ];
    let done = app.run_with(&wrong, &["config"]);
    let log = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(2), "{log}");
    assert!(log.contains("a project at most 1073741824") && log.contains("lives for 172800 seconds"), "{log}");
}
