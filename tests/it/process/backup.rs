//! A backup, taken while the service works, and a restore, in the order that `docs/operations.md` says.

use std::fs;
use std::process::Command;

use crate::support::{StoreKind, TestApp, cluster, program, tools};

/// Runs one of PostgreSQL's own programs; nothing where it is not installed.
fn postgres_program(name: &str, arguments: &[&str]) -> Option<()> {
    let program = tools::pg_bin().map(|it| it.join(name)).filter(|it| it.exists()).or_else(|| tools::program(name))?;
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_while_the_service_worked_is_restored_whole() {
    // What has up to ten bytes is in the ledger.
    let settings = [("WINDLASS_DELETION_GRACE", "2d"), ("WINDLASS_LEDGER_PART_BYTES", "10")];
    let app = TestApp::start(StoreKind::Directory, &settings).await.unwrap();
    let kept = app.client.file("a file").await;
    let kept_in_the_store = app.client.file("a file in the store").await;
    let deleted_meanwhile = app.client.file("deleted between the two copies").await;
    let upload = app.client.upload(6).await;
    let part = app.client.part(&upload, "a part").await;

    // First the ledger…
    let dump = app.data_dir.path().join("ledger.dump");
    let dump = dump.to_str().unwrap();
    let dumped = ["--format=custom", "--file", dump, app.setting("DATABASE_URL")];
    let Some(()) = postgres_program("pg_dump", &dumped) else { return };
    // …while the service goes on: files are deleted, an upload is given up, the sweeper sweeps…
    app.client.delete(&format!("/v1/files/{deleted_meanwhile}")).await.ok();
    app.client.cancel(&upload).await.ok();
    app.let_time_pass("3 hours").await;
    app.sweep();
    let later = app.client.file("made after the ledger was copied").await;
    // …then the store.
    let copy = app.data_dir.path().join("objects.copy");
    let copied = Command::new("cp").args(["-a", app.store.directory().unwrap().to_str().unwrap()]).arg(&copy).status();
    assert!(copied.unwrap().success());

    // The restore: into an empty database, and another store.
    let database = cluster::empty_database().await;
    postgres_program("pg_restore", &["--dbname", &database.url, dump]).unwrap();
    let mut settings = app.with(&[("DATABASE_URL", &database.url), ("WINDLASS_LISTEN", "127.0.0.1:0")]);
    settings.push(("WINDLASS_STORE".to_owned(), format!("file://{}", copy.display())));
    let run = |arguments: &[&str]| {
        let output = program::run(&settings, arguments);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, said) = run(&["fsck", "--deep"]);
    assert_eq!(status, Some(3), "{said}");
    assert!(
        said.contains("findings: 1") && said.contains("unknown: "),
        "only what came after the ledger's copy: {said}"
    );
    let repair = ["fsck", "--deep", "--repair", "--older-than=0s"];
    assert_eq!(run(&repair).0, Some(3), "it is more of this store than is deleted without a word");
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
