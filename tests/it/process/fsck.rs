//! `windlass fsck` finds every mismatch between ledger and store, and deletes only what has no row.

use std::process::Output;

use crate::support::audit::move_clock;
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp};

crate::on_every_store! {
    objects only:
    a_consistent_ledger_and_store_are_clean_even_while_a_part_is_received;
    a_missing_object_is_found;
    an_object_of_the_wrong_size_is_found;
    a_damaged_object_is_found_by_reading_it;
    an_object_without_a_row_is_deleted_only_by_a_repair_and_if_old_enough;
    an_unfinished_multipart_upload_without_a_row_is_aborted_by_a_repair;
    a_part_in_the_ledger_is_verified_there_and_has_no_object (WINDLASS_LEDGER_PART_BYTES = "4096");
    foreign_objects_and_other_prefixes_are_left_alone;
}

/// Runs `windlass fsck`. Returns its exit status and its standard output.
fn fsck(app: &TestApp, options: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = app.run(&[&["fsck"], options].concat());
    assert!(stderr.is_empty() || !String::from_utf8_lossy(&stderr).contains("panicked"), "{stderr:?}");
    let (status, report) = (status.code().unwrap(), String::from_utf8(stdout).unwrap());
    if app.store.kind() != StoreKind::Google {
        return (status, report);
    }
    // Google's unfinished uploads cannot be listed. This is always reported, and is exit status 4 if all else is fine.
    assert_ne!(status, 0, "{report}");
    let unseen = "not checked: the store does not list incomplete multipart uploads: not supported for gs://\n";
    assert_eq!(report.matches(unseen).count(), 1, "{report}");
    let report = report.replace(unseen, "").replace(", not checked: incomplete multipart uploads\n", "\n");
    (if status == 4 { 0 } else { status }, report)
}

/// A File of one Part, and the name of its object.
async fn file(app: &TestApp, bytes: &[u8]) -> (String, String) {
    let before = app.store.list().await;
    let file = app.client.file(bytes).await;
    let object = app.store.list().await.into_iter().find(|it| !before.contains(it)).unwrap().0;
    (file, object)
}

async fn delete(app: &TestApp, file: &str) {
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
}

async fn a_consistent_ledger_and_store_are_clean_even_while_a_part_is_received(app: &TestApp) {
    app.client.file("a file").await;
    let deleted = app.client.file("deleted, not collected").await;
    delete(app, &deleted).await;
    let upload = app.client.upload(8).await;
    app.client.part(&upload, "a part").await;
    sqlx::query("insert into part (id, upload_id) values (gen_random_uuid(), $1::uuid)")
        .bind(upload.replace("upload_", ""))
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(fsck(app, &["--deep"]), (0, "objects: 3, stored parts: 2, findings: 0, repaired: 0\n".to_owned()));
    app.client.cancel(&upload).await.ok();
}

async fn a_missing_object_is_found(app: &TestApp) {
    let (lost, object) = file(app, b"soon gone").await;
    app.client.file("stays").await;
    app.store.remove(&object).await;
    let (status, report) = fsck(app, &["--repair", "--older-than=0s"]);
    assert_eq!(status, 3);
    assert!(report.contains(&format!("missing: {}", &object["parts/00/".len()..])), "{report}");
    assert!(report.contains(&lost.replace("file-", "upload_")), "the upload is not named: {report}");
    assert!(report.ends_with("objects: 1, stored parts: 2, findings: 1, repaired: 0\n"), "{report}");
    delete(app, &lost).await;
}

async fn an_object_of_the_wrong_size_is_found(app: &TestApp) {
    let (short, object) = file(app, b"nine bytes and more").await;
    app.store.put(&object, "nine byte").await;
    let (status, report) = fsck(app, &[]);
    assert_eq!(status, 3);
    assert!(report.contains("wrong size: part_") && report.contains("has 9 bytes, not 19"), "{report}");
    delete(app, &short).await;
}

async fn a_damaged_object_is_found_by_reading_it(app: &TestApp) {
    let (damaged, object) = file(app, b"these bytes").await;
    app.store.put(&object, "those bytes").await;
    assert_eq!(fsck(app, &[]).0, 0, "the size is right");
    let (status, report) = fsck(app, &["--deep"]);
    assert_eq!(status, 3);
    assert!(report.contains("damaged: part_"), "{report}");
    delete(app, &damaged).await;
}

async fn an_object_without_a_row_is_deleted_only_by_a_repair_and_if_old_enough(app: &TestApp) {
    let kept = app.client.file("kept").await;
    let unknown = "parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5";
    app.store.put(unknown, "left over").await;
    for options in [&[][..], &["--repair"]] {
        let (status, report) = fsck(app, options);
        assert_eq!(status, 3);
        assert!(report.contains(&format!("unknown: {unknown}, 9 bytes\n")), "{report}");
        assert!(app.store.list().await.iter().any(|it| it.0 == unknown), "it is still there after {options:?}");
    }
    let (status, report) = fsck(app, &["--repair", "--older-than=0s", "--max-deleted-share=100"]);
    assert_eq!(status, 0, "{report}");
    assert!(report.contains("; deleted\n") && report.contains("findings: 1, repaired: 1"), "{report}");
    assert_eq!(app.store.list().await.len(), 1);
    assert_eq!(app.client.download(&kept).await, b"kept");
}

async fn an_unfinished_multipart_upload_without_a_row_is_aborted_by_a_repair(app: &TestApp) {
    if !app.store.begin_multipart("parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5").await {
        return;
    }
    // An upload in progress must not be aborted.
    let upload = app.client.upload(8).await;
    let row = "insert into part (id, upload_id) values ('0192f0c1-a2b3-7c4d-8e5f-60718293a4b6', $1::uuid)";
    sqlx::query(row).bind(upload.replace("upload_", "")).execute(&app.pool).await.unwrap();
    app.store.begin_multipart("parts/b6/part_0192f0c1a2b37c4d8e5f60718293a4b6").await;
    let (status, report) = fsck(app, &[]);
    assert_eq!(status, 3);
    assert!(report.contains("incomplete: parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5"), "{report}");
    assert_eq!(app.store.half_done().await, 2);
    assert_eq!(fsck(app, &["--repair", "--older-than=0s"]).0, 0);
    assert_eq!(app.store.half_done().await, 1);
    app.client.cancel(&upload).await.ok();
}

async fn a_part_in_the_ledger_is_verified_there_and_has_no_object(app: &TestApp) {
    let file = app.client.file("these bytes").await;
    assert_eq!(fsck(app, &["--deep"]), (0, "objects: 0, stored parts: 1, findings: 0, repaired: 0\n".to_owned()));
    move_clock(&app.pool, "update part set content = 'those bytes'").await;
    assert_eq!(fsck(app, &[]).0, 0, "the size is right");
    let (status, report) = fsck(app, &["--deep"]);
    assert_eq!(status, 3);
    assert!(report.contains("damaged: part_"), "{report}");
    move_clock(&app.pool, "update part set content = 'these bytes'").await;
    // An object with the name of a part in the ledger belongs to no row; the sweeper would not delete it.
    let object: String =
        sqlx::query_scalar("select replace(id::text, '-', '') from part").fetch_one(&app.pool).await.unwrap();
    let object = format!("parts/{}/part_{object}", &object[30..]);
    app.store.put(&object, "these bytes").await;
    let (status, report) = fsck(app, &["--repair", "--older-than=0s", "--max-deleted-share=100"]);
    assert_eq!(status, 0, "{report}");
    assert!(report.contains(&format!("unknown: {object}, 11 bytes; deleted")), "{report}");
    assert_eq!(app.client.download(&file).await, b"these bytes");
}

async fn foreign_objects_and_other_prefixes_are_left_alone(app: &TestApp) {
    let beside = "parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5";
    let ours = ["parts/README", "parts/b5/part_of_something_else"];
    for name in ours {
        app.store.put(name, "not ours").await;
    }
    app.store.put_beside(beside, "another service's").await;
    let (status, report) = fsck(app, &["--repair", "--older-than=0s"]);
    assert_eq!(status, 3);
    for name in ours {
        assert!(report.contains(&format!("not ours: {name}, 8 bytes; left alone")), "{report}");
    }
    assert!(report.ends_with("objects: 2, stored parts: 0, findings: 2, repaired: 0\n"), "{report}");
    assert!(app.store.is_beside(beside).await);
    for name in ours {
        app.store.remove(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_listed_is_not_reported_as_clean() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await else { return };
    let (file, _) = file(&app, b"a file").await;
    let parts = app.store.directory().unwrap().join("parts");
    std::fs::rename(&parts, parts.with_extension("away")).unwrap();
    std::fs::write(&parts, "a file where a directory should be").unwrap();
    assert_eq!(fsck(&app, &[]).0, 1);
    std::fs::remove_file(&parts).unwrap();
    std::fs::rename(parts.with_extension("away"), &parts).unwrap();
    assert_eq!(fsck(&app, &[]).0, 0);
    assert_eq!(app.client.download(&file).await, b"a file");
}
