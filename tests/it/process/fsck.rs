//! `windlass fsck` finds whatever of ledger and store does not fit, and repairs only what no row names.

use std::process::Output;

use crate::support::audit::move_clock;
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp};

crate::on_every_store! {
    objects only:
    what_fits_is_clean_even_while_a_part_is_on_its_way;
    an_object_that_is_gone_is_missing;
    an_object_of_another_size_is_found;
    an_object_with_other_bytes_is_found_by_reading_it;
    an_object_without_a_row_is_deleted_only_when_told_and_old_enough;
    a_half_done_multipart_upload_without_a_row_is_aborted_when_told;
    a_part_in_the_ledger_is_read_where_it_is_and_has_no_object (WINDLASS_LEDGER_PART_BYTES = "4096");
    what_is_not_ours_and_what_lies_beside_our_prefix_is_left_alone;
}

/// Runs it; gives its exit status and what it said.
fn fsck(app: &TestApp, options: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = app.run(&[&["fsck"], options].concat());
    assert!(stderr.is_empty() || !String::from_utf8_lossy(&stderr).contains("panicked"), "{stderr:?}");
    let (status, said) = (status.code().unwrap(), String::from_utf8(stdout).unwrap());
    if app.store.kind() != StoreKind::Google {
        return (status, said);
    }
    // Google's unfinished uploads are not listed. This is always reported, also by the exit status if all else is fine.
    assert_ne!(status, 0, "{said}");
    let unseen = "not looked at: the store does not list half-done multipart uploads: Google's are not listed here\n";
    assert_eq!(said.matches(unseen).count(), 1, "{said}");
    let said = said.replace(unseen, "").replace(", not looked at: half-done multipart uploads\n", "\n");
    (if status == 4 { 0 } else { status }, said)
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

async fn what_fits_is_clean_even_while_a_part_is_on_its_way(app: &TestApp) {
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

async fn an_object_that_is_gone_is_missing(app: &TestApp) {
    let (lost, object) = file(app, b"soon gone").await;
    app.client.file("stays").await;
    app.store.remove(&object).await;
    let (status, said) = fsck(app, &["--repair", "--older-than=0s"]);
    assert_eq!(status, 3);
    assert!(said.contains(&format!("missing: {}", &object["parts/00/".len()..])), "{said}");
    assert!(said.contains(&lost.replace("file-", "upload_")), "it says whose it is: {said}");
    assert!(said.ends_with("objects: 1, stored parts: 2, findings: 1, repaired: 0\n"), "{said}");
    delete(app, &lost).await;
}

async fn an_object_of_another_size_is_found(app: &TestApp) {
    let (short, object) = file(app, b"nine bytes and more").await;
    app.store.put(&object, "nine byte").await;
    let (status, said) = fsck(app, &[]);
    assert_eq!(status, 3);
    assert!(said.contains("wrong size: part_") && said.contains("has 9 bytes, not 19"), "{said}");
    delete(app, &short).await;
}

async fn an_object_with_other_bytes_is_found_by_reading_it(app: &TestApp) {
    let (damaged, object) = file(app, b"these bytes").await;
    app.store.put(&object, "those bytes").await;
    assert_eq!(fsck(app, &[]).0, 0, "its size is right");
    let (status, said) = fsck(app, &["--deep"]);
    assert_eq!(status, 3);
    assert!(said.contains("damaged: part_"), "{said}");
    delete(app, &damaged).await;
}

async fn an_object_without_a_row_is_deleted_only_when_told_and_old_enough(app: &TestApp) {
    let kept = app.client.file("kept").await;
    let unknown = "parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5";
    app.store.put(unknown, "left over").await;
    for options in [&[][..], &["--repair"]] {
        let (status, said) = fsck(app, options);
        assert_eq!(status, 3);
        assert!(said.contains(&format!("unknown: {unknown}, 9 bytes\n")), "{said}");
        assert!(app.store.list().await.iter().any(|it| it.0 == unknown), "it is still there after {options:?}");
    }
    let (status, said) = fsck(app, &["--repair", "--older-than=0s", "--max-deleted-share=100"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("; deleted\n") && said.contains("findings: 1, repaired: 1"), "{said}");
    assert_eq!(app.store.list().await.len(), 1);
    assert_eq!(app.client.download(&kept).await, b"kept");
}

async fn a_half_done_multipart_upload_without_a_row_is_aborted_when_told(app: &TestApp) {
    if !app.store.begin_multipart("parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5").await {
        return;
    }
    // One that is on its way is not to be touched.
    let upload = app.client.upload(8).await;
    let row = "insert into part (id, upload_id) values ('0192f0c1-a2b3-7c4d-8e5f-60718293a4b6', $1::uuid)";
    sqlx::query(row).bind(upload.replace("upload_", "")).execute(&app.pool).await.unwrap();
    app.store.begin_multipart("parts/b6/part_0192f0c1a2b37c4d8e5f60718293a4b6").await;
    let (status, said) = fsck(app, &[]);
    assert_eq!(status, 3);
    assert!(said.contains("half-done: parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5"), "{said}");
    assert_eq!(app.store.half_done().await, 2);
    assert_eq!(fsck(app, &["--repair", "--older-than=0s"]).0, 0);
    assert_eq!(app.store.half_done().await, 1);
    app.client.cancel(&upload).await.ok();
}

async fn a_part_in_the_ledger_is_read_where_it_is_and_has_no_object(app: &TestApp) {
    let file = app.client.file("these bytes").await;
    assert_eq!(fsck(app, &["--deep"]), (0, "objects: 0, stored parts: 1, findings: 0, repaired: 0\n".to_owned()));
    move_clock(&app.pool, "update part set content = 'those bytes'").await;
    assert_eq!(fsck(app, &[]).0, 0, "its size is right");
    let (status, said) = fsck(app, &["--deep"]);
    assert_eq!(status, 3);
    assert!(said.contains("damaged: part_"), "{said}");
    move_clock(&app.pool, "update part set content = 'these bytes'").await;
    // An object of its name is nobody's: the sweeper would leave it.
    let object: String =
        sqlx::query_scalar("select replace(id::text, '-', '') from part").fetch_one(&app.pool).await.unwrap();
    let object = format!("parts/{}/part_{object}", &object[30..]);
    app.store.put(&object, "these bytes").await;
    let (status, said) = fsck(app, &["--repair", "--older-than=0s", "--max-deleted-share=100"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains(&format!("unknown: {object}, 11 bytes; deleted")), "{said}");
    assert_eq!(app.client.download(&file).await, b"these bytes");
}

async fn what_is_not_ours_and_what_lies_beside_our_prefix_is_left_alone(app: &TestApp) {
    let beside = "parts/b5/part_0192f0c1a2b37c4d8e5f60718293a4b5";
    let ours = ["parts/README", "parts/b5/part_of_something_else"];
    for name in ours {
        app.store.put(name, "not ours").await;
    }
    app.store.put_beside(beside, "another service's").await;
    let (status, said) = fsck(app, &["--repair", "--older-than=0s"]);
    assert_eq!(status, 3);
    for name in ours {
        assert!(said.contains(&format!("not ours: {name}, 8 bytes; left alone")), "{said}");
    }
    assert!(said.ends_with("objects: 2, stored parts: 0, findings: 2, repaired: 0\n"), "{said}");
    assert!(app.store.is_beside(beside).await);
    for name in ours {
        app.store.remove(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_looked_through_is_no_clean_one() {
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
