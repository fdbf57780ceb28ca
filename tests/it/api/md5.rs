//! Completions with an `md5`: parts that were sent in the file's order are not read back. In every case, the correct
//! MD5 is accepted and a wrong one refused.

use serde_json::{Value, json};
use windlass_types::Md5;

use crate::support::TestApp;
use crate::support::audit::move_clock;
use crate::support::client::{Answer, id};
use crate::support::store::object_name;

crate::on_a_directory_and_s3! {
    objects only:
    parts_sent_in_file_order_are_not_read_back;
    only_parts_sent_out_of_order_are_read_back;
    concurrent_parts_give_the_right_md5;
    a_part_that_was_sent_twice_gives_the_right_md5;
    md5_states_of_a_later_release_are_ignored;
    a_repeated_completion_reads_nothing;
    a_wrong_md5_is_refused_without_reading_and_changes_nothing;
    md5_is_computed_only_if_the_last_completion_had_one;
    an_empty_md5_counts_as_absent;
    parts_in_the_ledger_may_be_at_any_position (WINDLASS_LEDGER_PART_BYTES = "5");
    a_part_in_the_ledger_causes_no_read_back_from_the_store (WINDLASS_LEDGER_PART_BYTES = "5");
}

fn md5_of(bytes: &str) -> String {
    Md5::from(<[u8; 16]>::from(<md5::Md5 as md5::Digest>::digest(bytes))).to_string()
}

async fn complete(app: &TestApp, upload: &str, parts: &[&str], md5: Option<&str>) -> Answer {
    let mut body = json!({"part_ids": parts});
    if let Some(md5) = md5 {
        body["md5"] = md5.into();
    }
    app.client.post(&format!("/v1/uploads/{upload}/complete"), &body).await
}

/// Creates an Upload with these Parts, sent one after another. Returns their ids.
async fn upload_of(app: &TestApp, parts: &[&'static str]) -> (String, Vec<String>) {
    let upload = app.client.upload(parts.iter().map(|it| it.len()).sum()).await;
    let mut ids = Vec::new();
    for part in parts {
        ids.push(app.client.part(&upload, *part).await);
    }
    (upload, ids)
}

/// Completes an Upload with an `md5`, after which the service computes the MD5 of the project's parts as they arrive.
async fn turn_md5_on(app: &TestApp) {
    let (upload, parts) = upload_of(app, &["read back"]).await;
    complete(app, &upload, &[&parts[0]], Some(&md5_of("read back"))).await.ok();
}

/// Completes an Upload while the objects of these Parts are missing.
async fn complete_without(
    app: &TestApp,
    hidden: &[(&String, &'static str)],
    upload: &str,
    parts: &[&str],
    md5: &str,
) -> Answer {
    for (part, _) in hidden {
        app.store.remove(&object_name(part)).await;
    }
    let answer = complete(app, upload, parts, Some(md5)).await;
    for (part, bytes) in hidden {
        app.store.put(&object_name(part), bytes).await;
    }
    answer
}

async fn check_file(app: &TestApp, file: &Value, bytes: &str) {
    assert_eq!(file["md5"], md5_of(bytes));
    assert_eq!(app.client.download(&id(file)).await, bytes.as_bytes());
}

async fn parts_sent_in_file_order_are_not_read_back(app: &TestApp) {
    turn_md5_on(app).await;
    let upload = app.client.upload(11).await;
    let one = app.client.part(&upload, "one").await;
    // A new process resumes from the state in the ledger.
    app.kill_and_restart();
    let two = app.client.part(&upload, "two").await;
    let three = app.client.part(&upload, "three").await;
    let hidden = [(&one, "one"), (&two, "two"), (&three, "three")];
    let completed = complete_without(app, &hidden, &upload, &[&one, &two, &three], &md5_of("onetwothree")).await;
    check_file(app, &completed.ok()["file"], "onetwothree").await;
}

async fn only_parts_sent_out_of_order_are_read_back(app: &TestApp) {
    turn_md5_on(app).await;
    let (upload, parts) = upload_of(app, &["one", "two", "three", "four"]).await;
    let [one, two, three, four] = &parts[..] else { panic!("{parts:?}") };
    let hidden = [(one, "one"), (two, "two")];
    let order = [one, two, four, three].map(String::as_str);
    let completed = complete_without(app, &hidden, &upload, &order, &md5_of("onetwofourthree")).await;
    check_file(app, &completed.ok()["file"], "onetwofourthree").await;
    // If the first part is out of order, no saved state applies.
    let (upload, parts) = upload_of(app, &["one", "two"]).await;
    let completed = complete(app, &upload, &[&parts[1], &parts[0]], Some(&md5_of("twoone"))).await;
    check_file(app, &completed.ok()["file"], "twoone").await;
}

async fn concurrent_parts_give_the_right_md5(app: &TestApp) {
    turn_md5_on(app).await;
    for _ in 0..5 {
        let upload = app.client.upload(24).await;
        let sending = ["aaa", "bbb", "ccc", "ddd", "eee", "fff"].map(|bytes| app.client.part(&upload, bytes));
        let mut parts = futures_util::future::join_all(sending).await;
        for late in ["ggg", "hhh"] {
            parts.push(app.client.part(&upload, late).await);
        }
        let listed: Vec<_> = parts.iter().map(String::as_str).collect();
        let completed = complete(app, &upload, &listed, Some(&md5_of("aaabbbcccdddeeefffggghhh"))).await;
        check_file(app, &completed.ok()["file"], "aaabbbcccdddeeefffggghhh").await;
    }
}

async fn a_part_that_was_sent_twice_gives_the_right_md5(app: &TestApp) {
    turn_md5_on(app).await;
    for listed in [[0, 1, 3], [0, 2, 3]] {
        let upload = app.client.upload(11).await;
        let mut parts = Vec::new();
        for bytes in ["one", "two", "two", "three"] {
            parts.push(app.client.part(&upload, bytes).await);
        }
        let listed = listed.map(|it| parts[it].as_str());
        let completed = complete(app, &upload, &listed, Some(&md5_of("onetwothree"))).await;
        check_file(app, &completed.ok()["file"], "onetwothree").await;
    }
}

async fn md5_states_of_a_later_release_are_ignored(app: &TestApp) {
    turn_md5_on(app).await;
    for format in ["set_byte(set_byte(md5_state, 0, 99), 1, 77)", "'\\x99'", "'\\x01'"] {
        let (upload, parts) = upload_of(app, &["one", "two"]).await;
        let later = format!("update part set md5_state = {format} where md5_state is not null");
        move_clock(&app.pool, &later).await;
        app.client.part(&upload, "spare").await;
        let completed = complete(app, &upload, &[&parts[0], &parts[1]], Some(&md5_of("onetwo"))).await;
        check_file(app, &completed.ok()["file"], "onetwo").await;
    }
}

async fn a_repeated_completion_reads_nothing(app: &TestApp) {
    let (upload, parts) = upload_of(app, &["one", "two"]).await;
    let listed = [&parts[0], &parts[1]].map(String::as_str);
    let completed = complete(app, &upload, &listed, Some(&md5_of("onetwo"))).await.ok();
    let hidden = [(&parts[0], "one"), (&parts[1], "two")];
    assert_eq!(complete_without(app, &hidden, &upload, &listed, &md5_of("onetwo")).await.ok(), completed);
    complete(app, &upload, &listed[..1], Some(&md5_of("onetwo"))).await.error(400, Some("part_ids"));
}

async fn a_wrong_md5_is_refused_without_reading_and_changes_nothing(app: &TestApp) {
    turn_md5_on(app).await;
    let (upload, parts) = upload_of(app, &["one", "two"]).await;
    let hidden = [(&parts[0], "one"), (&parts[1], "two")];
    let listed = [&parts[0], &parts[1]].map(String::as_str);
    let refused = complete_without(app, &hidden, &upload, &listed, &md5_of("twoone")).await;
    let message = refused.error(400, Some("md5"))["message"].to_string();
    assert!(message.contains(&md5_of("onetwo")), "{message}");
    assert_eq!(app.client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"], "pending");
    check_file(app, &complete(app, &upload, &listed, Some(&md5_of("onetwo"))).await.ok()["file"], "onetwo").await;
}

async fn md5_is_computed_only_if_the_last_completion_had_one(app: &TestApp) {
    let computed = async || {
        let (upload, parts) = upload_of(app, &["one", "two"]).await;
        let count = "select count(*) from part where upload_id = $1::uuid and md5_state is not null";
        let id = upload.strip_prefix("upload_").unwrap();
        let count: i64 = sqlx::query_scalar(count).bind(id).fetch_one(&app.pool).await.unwrap();
        (count, upload, parts)
    };
    let (count, upload, parts) = computed().await;
    assert_eq!(count, 0);
    complete(app, &upload, &[&parts[0], &parts[1]], Some(&md5_of("onetwo"))).await.ok();
    // A file sent in one request is not a completion.
    app.client.file("in one request").await;
    let (count, upload, parts) = computed().await;
    assert_eq!(count, 2);
    complete(app, &upload, &[&parts[0], &parts[1]], None).await.ok();
    assert_eq!(computed().await.0, 0);
}

async fn parts_in_the_ledger_may_be_at_any_position(app: &TestApp) {
    for is_on in [false, true] {
        if is_on {
            turn_md5_on(app).await;
        }
        for parts in [["in the store", "small", "in it, too"], ["small", "in the store", "last"], ["a", "b", "c"]] {
            for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
                let (upload, ids) = upload_of(app, &parts).await;
                let listed = order.map(|it| ids[it].as_str());
                let whole = order.map(|it| parts[it]).concat();
                complete(app, &upload, &listed, Some(&md5_of("another"))).await.error(400, Some("md5"));
                let completed = complete(app, &upload, &listed, Some(&md5_of(&whole))).await;
                check_file(app, &completed.ok()["file"], &whole).await;
            }
            let (upload, ids) = upload_of(app, &parts).await;
            let listed = [&ids[0], &ids[1], &ids[2]].map(String::as_str);
            complete(app, &upload, &listed, None).await.ok();
        }
    }
}

async fn a_part_in_the_ledger_causes_no_read_back_from_the_store(app: &TestApp) {
    turn_md5_on(app).await;
    let upload = app.client.upload(26).await;
    let one = app.client.part(&upload, "number one").await;
    let two = app.client.part(&upload, "two").await;
    // The new process has not seen the completion, but finds the state of the first part.
    app.kill_and_restart();
    let three = app.client.part(&upload, "number three").await;
    let four = app.client.part(&upload, "4").await;
    let hidden = [(&one, "number one"), (&three, "number three")];
    let order = [&one, &two, &three, &four].map(String::as_str);
    let completed = complete_without(app, &hidden, &upload, &order, &md5_of("number onetwonumber three4")).await;
    check_file(app, &completed.ok()["file"], "number onetwonumber three4").await;
}

async fn an_empty_md5_counts_as_absent(app: &TestApp) {
    for none in [json!(""), json!(null)] {
        let (upload, parts) = upload_of(app, &["bytes"]).await;
        let body = json!({"part_ids": parts, "md5": none});
        let completed = app.client.post(&format!("/v1/uploads/{upload}/complete"), &body).await.ok();
        assert!(completed["file"].get("md5").is_none(), "{completed}");
    }
    let (upload, parts) = upload_of(app, &["bytes"]).await;
    complete(app, &upload, &[&parts[0]], Some(" ")).await.error(400, Some("md5"));
}
