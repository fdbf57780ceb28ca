//! Requests that are refused or fail: those with a valid key are recorded, the others cannot fill the table.

use serde_json::{Value, json};

use super::{assert_is, event_of, left_by, run};
use crate::support::{Client, TestApp};

crate::on_a_directory_and_s3! {
    a_request_beyond_the_scope_of_its_key_is_recorded (WINDLASS_AUDIT = "on");
    an_attempt_on_another_projects_objects_is_recorded (WINDLASS_AUDIT = "on");
    a_request_without_a_valid_key_or_url_is_not_recorded (WINDLASS_AUDIT = "on");
    a_request_beyond_the_rate_of_its_key_is_not_recorded (WINDLASS_AUDIT = "on");
}

async fn a_request_beyond_the_scope_of_its_key_is_recorded(app: &TestApp) {
    let reader = Client::new(&app.client.address, run(app, &["keys", "create", "--scope", "read"]).trim());
    let file = app.client.file("some bytes").await;
    let upload = app.client.upload(1).await;
    let denied = event_of(app, reader.delete(&format!("/v1/files/{file}"))).await;
    assert_is(&denied, "file.delete", "denied", Some(403), Some(&file));
    assert_eq!(denied["project"], "default");
    let denied = event_of(app, reader.add_part(&upload, "a")).await;
    assert_is(&denied, "upload.add_part", "denied", Some(403), Some(&upload));
    let denied = event_of(app, reader.begin_upload(1)).await;
    assert_is(&denied, "upload.create", "denied", Some(403), None);
}

async fn an_attempt_on_another_projects_objects_is_recorded(app: &TestApp) {
    let file = app.client.file("some bytes").await;
    let stranger = app.stranger();
    let event = event_of(app, stranger.get(&format!("/v1/files/{file}/content"))).await;
    assert_is(&event, "file.read", "failed", Some(404), Some(&file));
    assert_eq!(event["project"], "stranger");
    let event = event_of(app, stranger.delete(&format!("/v1/files/{file}"))).await;
    assert_is(&event, "file.delete", "failed", Some(404), Some(&file));
    let event = event_of(app, stranger.get("/v1/files/no-file/content")).await;
    assert_is(&event, "file.read", "failed", Some(404), None);
    let event = event_of(app, stranger.post("/v1/uploads", &json!({"purpose": "none"}))).await;
    assert_is(&event, "upload.create", "failed", Some(400), None);
}

async fn a_request_without_a_valid_key_or_url_is_not_recorded(app: &TestApp) {
    let file = app.client.file("some bytes").await;
    let anyone = Client::new(&app.client.address, "no-key-at-all");
    let (left, ()) = left_by(app, async {
        anyone.get(&format!("/v1/files/{file}/content")).await.error(401, None);
        anyone.delete(&format!("/v1/files/{file}")).await.error(401, None);
        anyone.get("/signed/no-token/name").await.error(403, None);
    })
    .await;
    assert_eq!(left, Vec::<Value>::new());
}

async fn a_request_beyond_the_rate_of_its_key_is_not_recorded(app: &TestApp) {
    let key = run(app, &["keys", "create", "--max-requests-per-second", "1"]);
    let slow = Client::new(&app.client.address, key.trim());
    let (left, answered) = left_by(app, async {
        let mut answered = 0;
        for _ in 0..20 {
            answered += usize::from(slow.get("/v1/files").await.status == 200);
        }
        answered
    })
    .await;
    assert!(answered < 20, "no request was beyond the rate");
    assert_eq!(left.len(), answered);
}
