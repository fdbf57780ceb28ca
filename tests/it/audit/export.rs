//! `windlass audit`, and the deletion of old events.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use super::{events, own_key, run};
use crate::support::TestApp;
use crate::support::audit::move_clock;

crate::on_a_directory_and_s3! {
    events_are_exported_in_their_order_and_once (WINDLASS_AUDIT = "on");
    an_export_can_be_limited (WINDLASS_AUDIT = "on");
    the_table_is_aligned_and_shows_no_control_characters (WINDLASS_AUDIT = "on");
    wrong_options_are_refused_with_what_would_be_right (WINDLASS_AUDIT = "on");
    events_are_deleted_when_they_are_old (WINDLASS_AUDIT = "on");
    a_process_without_the_setting_deletes_no_event;
}

/// The exported events.
fn exported(app: &TestApp, options: &[&str]) -> Vec<Value> {
    let text = run(app, &[&["audit", "--json"], options].concat());
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// Adds events of an operator; `at` is SQL for the time of the number `n`.
async fn add(app: &TestApp, count: u32, at: &str) {
    let insert = format!(
        "insert into audit_event (id, at, action, outcome, via, operator, project)
         select gen_random_uuid(), {at}, 'project.change', 'ok', 'command_line', 'root@host', 'p-' || n
         from generate_series(1, {count}) n"
    );
    app.pool.execute(AssertSqlSafe(insert)).await.unwrap();
}

async fn events_are_exported_in_their_order_and_once(app: &TestApp) {
    // More than two pages, and many at the same time.
    add(app, 4100, "now() - n / 100 * interval '1 second'").await;
    app.client.file("some bytes").await;
    let all = exported(app, &[]);
    let recorded = events(app).await;
    assert_eq!(all.len(), recorded.len());
    let ids = |events: &[Value]| events.iter().map(|it| it["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&all), ids(&recorded));
    assert_eq!(exported(app, &["--project", "p-1"]).len(), 1, "a page without a match is not the end");
    assert_eq!(exported(app, &["--project", "nobody"]), Vec::<Value>::new());
}

async fn an_export_can_be_limited(app: &TestApp) {
    let client = &app.client;
    let upload = client.upload(1).await;
    let part = client.part(&upload, "a").await;
    client.complete(&upload, &[&part]).await.ok();
    let file = upload.replace("upload_", "file-");
    client.download(&file).await;
    app.stranger().get("/v1/files").await.ok();
    let actions = |options: &[&str]| -> Vec<String> {
        exported(app, options).iter().map(|it| it["action"].as_str().unwrap().to_owned()).collect()
    };
    let of_the_file = ["upload.create", "upload.complete", "file.read"];
    assert_eq!(actions(&["--object", &file]), of_the_file);
    assert_eq!(actions(&["--object", &upload]), of_the_file);
    assert_eq!(actions(&["--action", "file.read"]), ["file.read"]);
    assert_eq!(actions(&["--project", "stranger", "--action", "file.list"]), ["file.list"]);
    let key = format!("key_{}", own_key(app).await.replace('-', ""));
    assert_eq!(actions(&["--key", &key]), of_the_file);
    let created = exported(app, &["--object", &key]);
    assert_eq!((created.len(), &created[0]["action"]), (1, &json!("key.create")));
    let [first, .., last] = &exported(app, &["--object", &file])[..] else { panic!("there are several") };
    let [first, last] = [first, last].map(|it| it["at"].as_str().unwrap().to_owned());
    assert_eq!(actions(&["--since", &first, "--until", &last]), of_the_file[..2]);
    assert_eq!(actions(&["--since", &last, "--object", &file]), of_the_file[2..]);
    move_clock(&app.pool, "update audit_event set at = at - interval '2 hours' where action = 'upload.create'").await;
    assert_eq!(actions(&["--since", "1h", "--object", &file]), of_the_file[1..]);
    assert_eq!(actions(&["--until", "1h"]), ["upload.create"]);
}

async fn the_table_is_aligned_and_shows_no_control_characters(app: &TestApp) {
    let file = app.client.file("some bytes").await;
    let insert = "insert into audit_event (id, action, outcome, via, operator, project)
                  values (gen_random_uuid(), 'key.create', 'ok', 'command_line', E'root@\\x1b[2J', 'default')";
    app.pool.execute(insert).await.unwrap();
    let text = run(app, &["audit"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), events(app).await.len() + 1);
    let column = |name: &str| lines[0].find(name).unwrap();
    let of_the_file = lines.iter().find(|it| it.contains("file.create")).unwrap();
    for (name, value) in [
        ("ACTION", "file.create "),
        ("OUTCOME", "ok 200 "),
        ("PROJECT", "default "),
        ("OBJECT", &file),
        ("WHO", "key_"),
    ] {
        assert!(of_the_file[column(name)..].starts_with(value), "{name}: {of_the_file}");
    }
    assert!(!text.contains('\u{1b}') && text.contains("root@\\u{1b}[2J"), "{text}");
}

async fn wrong_options_are_refused_with_what_would_be_right(app: &TestApp) {
    for (options, right) in [
        (&["--since", "yesterday"][..], "such as 24h or 7d"),
        (&["--until", "2026-11-27"], "2026-11-27T09:00:00Z"),
        (&["--action", "file.reed"], "file.read, file.delete"),
        (&["--key", "wl-a-key"], "key_"),
        (&["--object", "part_0192f0c1a2b37c4d8e5f60718293a4b5"], "file-…"),
        (&["--project", "a b"], "a project's name has"),
        (&["--since", "1h", "--until", "2h"], "must be before --until"),
    ] {
        let done = app.run(&[&["audit"], options].concat());
        let error = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && error.contains(right), "{options:?}: {error}");
        assert!(!error.contains("wl-a-key") || options[0] == "--key", "{error}");
    }
}

async fn events_are_deleted_when_they_are_old(app: &TestApp) {
    // More than a batch.
    add(app, 2100, "now() - interval '89 days' - n * interval '1 minute'").await;
    let kept = sqlx::query_scalar::<_, i64>("select count(*) from audit_event where at > now() - interval '90 days'");
    let kept = kept.fetch_one(&app.pool).await.unwrap();
    assert!((1440..2100).contains(&kept), "{kept}");
    assert!(app.sweep().contains("rows forgotten: 6"), "some are older than 90 days");
    assert_eq!(events(app).await.len(), usize::try_from(kept).unwrap());
    let done = app.run_with(&[("WINDLASS_AUDIT_RETENTION", "1h")], &["sweep"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(events(app).await.len(), 2, "those of the start are new");
}

async fn a_process_without_the_setting_deletes_no_event(app: &TestApp) {
    add(app, 3, "now() - interval '400 days'").await;
    app.sweep();
    assert_eq!(events(app).await.len(), 3);
}
