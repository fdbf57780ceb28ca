//! Kills during the first start: the schema is created once, and the first key is not lost.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use tempfile::TempDir;
use windlass_engine::failpoints::CrashPoint;

use crate::support::program::{self, Program};
use crate::support::store::Store;
use crate::support::{Client, StoreKind, cluster};

async fn settings() -> (TempDir, Vec<(String, String)>) {
    let data_dir = tempfile::tempdir().unwrap();
    let url = cluster::empty_database().await.url;
    let settings = vec![
        ("DATABASE_URL".to_owned(), url),
        ("WINDLASS_DATA_DIR".to_owned(), data_dir.path().display().to_string()),
        ("WINDLASS_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
    ];
    (data_dir, settings)
}

fn kill_at(point: CrashPoint, settings: &[(String, String)]) {
    let mut armed = settings.to_vec();
    armed.push(("WINDLASS_CRASH_AT".to_owned(), point.name().to_owned()));
    let died = program::run(&armed, &["serve"]);
    assert_eq!(died.status.signal(), Some(9), "'{}' was not reached: {died:?}", point.name());
}

/// Asserts that the next start works, with the key that is in the file.
async fn starts(data_dir: &TempDir, settings: &[(String, String)], shows_the_key: bool) {
    let program = Program::serve(settings, &data_dir.path().join("log"), shows_the_key);
    let key = fs::read_to_string(data_dir.path().join("api-key")).unwrap();
    let client = Client::new(&program.address, key.trim());
    let file = client.file("works").await;
    assert_eq!(client.download(&file).await, b"works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_the_migration_leaves_all_or_nothing_of_the_schema() {
    for point in [CrashPoint::MigrationLocked, CrashPoint::MigrationWritten, CrashPoint::Migrated] {
        let (data_dir, settings) = settings().await;
        kill_at(point, &settings);
        starts(&data_dir, &settings, true).await;
        println!("{:<14} | {:<34} | {:<9} | nothing lost, nothing left", "Serve", point.name(), "-");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_ledger_and_store_are_linked_is_recovered_by_the_next_start() {
    for point in [CrashPoint::StoreNamed, CrashPoint::StoreIdentityWritten, CrashPoint::StoreLinked] {
        for kind in [StoreKind::Directory, StoreKind::Bucket] {
            let Some(store) = Store::new(kind) else { continue };
            let (data_dir, mut settings) = settings().await;
            settings.extend(store.settings());
            kill_at(point, &settings);
            starts(&data_dir, &settings, true).await;
            println!("{:<14} | {:<34} | {kind:<9?} | nothing lost, nothing left", "Serve", point.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_the_first_key_is_created_does_not_lock_the_operator_out() {
    for (point, shown_later) in [(CrashPoint::FirstKeyKept, true), (CrashPoint::FirstKeyCommitted, false)] {
        let (data_dir, settings) = settings().await;
        kill_at(point, &settings);
        starts(&data_dir, &settings, shown_later).await;
        println!("{:<14} | {:<34} | {:<9} | nothing lost, nothing left", "Serve", point.name(), "-");
    }
}
