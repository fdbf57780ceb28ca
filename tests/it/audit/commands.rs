//! Acts of the operator are recorded in their transactions.

use serde_json::{Value, json};

use super::{assert_is, events, left_by, run};
use crate::support::TestApp;

crate::on_a_directory_and_s3! {
    acts_of_the_operator_are_recorded (WINDLASS_AUDIT = "on");
    commands_that_only_show_something_are_not_recorded (WINDLASS_AUDIT = "on");
}

async fn acts_of_the_operator_are_recorded(app: &TestApp) {
    let at_start = events(app).await;
    assert_is(&at_start[0], "project.create", "ok", None, None);
    assert_eq!((&at_start[1]["action"], &at_start[1]["project"]), (&json!("key.create"), &json!("default")));
    let (left, key) = left_by(app, async { run(app, &["keys", "create", "--project", "team", "--json"]) }).await;
    let key = serde_json::from_str::<Value>(&key).unwrap()["id"].as_str().unwrap().to_owned();
    assert_is(&left[0], "project.create", "ok", None, None);
    assert_is(&left[1], "key.create", "ok", None, Some(&key));
    assert!(left.iter().all(|it| it["project"] == "team"), "{left:?}");
    for (command, action, object) in [
        (&["keys", "set", &key, "--max-requests-per-second", "9"][..], "key.change", Some(&*key)),
        (&["keys", "revoke", &key], "key.revoke", Some(&key)),
        (&["projects", "set", "team", "--max-files", "9"], "project.change", None),
        (&["projects", "create", "other"], "project.create", None),
        (&["signed-urls", "rotate-secret"], "signed_url.rotate_secret", None),
    ] {
        let (left, _) = left_by(app, async { run(app, command) }).await;
        assert_eq!(left.len(), 1, "{command:?}: {left:?}");
        assert_is(&left[0], action, "ok", None, object);
        assert_eq!((&left[0]["via"], &left[0]["key_id"]), (&json!("command_line"), &Value::Null));
        let (user, host) = left[0]["operator"].as_str().unwrap().split_once('@').unwrap();
        assert!(!user.is_empty() && !host.is_empty(), "{user}@{host}");
    }
    let (left, _) = left_by(app, async { run(app, &["projects", "create", "other"]) }).await;
    assert_eq!(left, Vec::<Value>::new(), "it exists already");
}

async fn commands_that_only_show_something_are_not_recorded(app: &TestApp) {
    let commands = [&["keys", "list"][..], &["projects", "list"], &["usage"], &["audit"], &["sweep"]];
    let (left, _) = left_by(app, async { commands.map(|it| run(app, it)) }).await;
    assert_eq!(left, Vec::<Value>::new());
    let unknown = app.run(&["keys", "revoke", "key_0192f0c1a2b37c4d8e5f60718293a4b5"]);
    assert!(!unknown.status.success());
    assert_eq!(events(app).await.len(), 2, "nothing was revoked");
}
