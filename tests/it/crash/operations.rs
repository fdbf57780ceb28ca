//! The operations that write: how to prepare and run each one, and how to check its result after a kill.

use futures_util::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, Response};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::client::id;
use crate::support::{Answer, Client, TestApp};

/// An operation that writes, during which the program is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    CreateUpload,
    AddPart,
    AddSmallPart,
    AbandonPart,
    CreateUploadOnce,
    AddPartOnce,
    AddSmallPartOnce,
    CreateFileOnce,
    CreateFile,
    CreateSmallFile,
    Complete,
    Cancel,
    Delete,
    ExpireUploads,
    ExpireFiles,
    Discard,
    Collect,
    CollectSmall,
    Forget,
}

/// The objects that the operation acts on. An id is empty if there is none.
pub struct Target {
    /// Id of the Upload.
    upload: String,
    /// Id of its stored Part.
    part: String,
    /// Id of the File.
    file: String,
    /// The idempotency key.
    key: String,
}

/// The maximum size of a Part in these tests: more than one chunk, less than two.
pub const PART_LIMIT: &str = "6000000";

fn form(bytes: impl Into<Body>) -> Form {
    Form::new().text("purpose", "user_data").part("file", Part::stream(bytes).file_name("a.bin"))
}

impl Operation {
    /// Whether the operation is run by `windlass sweep` and not by the service.
    pub fn is_a_sweep(self) -> bool {
        matches!(
            self,
            Self::ExpireUploads | Self::ExpireFiles | Self::Discard | Self::Collect | Self::CollectSmall | Self::Forget
        )
    }

    /// Whether the request has an idempotency key.
    fn has_a_key(self) -> bool {
        matches!(self, Self::CreateUploadOnce | Self::AddPartOnce | Self::AddSmallPartOnce | Self::CreateFileOnce)
    }

    /// The body: large enough for a multipart upload of two chunks, or small enough for the ledger.
    fn sent(self) -> Vec<u8> {
        let is_small = matches!(
            self,
            Self::AddSmallPart
                | Self::CreateSmallFile
                | Self::AddSmallPartOnce
                | Self::AddPartOnce
                | Self::CreateFileOnce
        );
        let bytes = if is_small { 3000 } else { 5 * 1024 * 1024 + 1000 };
        b"windlass ".iter().copied().cycle().take(bytes).collect()
    }

    /// Creates the objects that the operation acts on.
    pub async fn prepare(self, app: &TestApp) -> Target {
        let client = &app.client;
        let key = format!("{:x}", fastrand::u128(..));
        let mut target = Target { upload: String::new(), part: String::new(), file: String::new(), key };
        match self {
            Self::CreateUpload
            | Self::CreateUploadOnce
            | Self::CreateFile
            | Self::CreateFileOnce
            | Self::CreateSmallFile => {}
            Self::AddPart | Self::AddSmallPart | Self::AddPartOnce | Self::AddSmallPartOnce | Self::AbandonPart => {
                target.upload = client.upload(self.sent().len()).await;
            }
            Self::Complete | Self::Cancel | Self::ExpireUploads | Self::Discard => {
                target.upload = client.upload(8).await;
                target.part = client.part(&target.upload, "the part").await;
                client.part(&target.upload, "left over").await;
            }
            Self::Delete | Self::Collect | Self::CollectSmall | Self::Forget => {
                target.file = client.file("the file").await;
            }
            Self::ExpireFiles => {
                let form =
                    form("the file").text("expires_after[anchor]", "created_at").text("expires_after[seconds]", "3600");
                target.file = id(&client.send(client.request(Method::POST, "/v1/files").multipart(form)).await.ok());
            }
        }
        self.age(app, &target).await;
        if self == Self::Forget {
            app.sweep();
            app.let_time_pass("30 days").await;
        }
        target
    }

    /// Lets the time pass that a sweep waits for.
    async fn age(self, app: &TestApp, target: &Target) {
        match self {
            Self::ExpireUploads => app.expire(&target.upload).await,
            Self::ExpireFiles => app.let_time_pass("2 hours").await,
            Self::Discard => {
                let id = target.upload.replace("upload_", "");
                let leave = format!(
                    "begin; update upload set status = 'cancelled', ended_at = now() where id = '{id}';
                     insert into unfinished_discard (upload_id) values ('{id}'); commit"
                );
                app.pool.execute(sqlx::raw_sql(AssertSqlSafe(leave))).await.unwrap();
            }
            Self::Collect | Self::CollectSmall | Self::Forget => {
                app.client.delete(&format!("/v1/files/{}", target.file)).await.ok();
                app.let_time_pass("2 hours").await;
            }
            Self::CreateUpload
            | Self::AddPart
            | Self::AddSmallPart
            | Self::AbandonPart
            | Self::CreateUploadOnce
            | Self::AddPartOnce
            | Self::AddSmallPartOnce
            | Self::CreateFileOnce
            | Self::CreateFile
            | Self::CreateSmallFile
            | Self::Complete
            | Self::Cancel
            | Self::Delete => {}
        }
    }

    /// Runs the operation, which must not be acknowledged.
    pub async fn attempt(self, client: &Client, target: &Target) {
        let Some(answered) = self.send(client, target).await else { return };
        assert!(answered.is_err() || self == Self::AbandonPart, "{self:?} was acknowledged: {answered:?}");
    }

    /// Sends the operation's request; `None` if it is a sweep.
    pub async fn send(self, client: &Client, target: &Target) -> Option<reqwest::Result<Response>> {
        let Target { upload, part, file, key } = target;
        let parts = format!("/v1/uploads/{upload}/parts");
        let request = match self {
            Self::CreateUpload | Self::CreateUploadOnce => client.request(Method::POST, "/v1/uploads").json(&json!({
                "filename": "a", "purpose": "user_data", "bytes": 1, "mime_type": "text/plain"})),
            Self::AddPart | Self::AddSmallPart | Self::AddPartOnce | Self::AddSmallPartOnce => {
                client.request(Method::POST, &parts).multipart(Form::new().part("data", Part::bytes(self.sent())))
            }
            Self::AbandonPart => {
                // Without a length, the part is found to be too large only while it is received.
                let pieces = [Ok::<_, std::io::Error>(self.sent()), Ok(vec![0; 1_000_000])];
                let body = Body::wrap_stream(stream::iter(pieces));
                client.request(Method::POST, &parts).multipart(Form::new().part("data", Part::stream(body)))
            }
            Self::CreateFile | Self::CreateSmallFile | Self::CreateFileOnce => {
                client.request(Method::POST, "/v1/files").multipart(form(self.sent()))
            }
            Self::Complete => client
                .request(Method::POST, &format!("/v1/uploads/{upload}/complete"))
                .json(&json!({"part_ids": [part]})),
            Self::Cancel => client.request(Method::POST, &format!("/v1/uploads/{upload}/cancel")),
            Self::Delete => client.request(Method::DELETE, &format!("/v1/files/{file}")),
            Self::ExpireUploads
            | Self::ExpireFiles
            | Self::Discard
            | Self::Collect
            | Self::CollectSmall
            | Self::Forget => return None,
        };
        let request = if self.has_a_key() { request.header("idempotency-key", key) } else { request };
        Some(request.send().await)
    }

    /// Checks after the restart that the operation was done completely (if `committed`) or not at all, and then repeats
    /// it as a client would.
    pub async fn check(self, client: &Client, target: &Target, committed: bool) {
        let Target { upload, part, file, .. } = target;
        match self {
            Self::CreateUploadOnce | Self::AddPartOnce | Self::AddSmallPartOnce | Self::CreateFileOnce => {
                self.repeat(client, target, committed).await;
            }
            Self::CreateUpload | Self::ExpireFiles | Self::Collect | Self::CollectSmall | Self::Forget => {}
            Self::AddPart | Self::AddSmallPart | Self::AbandonPart => {
                let listed = client.get(&format!("/v1/uploads/{upload}/parts")).await.ok();
                let stored = listed["data"].as_array().unwrap();
                assert_eq!(stored.len(), usize::from(committed), "{listed}");
                let part = match stored.first() {
                    Some(part) => id(part),
                    None => client.part(upload, self.sent()).await,
                };
                let file = id(&client.complete(upload, &[&part]).await.ok()["file"]);
                assert!(client.download(&file).await == self.sent(), "the part has changed");
                client.delete(&format!("/v1/files/{file}")).await.ok();
            }
            Self::CreateFile | Self::CreateSmallFile => {
                let files = client.get("/v1/files").await.ok();
                let made = |it: &&Value| it["filename"] == "a.bin";
                let made: Vec<_> = files["data"].as_array().unwrap().iter().filter(made).map(id).collect();
                assert_eq!(made.len(), usize::from(committed), "{files}");
                for file in made {
                    assert!(client.download(&file).await == self.sent(), "the file has changed");
                    client.delete(&format!("/v1/files/{file}")).await.ok();
                }
            }
            Self::Complete => {
                let status = client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"].clone();
                assert_eq!(status, if committed { "completed" } else { "pending" });
                let file = id(&client.complete(upload, &[part]).await.ok()["file"]);
                assert_eq!(client.download(&file).await, b"the part");
            }
            Self::Cancel => {
                let again = client.cancel(upload).await;
                if committed {
                    again.error(400, Some("upload_id"));
                } else {
                    assert_eq!(again.ok()["status"], "cancelled");
                }
            }
            Self::Delete if committed => drop(client.get(&format!("/v1/files/{file}")).await.error(404, Some("id"))),
            Self::Delete => assert_eq!(client.download(file).await, b"the file"),
            Self::Discard => {
                let listed = client.get(&format!("/v1/uploads/{upload}/parts")).await.ok();
                assert_eq!(listed["data"].as_array().unwrap().len(), 0, "{listed}");
            }
            Self::ExpireUploads => drop(client.add_part(upload, "late").await.error(410, Some("upload_id"))),
        }
    }

    /// Repeats an idempotent request: if it was committed, that has the same response and creates nothing.
    async fn repeat(self, client: &Client, target: &Target, committed: bool) {
        let parts = format!("/v1/uploads/{}/parts", target.upload);
        let path = if self == Self::CreateUploadOnce {
            "/v1/uploads"
        } else if self == Self::CreateFileOnce {
            "/v1/files"
        } else {
            &parts
        };
        let list = async || client.get(path).await.ok()["data"].as_array().unwrap().iter().map(id).collect::<Vec<_>>();
        let before = list().await;
        let answer = Answer::from(self.send(client, target).await.unwrap().unwrap()).await;
        assert_eq!(answer.header("idempotent-replayed").is_some(), committed, "{self:?}");
        let after = list().await;
        assert!(after.contains(&id(&answer.ok())), "{self:?}");
        assert_eq!(after.len(), before.len() + usize::from(!committed), "{self:?}");
        if self == Self::CreateFileOnce {
            client.delete(&format!("/v1/files/{}", id(&answer.ok()))).await.ok();
        } else {
            let upload = if self == Self::CreateUploadOnce { &id(&answer.ok()) } else { &target.upload };
            client.cancel(upload).await.ok();
        }
    }
}
