//! A ledger and a store that do not belong together are never used together.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::Duration;

use sqlx::Executor as _;

use crate::support::audit::move_clock;
use crate::support::cluster::{self, Database};
use crate::support::program::Program;
use crate::support::s3_faults::{Fault, FaultyS3, Rule};
use crate::support::store::{IDENTITY, Store};
use crate::support::{Client, OBJECTS_ONLY, StoreKind, TestApp, eventually, program, tools};

crate::on_every_store! {
    objects only:
    a_store_of_another_ledger_is_refused_by_every_command_that_uses_it;
    a_store_without_its_identity_is_refused_until_it_is_restored;
    a_ledger_and_a_store_of_an_older_release_are_linked_if_they_match;
    linking_them_explicitly_creates_a_new_identity;
    a_repair_that_would_delete_much_of_the_store_deletes_nothing;
    eight_processes_at_once_link_a_new_ledger_and_a_new_store;
}

/// An unprivileged user.
const NOBODY: u32 = 65534;

/// Every command that modifies the store or checks it for damage.
const COMMANDS: [&[&str]; 3] =
    [&["serve"], &["sweep"], &["fsck", "--repair", "--older-than=0s", "--max-deleted-share=100"]];

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asserts that each command fails with an error that contains these words and the command to run next.
#[track_caller]
fn is_refused(settings: &[(String, String)], words: &str) {
    for command in COMMANDS {
        // A `serve` that is not refused would run forever.
        let output = program::command_under(&["timeout", "60"], settings).args(command).output().unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {printed}");
        assert!(printed.contains(words) && printed.contains("windlass store link"), "{command:?}: {printed}");
    }
}

/// The settings for running Windlass with this app's store and another database.
fn on_another_ledger(app: &TestApp, database: &Database) -> Vec<(String, String)> {
    app.with(&[("DATABASE_URL", &database.url), ("WINDLASS_LISTEN", "127.0.0.1:0")])
}

async fn a_store_of_another_ledger_is_refused_by_every_command_that_uses_it(app: &TestApp) {
    let file = app.client.file("kept").await;
    let other = cluster::database().await;
    is_refused(&on_another_ledger(app, &other), "belongs to another database");
    // Also if that ledger is linked to another store.
    let Some(its_store) = Store::new(app.store.kind()) else { return };
    let linked = app.with(&[("DATABASE_URL", &other.url)]).into_iter().chain(its_store.settings()).collect::<Vec<_>>();
    assert!(program::run(&linked, &["sweep"]).status.success());
    is_refused(&on_another_ledger(app, &other), "belongs to another database");
    assert_eq!(app.client.download(&file).await, b"kept");
}

async fn a_store_without_its_identity_is_refused_until_it_is_restored(app: &TestApp) {
    let (file, upload) = (app.client.file("kept").await, app.client.upload(5).await);
    let identity = app.store.read(IDENTITY).await;
    app.store.remove(IDENTITY).await;
    is_refused(&app.with(&[("WINDLASS_LISTEN", "127.0.0.1:0")]), "has no identity");
    eventually("it is not ready", async || app.client.get("/readyz").await.status == 503).await;
    refuses_writes(app, &upload, &file).await;
    app.store.put(IDENTITY, identity.leak()).await;
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
    let part = app.client.part(&upload, "bytes").await;
    app.client.complete(&upload, &[&part]).await.ok();
    assert_eq!(app.client.download(&file).await, b"kept");
}

/// Asserts that writes are refused with a 503 and a `Retry-After` header.
async fn refuses_writes(app: &TestApp, upload: &str, file: &str) {
    for answer in [
        app.client.begin_upload(5).await,
        app.client.add_part(upload, "bytes").await,
        app.client.create_file("user_data", "bytes").await,
        app.client.complete(upload, &[]).await,
        app.client.delete(&format!("/v1/files/{file}")).await,
    ] {
        answer.error(503, None);
        assert!(answer.header("retry-after").is_some());
    }
}

async fn a_ledger_and_a_store_of_an_older_release_are_linked_if_they_match(app: &TestApp) {
    let file = app.client.file("kept").await;
    // An empty ledger and a store with objects.
    app.store.remove(IDENTITY).await;
    let other = cluster::database().await;
    is_refused(&on_another_ledger(app, &other), "references none of them");
    // A ledger with objects and an empty store.
    app.pool.execute("delete from store").await.unwrap();
    let Some(empty) = Store::new(app.store.kind()) else { return };
    let elsewhere: Vec<_> =
        app.with(&[("WINDLASS_LISTEN", "127.0.0.1:0")]).into_iter().chain(empty.settings()).collect();
    is_refused(&elsewhere, "has none of them");
    // A ledger and a store that match.
    app.kill_and_restart();
    assert_eq!(app.client.download(&file).await, b"kept");
    assert!(app.run(&["sweep"]).status.success());
    // A store that is already linked is not taken over by an unlinked ledger.
    app.pool.execute("delete from store").await.unwrap();
    is_refused(&app.with(&[("WINDLASS_LISTEN", "127.0.0.1:0")]), "belongs to another database");
    assert!(app.run(&["store", "link", "--yes"]).status.success());
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
}

async fn linking_them_explicitly_creates_a_new_identity(app: &TestApp) {
    let file = app.client.file("kept").await;
    let before = app.store.read(IDENTITY).await;
    for arguments in [&["store", "show"][..], &["store", "link"]] {
        let printed = text(&app.run(arguments));
        assert!(
            printed.contains("in the store: 1 of 1 sampled") && printed.contains("in the database: 1 of 1"),
            "{printed}"
        );
        assert_eq!(app.store.read(IDENTITY).await, before, "{arguments:?}");
    }
    app.store.put(IDENTITY, "what no release has written").await;
    assert_eq!(app.run(&["sweep"]).status.code(), Some(1));
    assert!(app.run(&["store", "link", "--yes"]).status.success());
    let after = app.store.read(IDENTITY).await;
    assert_ne!(after, before, "a copy of the old ledger still matches");
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
    assert!(app.run(&["sweep"]).status.success());
    assert_eq!(app.client.download(&file).await, b"kept");
}

async fn a_repair_that_would_delete_much_of_the_store_deletes_nothing(app: &TestApp) {
    let mut files = Vec::new();
    for n in 0..10 {
        files.push(app.client.file(format!("file {n}")).await);
    }
    // An older copy of the ledger, without the last two files.
    let newer: Vec<_> = files[8..].iter().map(|it| format!("'{}'", it.replace("file-", ""))).collect();
    let newer = newer.join(", ");
    move_clock(
        &app.pool,
        &format!(
            "delete from part where upload_id in ({newer}); delete from file where id in ({newer});
             delete from upload where id in ({newer});
             update usage_counter set bytes = bytes - 12, files = files - 2
             where shard = (select min(shard) from usage_counter)"
        ),
    )
    .await;
    let refused = app.run(&["fsck", "--repair", "--older-than=0s"]);
    let printed = text(&refused);
    assert_eq!(refused.status.code(), Some(3), "{printed}");
    assert!(printed.contains("findings: 2, repaired: 0"), "{printed}");
    assert!(printed.contains("2 of 10 objects (12 of 60 bytes) would be deleted"), "{printed}");
    assert_eq!(app.store.list().await.len(), 10);
    let repaired = app.run(&["fsck", "--repair", "--older-than=0s", "--max-deleted-share=20"]);
    // Google's unfinished multipart uploads are not listed, which the exit status reports.
    let all_was_seen = app.store.kind() != StoreKind::Google;
    assert_eq!(repaired.status.code(), Some(if all_was_seen { 0 } else { 4 }), "{}", text(&repaired));
    assert_eq!(app.store.list().await.len(), 8);
}

async fn eight_processes_at_once_link_a_new_ledger_and_a_new_store(app: &TestApp) {
    let sweep_all = |settings: Vec<Vec<(String, String)>>| {
        thread::scope(|scope| {
            let runs: Vec<_> = settings.iter().map(|it| scope.spawn(move || program::run(it, &["sweep"]))).collect();
            runs.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        })
    };
    let Some(store) = Store::new(app.store.kind()) else { return };
    let settings = |database: &Database| -> Vec<_> {
        app.with(&[("DATABASE_URL", &database.url)]).into_iter().chain(store.settings()).collect()
    };
    let ledger = cluster::database().await;
    for swept in sweep_all(vec![settings(&ledger); 8]) {
        assert!(swept.status.success(), "{}", text(&swept));
    }
    // If several ledgers race for a store, exactly one gets it.
    let Some(store) = Store::new(app.store.kind()) else { return };
    let settings = |database: &Database| -> Vec<_> {
        app.with(&[("DATABASE_URL", &database.url)]).into_iter().chain(store.settings()).collect()
    };
    let mut ledgers = Vec::new();
    for _ in 0..4 {
        ledgers.push(settings(&cluster::database().await));
    }
    let swept = sweep_all(ledgers);
    let linked = swept.iter().filter(|it| it.status.success()).count();
    assert_eq!(linked, 1, "{:?}", swept.iter().map(text).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn if_a_store_ignores_conditional_writes_one_of_two_ledgers_gets_it() {
    // moto ignores the precondition that Google's client sends.
    let Some(store) = Store::new(StoreKind::Google) else { return };
    let mut settings = Vec::new();
    for _ in 0..2 {
        let ledger = cluster::database().await.url;
        let its_settings = [store.settings(), vec![("DATABASE_URL".to_owned(), ledger)]].concat();
        assert!(program::run(&its_settings, &["migrate"]).status.success());
        settings.push(its_settings);
    }
    let (mut slow, quick) = (settings.remove(0), settings.remove(0));
    let endpoint = slow.iter_mut().find(|it| it.0 == "GOOGLE_BASE_URL").unwrap();
    let faults = FaultyS3::before(&endpoint.1);
    endpoint.1.clone_from(&faults.endpoint);
    let fault = Fault::IsLate(Duration::from_millis(500));
    // Google's client encodes the other characters of the name.
    faults.set(Rule { method: "PUT", about: "windlass%2Dstore", after: 0, times: 1, fault });
    let slow = thread::spawn(move || program::run(&slow, &["sweep"]));
    eventually("the slow sweep has found no identity and writes its own", async || faults.is_used_up()).await;
    let quick = program::run(&quick, &["sweep"]);
    let slow = slow.join().unwrap();
    assert!(slow.status.success(), "{}", text(&slow));
    assert!(!quick.status.success() && text(&quick).contains("belongs to another database"), "{}", text(&quick));
}

/// A directory store whose volume can be unmounted.
async fn app_on_a_volume() -> (TestApp, Volume) {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let path = app.store.directory().unwrap().to_owned();
    let volume = Volume { elsewhere: path.with_extension("volume"), path };
    (app, volume)
}

/// The store's directory, renamed and replaced to simulate unmounting.
struct Volume {
    path: PathBuf,
    elsewhere: PathBuf,
}

impl Volume {
    /// Leaves an empty directory at the mount point.
    fn unmount(&self) {
        fs::rename(&self.path, &self.elsewhere).unwrap();
        fs::create_dir(&self.path).unwrap();
    }

    fn mount(&self) {
        fs::remove_dir_all(&self.path).unwrap();
        fs::rename(&self.elsewhere, &self.path).unwrap();
    }
}

fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmounted_volume_fails_startup_and_nothing_is_created_in_its_place() {
    let (app, volume) = app_on_a_volume().await;
    let file = app.client.file("kept").await;
    app.program(Program::kill);
    volume.unmount();
    let settings = app.with(&[("WINDLASS_LISTEN", "127.0.0.1:0")]);
    is_refused(&settings, "has no identity");
    assert!(is_empty(&volume.path));
    fs::remove_dir(&volume.path).unwrap();
    for command in COMMANDS {
        let output = program::run(&settings, command);
        assert!(text(&output).contains("is its volume mounted?"), "{}", text(&output));
        assert!(!volume.path.exists(), "{command:?}");
    }
    fs::create_dir(&volume.path).unwrap();
    volume.mount();
    app.kill_and_restart();
    assert_eq!(app.client.download(&file).await, b"kept");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_unmounted_while_serving_accepts_no_write_and_loses_no_object() {
    let (app, volume) = app_on_a_volume().await;
    let (file, deleted) = (app.client.file("kept").await, app.client.file("deleted").await);
    let upload = app.client.upload(5).await;
    app.client.delete(&format!("/v1/files/{deleted}")).await.ok();
    let objects = app.store.list().await;
    app.let_time_pass("30 minutes").await;
    volume.unmount();
    // The directory under the mount point may look like a store.
    for shard in 0..=u8::MAX {
        fs::create_dir_all(volume.path.join(format!("parts/{shard:02x}"))).unwrap();
    }
    // Immediately, before any probe has detected it.
    app.client.add_part(&upload, "bytes").await.error(503, None);
    app.client.create_file("user_data", "bytes").await.error(503, None);
    app.client.get(&format!("/v1/files/{file}/content")).await.error(503, None);
    let garbage = "select count(*) from part where state = 'garbage' and last_error is null";
    let garbage: i64 = sqlx::query_scalar(garbage).fetch_one(&app.pool).await.unwrap();
    assert!(garbage > 0);
    eventually("it is not ready", async || app.client.get("/readyz").await.status == 503).await;
    refuses_writes(&app, &upload, &file).await;
    assert_eq!(app.run(&["sweep"]).status.code(), Some(1), "objects on the unmounted volume were counted as deleted");
    assert!(app.store.list().await.is_empty());
    volume.mount();
    assert_eq!(app.store.list().await, objects, "an object is missing");
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
    app.client.part(&upload, "bytes").await;
    assert_eq!(app.client.download(&file).await, b"kept");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_can_be_managed_while_the_store_is_unavailable() {
    let (app, volume) = app_on_a_volume().await;
    volume.unmount();
    let made = app.run(&["keys", "create", "--name", "made meanwhile"]);
    assert!(made.status.success(), "{}", text(&made));
    let key = String::from_utf8(made.stdout).unwrap();
    assert!(text(&app.run(&["keys", "list"])).contains("made meanwhile"));
    Client::new(&app.client.address, key.trim()).get("/v1/files").await.ok();
    volume.mount();
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_below_an_unreadable_one_can_be_a_store() {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("store");
    fs::create_dir(&path).unwrap();
    // Other users can traverse the outer directory but not list it.
    if chown(&path, Some(NOBODY), Some(NOBODY)).is_err() {
        eprintln!("skipped: only root may change the owner of a directory");
        return;
    }
    fs::set_permissions(outer.path(), Permissions::from_mode(0o711)).unwrap();
    let settings = [
        ("DATABASE_URL".to_owned(), cluster::database().await.url),
        ("WINDLASS_STORE".to_owned(), format!("file://{}", path.display())),
    ];
    let id = NOBODY.to_string();
    let as_nobody = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let swept = program::command_under(&as_nobody, &settings).arg("sweep").output().unwrap();
    assert!(swept.status.success(), "{}", text(&swept));
    assert!(path.join(IDENTITY).exists());
    // The same, if the directory belongs to another user.
    let other = outer.path().join("other");
    fs::create_dir(&other).unwrap();
    let settings = [
        ("DATABASE_URL".to_owned(), cluster::database().await.url),
        ("WINDLASS_STORE".to_owned(), format!("file://{}", other.display())),
    ];
    let refused = text(&program::command_under(&as_nobody, &settings).arg("sweep").output().unwrap());
    assert!(refused.contains(&format!("(user {id}, group {id}) has no write access")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_store_without_its_empty_directories_works() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let file = app.client.file("kept").await;
    for shard in fs::read_dir(app.store.directory().unwrap().join("parts")).unwrap() {
        fs::remove_dir(shard.unwrap().path()).ok();
    }
    app.kill_and_restart();
    for n in 0..8 {
        app.client.file(format!("file {n}")).await;
    }
    assert_eq!(app.client.download(&file).await, b"kept");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_cannot_sync_directories_is_reported() {
    if tools::program("strace").is_none() {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL".to_owned(), cluster::database().await.url),
        ("WINDLASS_STORE".to_owned(), format!("file://{}", outer.path().join("store").display())),
    ];
    let refusing = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EINVAL"];
    let swept = program::command_under(&refusing, &settings).arg("sweep").output().unwrap();
    assert_eq!(swept.status.code(), Some(1));
    assert!(text(&swept).contains("its file system cannot sync directories"), "{}", text(&swept));
}
