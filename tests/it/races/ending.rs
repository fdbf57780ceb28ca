//! An Upload ends once, completed, cancelled or expired, whatever the concurrent requests.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::join;

use super::{Course, after_a_moment, race, winners};
use crate::support::audit::move_clock;
use crate::support::client::id;
use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    objects only:
    identical_completions_get_the_same_file;
    different_completions_have_one_winner;
    a_completion_or_a_cancellation_wins;
    an_upload_ends_at_its_expiry_or_just_before;
    an_upload_of_parts_in_the_ledger_ends_at_its_expiry_or_just_before (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_part_that_is_arriving_is_in_time_or_refused;
    a_part_that_is_arriving_in_the_ledger_is_in_time_or_refused (WINDLASS_LEDGER_PART_BYTES = "4096");
    concurrently_created_uploads_are_distinct;
}

/// Asserts that all responses are identical, and that the File in them has these bytes.
async fn have_one_file(course: &Course<'_>, answers: &[Answer], bytes: &[u8]) {
    let first = answers[0].ok();
    for answer in answers {
        assert_eq!(answer.ok(), first);
    }
    assert_eq!(course.client().download(&id(&first["file"])).await, bytes);
}

/// Asserts that these requests were refused because the Upload had ended or, if `may_have_expired`, had expired.
fn came_too_late(losers: &[Answer], may_have_expired: bool) {
    for answer in losers {
        let status = if may_have_expired && answer.status == 410 { 410 } else { 400 };
        let code = answer.error(status, Some("upload_id"))["code"].clone();
        assert_eq!(code, if status == 410 { "upload_expired" } else { "upload_not_pending" });
    }
}

async fn identical_completions_get_the_same_file(app: &TestApp) {
    race(app, async |it| {
        let (upload, parts) = it.upload_of_two_parts().await;
        let answers = join_all((0..4).map(|_| it.complete(&upload, &parts))).await;
        have_one_file(it, &answers, b"ab").await;
        assert_eq!(it.status(&upload).await, "completed");
        "one file"
    })
    .await;
}

async fn different_completions_have_one_winner(app: &TestApp) {
    race(app, async |it| {
        let (upload, parts) = it.upload_of_two_parts().await;
        let [a, b] = parts.clone();
        let reversed = [b, a];
        let (ab, ba) = join(
            join_all([it.complete(&upload, &parts), it.complete(&upload, &parts)]),
            join_all([it.complete(&upload, &reversed), it.complete(&upload, &reversed)]),
        )
        .await;
        let (won, lost, bytes) = if winners(&ab) > 0 { (ab, ba, b"ab") } else { (ba, ab, b"ba") };
        have_one_file(it, &won, bytes).await;
        for answer in lost {
            answer.error(400, Some("part_ids"));
        }
        assert_eq!(it.status(&upload).await, "completed");
        if bytes == b"ab" { "ab" } else { "ba" }
    })
    .await;
}

async fn a_completion_or_a_cancellation_wins(app: &TestApp) {
    race(app, async |it| {
        let (upload, parts) = it.upload_of_two_parts().await;
        let (completions, cancellations) = join(
            join(it.complete(&upload, &parts), it.complete_with_md5(&upload, &parts)),
            join_all([it.cancel(&upload), it.cancel(&upload)]),
        )
        .await;
        let completions = [completions.0, completions.1];
        let status = it.status(&upload).await;
        match (winners(&completions), winners(&cancellations), &*status) {
            (2, 0, "completed") => {
                have_one_file(it, &completions, b"ab").await;
                came_too_late(&cancellations, false);
                "completed"
            }
            (0, 1, "cancelled") => {
                came_too_late(&completions, false);
                let lost: Vec<_> = cancellations.into_iter().filter(|it| it.status != 200).collect();
                came_too_late(&lost, false);
                it.grace_is_over(&upload).await;
                "cancelled"
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
}

async fn an_upload_ends_at_its_expiry_or_just_before(app: &TestApp) {
    race(app, async |it| {
        let (upload, parts) = it.upload_of_two_parts().await;
        let statement = format!(
            "update upload set expires_at = now() + interval '{} microseconds' where id = '{}'",
            fastrand::u64(0..40_000),
            upload.replace("upload_", "")
        );
        move_clock(&app.pool, &statement).await;
        let with_md5 = fastrand::bool();
        let (completed, cancelled, part) = join!(
            async {
                if with_md5 { it.complete_with_md5(&upload, &parts).await } else { it.complete(&upload, &parts).await }
            },
            it.cancel(&upload),
            after_a_moment(it.client().add_part(&upload, "late"))
        );
        if part.status != 200 {
            came_too_late(&[part], true);
        }
        let status = match (completed.status.as_u16(), cancelled.status.as_u16()) {
            (200, _) => {
                have_one_file(it, &[completed], b"ab").await;
                came_too_late(&[cancelled], true);
                "completed"
            }
            (_, 200) => {
                came_too_late(&[completed], true);
                "cancelled"
            }
            _ => {
                completed.error(410, Some("upload_id"));
                cancelled.error(410, Some("upload_id"));
                "expired"
            }
        };
        assert_eq!(it.status(&upload).await, status);
        it.grace_is_over(&upload).await;
        status
    })
    .await;
}

async fn an_upload_of_parts_in_the_ledger_ends_at_its_expiry_or_just_before(app: &TestApp) {
    an_upload_ends_at_its_expiry_or_just_before(app).await;
}

async fn a_part_that_is_arriving_is_in_time_or_refused(app: &TestApp) {
    // The end is delayed to about the time at which the first parts are stored.
    parts_arrive_at_the_end(app, 100_000, 25).await;
}

async fn a_part_that_is_arriving_in_the_ledger_is_in_time_or_refused(app: &TestApp) {
    parts_arrive_at_the_end(app, 4096, 6).await;
}

async fn parts_arrive_at_the_end(app: &TestApp, bytes: usize, milliseconds: u64) {
    race(app, async |it| {
        let (upload, parts) = it.upload_of_two_parts().await;
        let arriving = || after_a_moment(it.client().add_part(&upload, vec![b'x'; fastrand::usize(1..=bytes)]));
        let cancels = fastrand::bool();
        let end = async {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..milliseconds))).await;
            if cancels { it.cancel(&upload).await } else { it.complete(&upload, &parts).await }
        };
        let (end, arrived) = join(end, join_all([arriving(), arriving(), arriving()])).await;
        assert_eq!(it.status(&upload).await, end.ok()["status"]);
        if !cancels {
            have_one_file(it, &[end], b"ab").await;
        }
        let (in_time, late): (Vec<_>, Vec<_>) = arrived.into_iter().partition(|it| it.status == 200);
        came_too_late(&late, false);
        it.grace_is_over(&upload).await;
        ["none in time", "one in time", "two in time", "three in time"][in_time.len()]
    })
    .await;
}

async fn concurrently_created_uploads_are_distinct(app: &TestApp) {
    race(app, async |it| {
        let whole = async || {
            let upload = after_a_moment(it.client().upload(0)).await;
            let complete = async || it.client().complete(&upload, &[]).await.ok();
            let (first, again) = join(complete(), complete()).await;
            assert_eq!(first, again);
            assert_eq!(first["id"], upload);
            id(&first["file"])
        };
        let files: BTreeSet<_> = join_all([whole(), whole(), whole(), whole()]).await.into_iter().collect();
        assert_eq!(files.len(), 4);
        "four files"
    })
    .await;
}
