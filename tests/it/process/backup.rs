//! A backup taken while the service runs, and a restore, in the order that `docs/operations.md` describes.

use std::fs;
use std::process::Command;

use crate::support::{StoreKind, TestApp, cluster, program, tools};

/// Runs one of PostgreSQL's client programs; `None` if it is not installed.
fn postgres_program(name: &str, arguments: &[&str]) -> Option<()> {
    let program = tools::pg_bin().map(|it| it.join(name)).filter(|it| it.exists()).or_else(|| tools::program(name))?;
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_the_service_runs_is_restored_whole() {
    // Parts of up to ten bytes are in the ledger.
    let settings = [("WINDLASS_DELETION_GRACE", "2d"), ("WINDLASS_LEDGER_PART_BYTES", "10")];
    let app = TestApp::start(StoreKind::Directory, &settings).await.unwrap();
    let kept = app.client.file("a file").await;
    let kept_in_the_store = app.client.file("a file in the store").await;
    let deleted_meanwhile = app.client.file("deleted between the two copies").await;
    let upload = app.client.upload(6).await;
    let part = app.client.part(&upload, "a part").await;

    // First, the ledger is copied.
    let dump = app.data_dir.path().join("ledger.dump");
    let dump = dump.to_str().unwrap();
    let dumped = ["--format=custom", "--file", dump, app.setting("DATABASE_URL")];
    let Some(()) = postgres_program("pg_dump", &dumped) else { return };
    // The service keeps running: a file is deleted, an upload is cancelled, the sweeper runs.
    app.client.delete(&format!("/v1/files/{deleted_meanwhile}")).await.ok();
    app.client.cancel(&upload).await.ok();
    app.let_time_pass("3 hours").await;
    app.sweep();
    let later = app.client.file("made after the ledger was copied").await;
    // Then the store is copied.
    let copy = app.data_dir.path().join("objects.copy");
    let copied = Command::new("cp").args(["-a", app.store.directory().unwrap().to_str().unwrap()]).arg(&copy).status();
    assert!(copied.unwrap().success());

    // Restore into an empty database and another store.
    let database = cluster::empty_database().await;
    postgres_program("pg_restore", &["--dbname", &database.url, dump]).unwrap();
    let mut settings = app.with(&[("DATABASE_URL", &database.url), ("WINDLASS_LISTEN", "127.0.0.1:0")]);
    settings.push(("WINDLASS_STORE".to_owned(), format!("file://{}", copy.display())));
    let run = |arguments: &[&str]| {
        let output = program::run(&settings, arguments);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, text) = run(&["fsck", "--deep"]);
    assert_eq!(status, Some(3), "{text}");
    assert!(
        text.contains("findings: 1") && text.contains("unknown: "),
        "only what was written after the copy of the ledger: {text}"
    );
    let repair = ["fsck", "--deep", "--repair", "--older-than=0s"];
    assert_eq!(run(&repair).0, Some(3), "the share of the store is larger than --max-deleted-share");
    assert_eq!(run(&[&repair[..], &["--max-deleted-share=50"]].concat()).0, Some(0));
    assert_eq!(run(&["fsck", "--deep"]).0, Some(0));

    let restored = program::Program::serve(&settings, &app.data_dir.path().join("log"), false);
    let client = crate::support::Client::new(&restored.address, &app.client.key);
    assert_eq!(client.download(&kept).await, b"a file");
    assert_eq!(client.download(&kept_in_the_store).await, b"a file in the store");
    assert_eq!(client.download(&deleted_meanwhile).await, b"deleted between the two copies");
    client.get(&format!("/v1/files/{later}")).await.error(404, Some("id"));
    let completed = client.complete(&upload, &[&part]).await.ok();
    assert_eq!(client.download(completed["file"]["id"].as_str().unwrap()).await, b"a part");
    drop(restored);
    fs::remove_dir_all(&copy).unwrap();
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}
