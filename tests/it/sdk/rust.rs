//! The Rust SDK, `async-openai`.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::traits::RequestOptionsBuilder as _;
use async_openai::types::InputSource;
use async_openai::types::files::{
    CreateFileRequest, FileExpirationAfter, FileExpirationAfterAnchor, FileInput, FilePurpose,
};
use async_openai::types::uploads::{
    AddUploadPartRequest, CompleteUploadRequest, CreateUploadRequest, UploadPurpose, UploadStatus,
};

use crate::support::TestApp;

crate::on_a_directory_and_s3! {
    parts_in_parallel_are_completed_in_another_order;
    files_are_created_listed_retrieved_read_and_deleted;
    every_failure_is_a_typed_error;
}

fn client(app: &TestApp, key: &str) -> Client<OpenAIConfig> {
    Client::with_config(OpenAIConfig::new().with_api_base(format!("{}/v1", app.client.address)).with_api_key(key))
}

fn upload(bytes: u64) -> CreateUploadRequest {
    let (filename, mime_type) = ("rust.jsonl".to_owned(), "text/jsonl".to_owned());
    CreateUploadRequest { filename, purpose: UploadPurpose::Batch, bytes, mime_type, expires_after: None }
}

fn source(bytes: &str) -> InputSource {
    InputSource::Bytes { filename: "données.txt".to_owned(), bytes: bytes.to_owned().into() }
}

/// The status and code of a failure.
fn failure<T: std::fmt::Debug>(answer: Result<T, OpenAIError>) -> (u16, Option<String>) {
    match answer {
        Err(OpenAIError::ApiError(error)) => (error.status_code.as_u16(), error.api_error.code),
        other => panic!("{other:?}"),
    }
}

async fn parts_in_parallel_are_completed_in_another_order(app: &TestApp) {
    let client = client(app, &app.client.key);
    let created = client.uploads().create(upload(9)).await.unwrap();
    let add = async |data| {
        client.uploads().add_part(&created.id, AddUploadPartRequest { data: source(data) }).await.unwrap().id
    };
    let (c, a, b) = futures_util::join!(add("ghi"), add("abc"), add("def"));
    let request =
        CompleteUploadRequest { part_ids: vec![a, b, c], md5: Some("8aa99b1f439ff71293e95357bac6fd94".to_owned()) };
    let completed = client.uploads().complete(&created.id, request).await.unwrap();
    assert!(matches!(completed.status, UploadStatus::Completed));
    let file = completed.file.unwrap();
    assert_eq!((file.bytes, file.filename.as_str()), (Some(9), "rust.jsonl"));
    assert_eq!(client.files().content(&file.id).await.unwrap(), "abcdefghi");
}

async fn files_are_created_listed_retrieved_read_and_deleted(app: &TestApp) {
    let client = client(app, &app.client.key);
    let path = app.data_dir.path().join("on disk.txt");
    std::fs::write(&path, "from a path").unwrap();
    let expires_after = Some(FileExpirationAfter { anchor: FileExpirationAfterAnchor::CreatedAt, seconds: 3600 });
    let mut made = Vec::new();
    for source in [source("from bytes"), InputSource::Path { path }] {
        let request = CreateFileRequest {
            file: FileInput { source },
            purpose: FilePurpose::UserData,
            expires_after: expires_after.clone(),
        };
        made.push(client.files().create(request).await.unwrap());
    }
    assert_eq!((made[0].filename.as_str(), made[1].filename.as_str()), ("données.txt", "on disk.txt"));
    assert_eq!(made[0].expires_at, Some(made[0].created_at + 3600));
    let listed = client.files().query(&[("order", "asc"), ("purpose", "user_data")]).unwrap().list().await.unwrap();
    assert_eq!(listed.data, made);
    let first = client.files().query(&[("limit", "1")]).unwrap().list().await.unwrap();
    assert_eq!(
        (first.data, first.has_more, first.last_id.as_deref()),
        (vec![made[1].clone()], true, Some(&*made[1].id))
    );
    assert_eq!(client.files().retrieve(&made[0].id).await.unwrap(), made[0]);
    assert_eq!(client.files().content(&made[1].id).await.unwrap(), "from a path");
    assert!(client.files().delete(&made[0].id).await.unwrap().deleted);
    let cancelled = client.uploads().create(upload(1)).await.unwrap();
    assert!(matches!(client.uploads().cancel(&cancelled.id).await.unwrap().status, UploadStatus::Cancelled));
}

async fn every_failure_is_a_typed_error(app: &TestApp) {
    let right = client(app, &app.client.key);
    assert_eq!(failure(client(app, "wrong").files().list().await), (401, Some("invalid_api_key".to_owned())));
    assert_eq!(failure(right.files().retrieve("file-none").await), (404, None));
    assert_eq!(failure(right.uploads().create(upload(u64::MAX)).await).0, 400);
    let expired = right.uploads().create(upload(1)).await.unwrap();
    app.expire(&expired.id).await;
    let part = AddUploadPartRequest { data: source("x") };
    assert_eq!(failure(right.uploads().add_part(&expired.id, part).await), (410, Some("upload_expired".to_owned())));
}
