//! An id of another project gets the same response as one that never existed.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::client::id;
use crate::support::{Client, TestApp};

crate::on_a_directory_and_s3! {
    an_id_of_another_project_looks_like_one_that_never_existed;
    lists_of_another_project_are_empty;
}

/// Headers whose values differ from one response to the next.
const VOLATILE: [&str; 3] = ["date", "x-request-id", "openai-processing-ms"];

/// The ids that occur in a request.
struct Ids {
    upload: String,
    part: String,
    file: String,
}

/// Ids that have the right form, but never existed.
fn unknown() -> Ids {
    let digits = "0192f0c1a2b37c4d8e5f60718293a4b5";
    Ids { upload: format!("upload_{digits}"), part: format!("part_{digits}"), file: format!("file-{digits}") }
}

/// Every request that refers to an object by its id. `own` is a pending upload of the caller.
fn requests(client: &Client, ids: &Ids, own: &str) -> Vec<RequestBuilder> {
    let Ids { upload, part, file } = ids;
    let form = || reqwest::multipart::Form::new().part("data", reqwest::multipart::Part::bytes(b"x".as_slice()));
    let get = |path: String| client.request(Method::GET, &path);
    let head = |path: String| client.request(Method::HEAD, &path);
    let post = |path: String| client.request(Method::POST, &path);
    let mut requests = Vec::new();
    for prefix in ["/v1", "/openai/v1"] {
        requests.extend([
            get(format!("{prefix}/uploads/{upload}")),
            head(format!("{prefix}/uploads/{upload}")),
            get(format!("{prefix}/uploads/{upload}/parts")),
            get(format!("{prefix}/uploads/{own}/parts?after={part}")),
            get(format!("{prefix}/uploads?after={upload}")),
            post(format!("{prefix}/uploads/{upload}/parts")).multipart(form()),
            post(format!("{prefix}/uploads/{upload}/complete")).json(&json!({"part_ids": [part]})),
            post(format!("{prefix}/uploads/{upload}/complete"))
                .json(&json!({"part_ids": [part], "md5": "0".repeat(32)})),
            post(format!("{prefix}/uploads/{own}/complete")).json(&json!({"part_ids": [part]})),
            post(format!("{prefix}/uploads/{upload}/cancel")),
            get(format!("{prefix}/files/{file}")),
            head(format!("{prefix}/files/{file}")),
            get(format!("{prefix}/files/{file}/content")),
            head(format!("{prefix}/files/{file}/content")),
            get(format!("{prefix}/files/{file}/content")).header("range", "bytes=0-0"),
            get(format!("{prefix}/files/{file}/content")).header("if-none-match", "*"),
            get(format!("{prefix}/files?after={file}")),
            post(format!("{prefix}/files/{file}/signed_url")).json(&json!({})),
            post(format!("{prefix}/files/{file}/signed_url")).json(&json!({"expires_in": 60, "once": true})),
            client.request(Method::DELETE, &format!("{prefix}/files/{file}")),
        ]);
    }
    requests
}

/// The responses, without volatile headers and with the ids replaced by their kind.
async fn responses(client: &Client, ids: &Ids, own: &str) -> Vec<String> {
    let mut shown = Vec::new();
    for request in requests(client, ids, own) {
        let answer = client.send(request).await;
        let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value));
        let headers: BTreeMap<_, _> = headers.filter(|(name, _)| !VOLATILE.contains(name)).collect();
        let text = format!("{} {headers:?} {}", answer.status, String::from_utf8_lossy(&answer.body));
        let text = text.replace(&ids.upload, "UPLOAD").replace(&ids.part, "PART").replace(&ids.file, "FILE");
        shown.push(text);
    }
    shown
}

async fn an_id_of_another_project_looks_like_one_that_never_existed(app: &TestApp) {
    let upload = app.client.upload(1).await;
    let part = app.client.part(&upload, "x").await;
    let file = app.client.file("secret").await;
    let completed = app.client.upload(1).await;
    let its_part = app.client.part(&completed, "x").await;
    let completed_file = id(&app.client.complete(&completed, &[&its_part]).await.ok()["file"]);
    let them = app.stranger();
    let own = them.upload(1).await;
    let expected = responses(them, &unknown(), &own).await;
    for ids in [Ids { upload, part, file }, Ids { upload: completed, part: its_part, file: completed_file }] {
        for (response, expected) in responses(them, &ids, &own).await.iter().zip(&expected) {
            assert_eq!(response, expected);
        }
        assert!(!app.client.download(&ids.file).await.is_empty());
    }
}

async fn lists_of_another_project_are_empty(app: &TestApp) {
    app.client.upload(1).await;
    app.client.file("secret").await;
    for path in ["/v1/uploads", "/v1/files", "/v1/files?purpose=user_data", "/v1/files?order=asc&limit=1"] {
        let list = app.stranger().get(path).await.ok();
        let empty = json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false});
        assert_eq!(list, empty, "{path}");
    }
}
