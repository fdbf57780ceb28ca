//! An HTTP client with a method for each endpoint. Unless a method says otherwise, it returns any response unchecked.

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

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Reads the body; it is empty if reading fails.
    pub async fn from(answer: Response) -> Self {
        let (status, headers) = (answer.status(), answer.headers().clone());
        Self { status, headers, body: answer.bytes().await.unwrap_or_default() }
    }

    /// Reads the body, or returns the error if it is cut off.
    pub async fn whole(answer: Response) -> reqwest::Result<Self> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Self { status, headers, body: answer.bytes().await? })
    }

    /// The JSON body; asserts that the status is 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The error object; asserts the status, `param` and the shape of an OpenAI error.
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

/// The `id` of an object in a response.
#[track_caller]
pub fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap_or_else(|| panic!("no id in {thing}")).to_owned()
}

impl Client {
    pub fn new(address: &str, key: &str) -> Self {
        Self { http: reqwest::Client::new(), address: address.to_owned(), key: key.to_owned() }
    }

    /// The same client, but with a new connection for every request.
    pub fn alone(&self) -> Self {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { http, ..self.clone() }
    }

    /// A request with this client's key.
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

    /// Creates an Upload of `bytes` bytes. Returns its id.
    pub async fn upload(&self, bytes: usize) -> String {
        id(&self.begin_upload(bytes).await.ok())
    }

    pub async fn add_part(&self, upload: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        let form = Form::new().part("data", Part::bytes(bytes.into()).file_name("upload"));
        self.send(self.request(Method::POST, &format!("/v1/uploads/{upload}/parts")).multipart(form)).await
    }

    /// Adds a Part. Returns its id.
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

    /// Creates a File with these bytes. Returns its id.
    pub async fn file(&self, bytes: impl Into<Vec<u8>>) -> String {
        id(&self.create_file("user_data", bytes).await.ok())
    }

    /// Creates an Upload. Returns its id, or `None` if there is no complete response (the program was killed).
    pub async fn try_upload(&self, bytes: usize) -> Option<String> {
        let body = json!({"filename": "a", "purpose": "user_data", "bytes": bytes, "mime_type": "text/plain"});
        self.try_id(self.request(Method::POST, "/v1/uploads").json(&body)).await
    }

    /// Adds a Part. Returns its id, or `None` if there is no complete response.
    pub async fn try_part(&self, upload: &str, bytes: &[u8]) -> Option<String> {
        let form = Form::new().part("data", Part::bytes(bytes.to_vec()));
        self.try_id(self.request(Method::POST, &format!("/v1/uploads/{upload}/parts")).multipart(form)).await
    }

    /// Creates a File. Returns its id, or `None` if there is no complete response.
    pub async fn try_file(&self, bytes: &[u8]) -> Option<String> {
        let file = Part::bytes(bytes.to_vec()).file_name("data.bin");
        let form = Form::new().part("file", file).text("purpose", "user_data");
        self.try_id(self.request(Method::POST, "/v1/files").multipart(form)).await
    }

    /// Completes an Upload of one Part. Returns the File's id, or `None` if there is no complete response.
    pub async fn try_complete(&self, upload: &str, part: &str) -> Option<String> {
        let path = format!("/v1/uploads/{upload}/complete");
        let request = self.request(Method::POST, &path).json(&json!({ "part_ids": [part] }));
        Some(id(&self.try_json(request).await?["file"]))
    }

    /// Deletes a File. Returns its id, or `None` if there is no complete response.
    pub async fn try_delete(&self, file: &str) -> Option<String> {
        self.try_id(self.request(Method::DELETE, &format!("/v1/files/{file}"))).await
    }

    async fn try_id(&self, request: RequestBuilder) -> Option<String> {
        Some(id(&self.try_json(request).await?))
    }

    /// The JSON of a 200; `None` if there is no complete response. Asserts that there is no other status.
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
