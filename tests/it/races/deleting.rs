//! A File is deleted once, and a download in progress gets every byte.

use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::join;

use super::{Course, after_a_moment, race, winners};
use crate::support::audit::move_clock;
use crate::support::client::id;
use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    objects only:
    a_file_is_deleted_once;
    a_file_is_deleted_or_expires;
    a_file_in_the_ledger_is_deleted_or_expires (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_reader_gets_every_byte_or_none (WINDLASS_MAX_PART_BYTES = "300000");
    a_file_is_deleted_while_its_upload_is_completed;
}

async fn is_gone(course: &Course<'_>, file: &str) {
    for path in [format!("/v1/files/{file}"), format!("/v1/files/{file}/content")] {
        course.client().get(&path).await.error(404, Some("id"));
    }
    course.grace_is_over(file).await;
}

/// Asserts that at most one deletion succeeded and the others got a 404. Returns the number of successes.
fn at_most_one_has_deleted(answers: &[Answer]) -> usize {
    for loser in answers.iter().filter(|it| it.status != 200) {
        loser.error(404, Some("id"));
    }
    let winners = winners(answers);
    assert!(winners <= 1);
    winners
}

async fn a_file_is_deleted_once(app: &TestApp) {
    race(app, async |it| {
        let file = it.client().file("abc").await;
        let answers = join_all((0..4).map(|_| it.delete(&file))).await;
        assert_eq!(at_most_one_has_deleted(&answers), 1);
        is_gone(it, &file).await;
        "deleted"
    })
    .await;
}

async fn a_file_is_deleted_or_expires(app: &TestApp) {
    race(app, async |it| {
        let file = it.client().file("abc").await;
        let statement = format!(
            "update file set expires_at = now() + interval '{} microseconds' where id = '{}'",
            fastrand::u64(0..20_000),
            file.replace("file-", "")
        );
        move_clock(&app.pool, &statement).await;
        let (deletions, read) = join(
            join_all([it.delete(&file), it.delete(&file)]),
            after_a_moment(it.client().get(&format!("/v1/files/{file}/content"))),
        )
        .await;
        if read.status == 200 {
            assert_eq!(&*read.body, b"abc");
        } else {
            read.error(404, Some("id"));
        }
        let deleted = at_most_one_has_deleted(&deletions) == 1;
        is_gone(it, &file).await;
        if deleted { "deleted" } else { "expired" }
    })
    .await;
}

async fn a_file_in_the_ledger_is_deleted_or_expires(app: &TestApp) {
    a_file_is_deleted_or_expires(app).await;
}

/// Downloads slowly. Returns false after a 404, and true after a complete download.
async fn read_slowly(course: &Course<'_>, file: &str, whole: &[u8]) -> bool {
    let request = course.client().request("GET".parse().unwrap(), &format!("/v1/files/{file}/content"));
    let mut answer = request.send().await.unwrap();
    if answer.status() != 200 {
        Answer::from(answer).await.error(404, Some("id"));
        return false;
    }
    let mut read = Vec::new();
    while let Some(bytes) = answer.chunk().await.unwrap() {
        read.extend_from_slice(&bytes);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..2))).await;
    }
    assert!(read == whole, "{} of {} bytes", read.len(), whole.len());
    true
}

async fn a_reader_gets_every_byte_or_none(app: &TestApp) {
    race(app, async |it| {
        let mut whole = vec![0; 900_000];
        fastrand::fill(&mut whole);
        let file = it.client().file(whole.clone()).await;
        let reader = || after_a_moment(read_slowly(it, &file, &whole));
        let (deleted, read) = join(it.delete(&file), join_all([reader(), reader(), reader()])).await;
        deleted.ok();
        is_gone(it, &file).await;
        ["none reads", "one reads", "two read", "three read"][read.into_iter().filter(|it| *it).count()]
    })
    .await;
}

async fn a_file_is_deleted_while_its_upload_is_completed(app: &TestApp) {
    race(app, async |it| {
        let (upload, parts) = it.upload_of_two_parts().await;
        // A client can derive the File's id from the Upload's.
        let file = upload.replace("upload_", "file-");
        let (completed, again, deletions) = join!(
            it.complete(&upload, &parts),
            it.complete(&upload, &parts),
            join_all([it.delete(&file), it.delete(&file)])
        );
        let deleted = at_most_one_has_deleted(&deletions) == 1;
        for answer in [completed, again] {
            let completed = answer.ok();
            assert_eq!(completed["status"], "completed");
            // A completion that is repeated after the deletion returns no File.
            assert!(deleted && completed.get("file").is_none() || id(&completed["file"]) == file, "{completed}");
        }
        assert_eq!(it.status(&upload).await, "completed");
        if deleted {
            is_gone(it, &file).await;
            "deleted"
        } else {
            assert_eq!(it.client().download(&file).await, b"ab");
            "too early to delete"
        }
    })
    .await;
}
