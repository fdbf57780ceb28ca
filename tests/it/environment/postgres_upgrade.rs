//! A major version upgrade of PostgreSQL: the data is migrated and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

use crate::support::embedded::{Embedded, settings};
use crate::support::program;
use crate::support::tools::{self, pg_major as major};

/// The program directories of an older and a newer major version of PostgreSQL.
struct Versions {
    old: PathBuf,
    new: PathBuf,
}

impl Versions {
    fn find() -> Option<Self> {
        let distribution = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<_> = distribution.map(|it| it.path().join("bin")).chain(tools::pg_bin()).collect();
        found.retain(|it| major(it).is_some());
        found.sort_by_key(|it| major(it));
        let (old, new) = (found.first()?.clone(), found.last()?.clone());
        let both = major(&old) < major(&new);
        if !both {
            eprintln!("skipped: only one major version of PostgreSQL is installed");
        }
        both.then_some(Self { old, new })
    }
}

fn serve(data_dir: &Path, bin: &Path) -> Embedded {
    Embedded::start(data_dir, &[("WINDLASS_PG_BIN", bin.to_str().unwrap())])
}

fn run(data_dir: &Path, bin: &Path, arguments: &[&str]) -> Output {
    program::command(&settings(data_dir)).env("WINDLASS_PG_BIN", bin).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// A data directory of the old version, with one file in the ledger and one in the store.
async fn old_data(versions: &Versions) -> (TempDir, PathBuf, [(String, Vec<u8>); 2]) {
    let outer = tempfile::tempdir().unwrap();
    let data_dir = outer.path().join("a place with spaces");
    let service = serve(&data_dir, &versions.old);
    let (small, large) = (b"small".to_vec(), vec![7; 100_000]);
    let files = [(service.client.file(small.clone()).await, small), (service.client.file(large.clone()).await, large)];
    service.stop();
    (outer, data_dir, files)
}

async fn everything_is_there(data_dir: &Path, bin: &Path, files: &[(String, Vec<u8>)]) {
    let service = serve(data_dir, bin);
    for (file, bytes) in files {
        assert!(service.client.download(file).await == *bytes);
    }
    service.client.file("new").await;
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upgrade_works_as_the_error_message_describes() {
    let Some(versions) = Versions::find() else { return };
    let (_outer, data_dir, files) = old_data(&versions).await;
    let refused = run(&data_dir, &versions.new, &["serve"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("run `windlass upgrade-postgres`"), "{}", text(&refused));

    let moved = run(&data_dir, &versions.new, &["upgrade-postgres", "--from", versions.old.to_str().unwrap()]);
    assert!(moved.status.success(), "{}", text(&moved));
    everything_is_there(&data_dir, &versions.new, &files).await;
    let kept = data_dir.join(format!("postgres.{}", major(&versions.old).unwrap()));
    assert!(kept.join("PG_VERSION").exists() && text(&moved).contains(kept.to_str().unwrap()), "{}", text(&moved));

    let again = run(&data_dir, &versions.new, &["upgrade-postgres"]);
    assert!(again.status.success() && text(&again).contains("already"), "{}", text(&again));
    let back = run(&data_dir, &versions.old, &["upgrade-postgres"]);
    assert!(!back.status.success() && text(&back).contains("which is newer"), "{}", text(&back));
    fs::remove_dir_all(kept).unwrap();
    everything_is_there(&data_dir, &versions.new, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upgrade_can_be_repeated() {
    let Some(versions) = Versions::find() else { return };
    let (_outer, data_dir, files) = old_data(&versions).await;
    let from = ["upgrade-postgres", "--from", versions.old.to_str().unwrap()];
    // Whenever the upgrade is killed, the old cluster stays in place and usable.
    for pause in [500, 1200, 2000] {
        let upgrade = program::command(&settings(&data_dir)).env("WINDLASS_PG_BIN", &versions.new).args(from).spawn();
        let mut upgrade = upgrade.unwrap();
        std::thread::sleep(std::time::Duration::from_millis(pause));
        upgrade.kill().unwrap();
        upgrade.wait().unwrap();
    }
    if data_dir.join(format!("postgres.{}", major(&versions.old).unwrap())).exists() {
        // The upgrade completed before it was killed.
        return everything_is_there(&data_dir, &versions.new, &files).await;
    }
    everything_is_there(&data_dir, &versions.old, &files).await;

    // A kill between the two renames: no command mistakes this for a first start.
    let aside = data_dir.join(format!("postgres.{}", major(&versions.old).unwrap()));
    fs::rename(data_dir.join("postgres"), &aside).unwrap();
    let refused = run(&data_dir, &versions.new, &["keys", "list"]);
    assert!(!refused.status.success() && text(&refused).contains("upgrade-postgres"), "{}", text(&refused));
    assert!(!data_dir.join("postgres").exists());
    let moved = run(&data_dir, &versions.new, &from);
    assert!(moved.status.success(), "{}", text(&moved));
    everything_is_there(&data_dir, &versions.new, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_cannot_be_done_changes_nothing() {
    let Some(versions) = Versions::find() else { return };
    let (_outer, data_dir, files) = old_data(&versions).await;
    let missing = run(&data_dir, &versions.new, &["upgrade-postgres", "--from", "/nowhere"]);
    assert!(!missing.status.success() && text(&missing).contains("was not found"), "{}", text(&missing));
    let service = serve(&data_dir, &versions.old);
    let busy = run(&data_dir, &versions.new, &["upgrade-postgres"]);
    assert!(!busy.status.success() && text(&busy).contains("another windlass process"), "{}", text(&busy));
    service.stop();
    everything_is_there(&data_dir, &versions.old, &files).await;
}
