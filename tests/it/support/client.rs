//! A client with a method an endpoint. It says what was answered, and judges nothing.

use bytes::Bytes;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

/// A client of one project.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub address: String,
    pub key: String,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub async fn from(answer: Response) -> Self {
        let (status, headers) = (answer.status(), answer.headers().clone());
        Self { status, headers, body: answer.bytes().await.unwrap_or_default() }
    }

    /// The same, unless it breaks off.
    pub async fn whole(answer: Response) -> reqwest::Result<Self> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Self { status, headers, body: answer.bytes().await? })
    }

    /// The JSON of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The error object of a failure with this status and `param`.
    #[track_caller]
    pub fn error(&self, status: u16, param: Option<&str>) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{text}");
        let error = self.json()["error"].clone();
        assert_eq!(error["param"].as_str(), param, "{text}");
        assert!(error["message"].as_str().is_some_and(|it| it.len() > 10), "{text}");
        assert!(error["type"].is_string() && (error["code"].is_string() || error["code"].is_null()), "{text}");
        error
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The id of a thing that was answered.
#[track_caller]
pub fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap_or_else(|| panic!("no id in {thing}")).to_owned()
}

impl Client {
    pub fn new(address: &str, key: &str) -> Self {
        Self { http: reqwest::Client::new(), address: address.to_owned(), key: key.to_owned() }
    }

    /// The same client with a connection of its own for every request.
    pub fn alone(&self) -> Self {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { http, ..self.clone() }
    }

    /// A request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.address)).bearer_auth(&self.key)
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::from(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn begin_upload(&self, bytes: usize) -> Answer {
        let body = json!({"filename": "a file.bin", "purpose": "user_data", "bytes": bytes, "mime_type": "application/octet-stream"});
        self.post("/v1/uploads", &body).await
    }

    /// An Upload of so many bytes; its id.
    pub async fn upload(&self, bytes: usize) -> String {
        id(&self.begin_upload(bytes).await.ok())
    }

    pub async fn add_part(&self, upload: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        let form = Form::new().part("data", Part::bytes(bytes.into()).file_name("upload"));
        self.send(self.request(Method::POST, &format!("/v1/uploads/{upload}/parts")).multipart(form)).await
    }

    /// A stored Part; its id.
    pub async fn part(&self, upload: &str, bytes: impl Into<Vec<u8>>) -> String {
        id(&self.add_part(upload, bytes).await.ok())
    }

    pub async fn complete(&self, upload: &str, parts: &[&str]) -> Answer {
        self.post(&format!("/v1/uploads/{upload}/complete"), &json!({ "part_ids": parts })).await
    }

    pub async fn cancel(&self, upload: &str) -> Answer {
        self.send(self.request(Method::POST, &format!("/v1/uploads/{upload}/cancel"))).await
    }

    pub async fn create_file(&self, purpose: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        let name = if matches!(purpose, "batch" | "fine-tune") { "data.jsonl" } else { "data.bin" };
        let file = Part::bytes(bytes.into()).file_name(name);
        let form = Form::new().text("purpose", purpose.to_owned()).part("file", file);
        self.send(self.request(Method::POST, "/v1/files").multipart(form)).await
    }

    /// A File with these bytes; its id.
    pub async fn file(&self, bytes: impl Into<Vec<u8>>) -> String {
        id(&self.create_file("user_data", bytes).await.ok())
    }

    /// An Upload's id, unless the program went away.
    pub async fn try_upload(&self, bytes: usize) -> Option<String> {
        let body = json!({"filename": "a", "purpose": "user_data", "bytes": bytes, "mime_type": "text/plain"});
        self.try_id(self.request(Method::POST, "/v1/uploads").json(&body)).await
    }

    /// A stored Part's id, unless the program went away.
    pub async fn try_part(&self, upload: &str, bytes: &[u8]) -> Option<String> {
        let form = Form::new().part("data", Part::bytes(bytes.to_vec()));
        self.try_id(self.request(Method::POST, &format!("/v1/uploads/{upload}/parts")).multipart(form)).await
    }

    /// A File's id, unless the program went away.
    pub async fn try_file(&self, bytes: &[u8]) -> Option<String> {
        let file = Part::bytes(bytes.to_vec()).file_name("data.bin");
        let form = Form::new().part("file", file).text("purpose", "user_data");
        self.try_id(self.request(Method::POST, "/v1/files").multipart(form)).await
    }

    /// The id of the File that an Upload of one Part became, unless the program went away.
    pub async fn try_complete(&self, upload: &str, part: &str) -> Option<String> {
        let path = format!("/v1/uploads/{upload}/complete");
        let request = self.request(Method::POST, &path).json(&json!({ "part_ids": [part] }));
        Some(id(&self.try_json(request).await?["file"]))
    }

    /// Deletes a File, unless the program went away.
    pub async fn try_delete(&self, file: &str) -> Option<String> {
        self.try_id(self.request(Method::DELETE, &format!("/v1/files/{file}"))).await
    }

    async fn try_id(&self, request: RequestBuilder) -> Option<String> {
        Some(id(&self.try_json(request).await?))
    }

    /// What was acknowledged; nothing where there was no whole answer.
    async fn try_json(&self, request: RequestBuilder) -> Option<Value> {
        let answer = request.send().await.ok()?;
        let status = answer.status();
        let body = answer.bytes().await.ok()?;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).ok()
    }

    pub async fn download(&self, file: &str) -> Vec<u8> {
        let answer = self.get(&format!("/v1/files/{file}/content")).await;
        assert_eq!(answer.status, StatusCode::OK);
        answer.body.to_vec()
    }
}
