//! `Idempotency-Key`: a repeated request creates nothing more, and has the same response.

use std::io::Write as _;
use std::net::TcpStream;

use futures_util::future::join_all;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Answer, Client, TestApp, eventually};

crate::on_a_directory_and_s3! {
    a_repeated_request_has_the_same_response_and_creates_nothing;
    a_repeated_request_has_the_same_response_with_objects_only (WINDLASS_LEDGER_PART_BYTES = "0");
    a_request_whose_response_was_lost_can_be_repeated;
    another_request_with_the_same_key_is_refused;
    concurrent_requests_with_the_same_key_create_one_object;
    concurrent_requests_create_one_object_with_objects_only (WINDLASS_LEDGER_PART_BYTES = "0");
    concurrent_different_requests_with_the_same_key_have_one_winner;
    requests_are_repeated_although_the_first_has_used_up_the_quota (WINDLASS_PROJECT_MAX_PENDING_UPLOADS = "1");
    keys_of_different_projects_are_independent;
    a_key_can_be_used_again_after_a_day;
    the_response_is_the_same_after_the_objects_have_changed;
    a_failed_request_does_not_use_its_key;
    a_header_that_is_not_a_key_is_refused;
    the_sdks_retries_create_one_file;
}

/// A request that creates something.
#[derive(Debug, Clone)]
enum Create {
    Upload { bytes: usize },
    Part { upload: String, content: &'static [u8] },
    File { name: &'static str, content: Vec<u8> },
}

impl Create {
    async fn all(client: &Client) -> [Self; 4] {
        let upload = client.upload(3).await;
        [
            Self::Upload { bytes: 7 },
            Self::Part { upload, content: b"abc" },
            Self::File { name: "a.bin", content: b"the file".to_vec() },
            Self::File { name: "a.bin", content: vec![7; 200_000] },
        ]
    }

    fn request(&self, client: &Client) -> RequestBuilder {
        match self {
            Self::Upload { bytes } => client
                .request(Method::POST, "/v1/uploads")
                .json(&json!({"filename": "a", "purpose": "user_data", "bytes": bytes, "mime_type": "text/plain"})),
            Self::Part { upload, content } => client
                .request(Method::POST, &format!("/v1/uploads/{upload}/parts"))
                .multipart(Form::new().part("data", Part::bytes(*content))),
            Self::File { name, content } => client.request(Method::POST, "/v1/files").multipart(
                Form::new().text("purpose", "user_data").part("file", Part::bytes(content.clone()).file_name(*name)),
            ),
        }
    }

    async fn send(&self, client: &Client, key: &str) -> Answer {
        client.send(self.request(client).header("idempotency-key", key)).await
    }

    /// The ids of what requests of this kind have created.
    async fn created(&self, client: &Client) -> Vec<String> {
        let path = match self {
            Self::Upload { .. } => "/v1/uploads".to_owned(),
            Self::Part { upload, .. } => format!("/v1/uploads/{upload}/parts"),
            Self::File { .. } => "/v1/files".to_owned(),
        };
        client.get(&path).await.ok()["data"].as_array().unwrap().iter().map(id).collect()
    }
}

#[track_caller]
fn assert_repeats(again: &Answer, first: &Answer) {
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.ok(), first.ok());
    assert_eq!((&again.body, again.header("content-type")), (&first.body, first.header("content-type")));
}

#[track_caller]
fn assert_reused(answer: &Answer) {
    assert_eq!(answer.error(400, Some("Idempotency-Key"))["code"], "idempotency_key_reused");
    assert_eq!(answer.header("idempotent-replayed"), None);
}

async fn a_repeated_request_has_the_same_response_and_creates_nothing(app: &TestApp) {
    for (nth, create) in Create::all(&app.client).await.into_iter().enumerate() {
        let key = format!("key-{nth}");
        let first = create.send(&app.client, &key).await;
        assert_eq!((first.header("idempotent-replayed"), first.status.as_u16()), (None, 200), "{create:?}");
        let created = create.created(&app.client).await;
        assert!(created.contains(&id(&first.ok())));
        for _ in 0..2 {
            assert_repeats(&create.send(&app.client, &key).await, &first);
        }
        assert_eq!(create.created(&app.client).await, created, "{create:?}");
        let another = create.send(&app.client, &format!("another-{nth}")).await.ok();
        assert_ne!(another["id"], first.ok()["id"], "{create:?}");
    }
}

async fn a_repeated_request_has_the_same_response_with_objects_only(app: &TestApp) {
    a_repeated_request_has_the_same_response_and_creates_nothing(app).await;
}

async fn a_request_whose_response_was_lost_can_be_repeated(app: &TestApp) {
    let upload = app.client.upload(3).await;
    let raw = app.client.raw_part(&upload, b"abc");
    let raw = String::from_utf8(raw).unwrap().replacen("\r\n", "\r\nIdempotency-Key: lost\r\n", 1);
    let mut socket = TcpStream::connect(app.client.socket_address()).unwrap();
    socket.write_all(raw.as_bytes()).unwrap();
    eventually("the part is committed", async || {
        let rows = sqlx::query_scalar::<_, i64>("select count(*) from idempotency_key where key = 'lost'");
        rows.fetch_one(&app.pool).await.unwrap() == 1
    })
    .await;
    drop(socket);
    let again = Create::Part { upload, content: b"abc" };
    let answer = again.send(&app.client, "lost").await;
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.created(&app.client).await, [id(&answer.ok())]);
}

async fn another_request_with_the_same_key_is_refused(app: &TestApp) {
    let [upload, part, file, _] = Create::all(&app.client).await;
    let other_upload = app.client.upload(3).await;
    for (nth, create) in [&upload, &part, &file].into_iter().enumerate() {
        let key = format!("key-{nth}");
        let first = create.send(&app.client, &key).await;
        let created = create.created(&app.client).await;
        let Create::Part { upload: of_part, .. } = &part else { unreachable!() };
        let others = [
            Create::Upload { bytes: 8 },
            Create::Part { upload: of_part.clone(), content: b"abd" },
            Create::Part { upload: of_part.clone(), content: b"" },
            Create::Part { upload: other_upload.clone(), content: b"abc" },
            Create::File { name: "b.bin", content: b"the file".to_vec() },
            Create::File { name: "a.bin", content: b"The file".to_vec() },
            Create::File { name: "a.bin", content: vec![1; 100_000] },
        ];
        for other in others {
            assert_reused(&other.send(&app.client, &key).await);
        }
        assert_repeats(&create.send(&app.client, &key).await, &first);
        assert_eq!(create.created(&app.client).await, created);
    }
    let purpose = Form::new().text("purpose", "vision").part("file", Part::bytes(&b"the file"[..]).file_name("a.bin"));
    let request = app.client.request(Method::POST, "/v1/files").multipart(purpose);
    assert_reused(&app.client.send(request.header("idempotency-key", "key-2")).await);
}

async fn concurrent_requests_with_the_same_key_create_one_object(app: &TestApp) {
    for (nth, create) in Create::all(&app.client).await.into_iter().enumerate() {
        let before = create.created(&app.client).await.len();
        let key = format!("key-{nth}");
        let answers = join_all((0..8).map(|_| create.send(&app.client, &key))).await;
        let first = answers.iter().find(|it| it.header("idempotent-replayed").is_none()).expect("one creates it");
        for again in answers.iter().filter(|it| !std::ptr::eq(*it, first)) {
            assert_repeats(again, first);
        }
        assert_eq!(create.created(&app.client).await.len(), before + 1, "{create:?}");
    }
}

async fn concurrent_requests_create_one_object_with_objects_only(app: &TestApp) {
    concurrent_requests_with_the_same_key_create_one_object(app).await;
}

async fn concurrent_different_requests_with_the_same_key_have_one_winner(app: &TestApp) {
    let creates = (0..8).map(|nth: u8| Create::File { name: "a.bin", content: vec![nth; 100_000] });
    let creates: Vec<_> = creates.collect();
    let answers = join_all(creates.iter().map(|it| it.send(&app.client, "key"))).await;
    let (created, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.status == 200);
    assert_eq!(created.len(), 1);
    for answer in refused {
        assert_reused(answer);
    }
    assert_eq!(creates[0].created(&app.client).await, [id(&created[0].ok())]);
}

async fn requests_are_repeated_although_the_first_has_used_up_the_quota(app: &TestApp) {
    let create = Create::Upload { bytes: 7 };
    let answers = join_all((0..8).map(|_| create.send(&app.client, "key"))).await;
    let ids: Vec<_> = answers.iter().map(|it| id(&it.ok())).collect();
    assert!(ids.iter().all(|it| *it == ids[0]), "{ids:?}");
    assert_eq!(create.send(&app.client, "another key").await.error(400, None)["code"], "quota_exceeded");
}

async fn keys_of_different_projects_are_independent(app: &TestApp) {
    let stranger = app.stranger();
    let file = Create::File { name: "a.bin", content: b"mine".to_vec() };
    let mine = file.send(&app.client, "key").await.ok();
    let theirs = Create::File { name: "a.bin", content: b"theirs".to_vec() }.send(stranger, "key").await;
    assert_eq!((theirs.header("idempotent-replayed"), theirs.status.as_u16()), (None, 200));
    assert_ne!(theirs.ok()["id"], mine["id"]);
    // Another project's upload is unknown, whether or not the key is.
    let [_, part, ..] = Create::all(&app.client).await;
    part.send(&app.client, "part").await.ok();
    part.send(stranger, "part").await.error(404, Some("upload_id"));
}

async fn a_key_can_be_used_again_after_a_day(app: &TestApp) {
    let file = Create::File { name: "a.bin", content: b"the file".to_vec() };
    let first = file.send(&app.client, "key").await;
    file.send(&app.client, "forgotten").await.ok();
    app.let_time_pass("23 hours").await;
    app.sweep();
    assert_repeats(&file.send(&app.client, "key").await, &first);
    app.let_time_pass("2 hours").await;
    // Before the sweeper has deleted its row, and after that.
    let second = Create::File { name: "b.bin", content: b"another".to_vec() };
    let reused = second.send(&app.client, "key").await;
    assert_eq!((reused.header("idempotent-replayed"), reused.status.as_u16()), (None, 200));
    assert_repeats(&second.send(&app.client, "key").await, &reused);
    app.sweep();
    let keys: Vec<String> =
        sqlx::query_scalar("select key from idempotency_key order by key").fetch_all(&app.pool).await.unwrap();
    assert_eq!(keys, ["key"]);
    assert_eq!(second.send(&app.client, "forgotten").await.header("idempotent-replayed"), None);
}

async fn the_response_is_the_same_after_the_objects_have_changed(app: &TestApp) {
    let [create, ..] = Create::all(&app.client).await;
    let upload = create.send(&app.client, "upload").await;
    let part = Create::Part { upload: id(&upload.ok()), content: b"seven b" };
    let added = part.send(&app.client, "part").await;
    let file = id(&app.client.complete(&id(&upload.ok()), &[&id(&added.ok())]).await.ok()["file"]);
    assert_repeats(&create.send(&app.client, "upload").await, &upload);
    assert_repeats(&part.send(&app.client, "part").await, &added);
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    assert_repeats(&part.send(&app.client, "part").await, &added);
    assert_eq!(upload.ok()["status"], "pending");
}

async fn a_failed_request_does_not_use_its_key(app: &TestApp) {
    let upload = app.client.upload(3).await;
    Create::Part { upload: upload.clone(), content: b"" }.send(&app.client, "key").await.error(400, Some("data"));
    Create::Upload { bytes: usize::MAX >> 1 }.send(&app.client, "key").await.error(400, Some("bytes"));
    let part = Create::Part { upload, content: b"abc" };
    let wrong = part.request(&app.client).header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    app.client.send(wrong.header("idempotency-key", "key")).await.error(400, Some("Content-MD5"));
    let first = part.send(&app.client, "key").await;
    assert_eq!((first.header("idempotent-replayed"), first.status.as_u16()), (None, 200));
    assert_repeats(&part.send(&app.client, "key").await, &first);
    // A repetition with a wrong digest is refused, too.
    let wrong = part.request(&app.client).header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    app.client.send(wrong.header("idempotency-key", "key")).await.error(400, Some("Content-MD5"));
}

async fn a_header_that_is_not_a_key_is_refused(app: &TestApp) {
    for (nth, create) in Create::all(&app.client).await.into_iter().enumerate() {
        let before = create.created(&app.client).await;
        for key in ["", &"k".repeat(256), "schl\u{fc}ssel"] {
            create.send(&app.client, key).await.error(400, Some("Idempotency-Key"));
        }
        let two = create.request(&app.client).header("idempotency-key", "a").header("idempotency-key", "b");
        app.client.send(two).await.error(400, Some("Idempotency-Key"));
        assert_eq!(create.created(&app.client).await, before);
        create.send(&app.client, &nth.to_string().repeat(255)).await.ok();
    }
}

/// The SDKs' keys, and a field in another order: the same request.
async fn the_sdks_retries_create_one_file(app: &TestApp) {
    let key = "stainless-python-retry-8e03978e-40d5-43dd-bc93-6894a57f9324";
    let file = || Part::bytes(&b"content"[..]).file_name("a.bin");
    let send = async |form: Form, count: &str| {
        let request = app.client.request(Method::POST, "/v1/files").header("x-stainless-retry-count", count);
        app.client.send(request.header("idempotency-key", key).multipart(form)).await
    };
    let first = send(Form::new().part("file", file()).text("purpose", "user_data"), "0").await;
    let again = send(Form::new().text("purpose", "user_data").part("file", file()), "1").await;
    assert_repeats(&again, &first);
    let files: Value = app.client.get("/v1/files").await.ok();
    assert_eq!(files["data"].as_array().unwrap().len(), 1);
}
