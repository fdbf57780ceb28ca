//! Translates between the model and HTTP. Objects are identified by their file names and bytes, so that one whose
//! response was lost is recognized when it appears in a list.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::operations::{
    Answer, Ask, Case, Claim, Declared, FileView, Name, Page, Paging, PartView, Purpose, Refusal, Request, UploadView,
    content, crc64, md5,
};
use crate::support::{self, Client};

/// The mapping between names and ids.
pub struct IdMap {
    /// The known ids, without their prefixes.
    ids: BTreeMap<Name, String>,
    /// The names of Parts by their checksums.
    parts: BTreeMap<String, Name>,
    /// The sizes of the Parts that are sent.
    sent: BTreeMap<Name, usize>,
}

impl IdMap {
    pub fn new(case: &Case) -> Self {
        let sent: BTreeMap<_, _> = case
            .requests()
            .filter_map(|it| if let Ask::AddPart { bytes, .. } = it.ask { Some((it.name, bytes)) } else { None })
            .collect();
        let parts = sent.iter().map(|(name, bytes)| (crc64(&content(*name, *bytes)), *name)).collect();
        Self { ids: BTreeMap::new(), parts, sent }
    }

    /// The Part with this checksum.
    pub fn part_with(&self, crc64: &str) -> Option<Name> {
        self.parts.get(crc64).copied()
    }

    /// Whether the id of an object is known.
    pub fn knows(&self, name: Name) -> bool {
        self.ids.contains_key(&name)
    }

    /// The id of an object, or a random one if it is not known.
    fn id(&self, prefix: &str, name: Name) -> String {
        let known = self.ids.get(&name).cloned();
        format!("{prefix}{}", known.unwrap_or_else(|| Uuid::now_v7().simple().to_string()))
    }

    /// The request as the client sends it.
    pub fn request(&self, client: &Client, request: &Request) -> RequestBuilder {
        let get = |path: &str| client.request(Method::GET, path);
        let post = |path: &str| client.request(Method::POST, path);
        let upload = |it: Name| format!("/v1/uploads/{}", self.id("upload_", it));
        let file = |it: Name| format!("/v1/files/{}", self.id("file-", it));
        let name = request.name;
        match &request.ask {
            Ask::CreateUpload(it) => {
                let mut body = json!({"filename": filename(name), "purpose": it.purpose.as_str(), "bytes": it.bytes, "mime_type": "text/plain"});
                if let Some(minutes) = it.lifetime {
                    body["expires_after"] = json!({"anchor": "created_at", "seconds": minutes * 60});
                }
                post("/v1/uploads").json(&body)
            }
            Ask::AddPart { upload: it, bytes, truncated } => {
                let data = content(name, *bytes);
                let data = if *truncated { truncated_part(data) } else { Part::bytes(data).file_name("data") };
                post(&format!("{}/parts", upload(*it))).multipart(Form::new().part("data", data))
            }
            Ask::Complete { upload: it, parts, md5: claim } => {
                let ids: Vec<_> = parts.iter().map(|it| self.id("part_", *it)).collect();
                let mut body = json!({ "part_ids": ids });
                let bytes: Vec<_> =
                    parts.iter().flat_map(|it| content(*it, self.sent.get(it).copied().unwrap_or(0))).collect();
                match claim {
                    Claim::None => {}
                    Claim::Right => body["md5"] = md5(&bytes).into(),
                    Claim::Wrong => body["md5"] = md5(b"other bytes").into(),
                }
                post(&format!("{}/complete", upload(*it))).json(&body)
            }
            Ask::Cancel(it) => post(&format!("{}/cancel", upload(*it))),
            Ask::GetUpload(it) => get(&upload(*it)),
            Ask::ListUploads(paging) => get(&format!("/v1/uploads?{}", self.query(paging, "upload_"))),
            Ask::ListParts(it, paging) => get(&format!("{}/parts?{}", upload(*it), self.query(paging, "part_"))),
            Ask::CreateFile(it) => post("/v1/files").multipart(file_form(name, it)),
            Ask::GetFile(it) => get(&file(*it)),
            Ask::ListFiles(purpose, paging) => {
                let purpose = purpose.map(|it| format!("&purpose={}", it.as_str())).unwrap_or_default();
                get(&format!("/v1/files?{}{purpose}", self.query(paging, "file-")))
            }
            Ask::Download(it, None) => get(&format!("{}/content", file(*it))),
            Ask::Download(it, Some((first, last))) => {
                let last = last.map(|it| it.to_string()).unwrap_or_default();
                get(&format!("{}/content", file(*it))).header("range", format!("bytes={first}-{last}"))
            }
            Ask::DeleteFile(it) => client.request(Method::DELETE, &file(*it)),
        }
    }

    fn query(&self, paging: &Paging, prefix: &str) -> String {
        let order = if paging.descending { "desc" } else { "asc" };
        let after = paging.after.map(|it| format!("&after={}", self.id(prefix, it))).unwrap_or_default();
        format!("limit={}&order={order}{after}", paging.limit)
    }

    /// Translates a response.
    pub fn read(&mut self, request: &Request, answer: reqwest::Result<support::Answer>) -> Answer {
        let answer = match answer {
            Err(error) => return Answer::Nothing(format!("{error:?}")),
            Ok(it) if it.status.is_server_error() => {
                return Answer::Nothing(format!("{}: {}", it.status, String::from_utf8_lossy(&it.body)));
            }
            Ok(it) => it,
        };
        let shown = || format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        match (answer.status.as_u16(), &request.ask) {
            (200, Ask::Download(..)) => Answer::ContentStream { bytes: answer.body, partial: false },
            (206, Ask::Download(_, Some(_))) => Answer::ContentStream { bytes: answer.body, partial: true },
            (200, ask) => {
                let value = serde_json::from_slice(&answer.body).ok();
                value.and_then(|it| self.success(ask, &it)).unwrap_or_else(|| Answer::Unexpected(shown()))
            }
            (400.., _) => refusal(&answer).map_or_else(|| Answer::Unexpected(shown()), Answer::Refused),
            _ => Answer::Unexpected(shown()),
        }
    }

    fn success(&mut self, ask: &Ask, value: &Value) -> Option<Answer> {
        Some(match ask {
            Ask::CreateUpload(_) | Ask::GetUpload(_) | Ask::Complete { .. } | Ask::Cancel(_) => {
                Answer::Upload(self.upload(value)?)
            }
            Ask::AddPart { .. } => Answer::Part(self.part(value)?),
            Ask::ListUploads(_) => Answer::Uploads(self.page(value, Self::upload)?),
            Ask::ListParts(..) => Answer::Parts(self.page(value, Self::part)?),
            Ask::CreateFile(_) | Ask::GetFile(_) => Answer::File(self.file(value)?),
            Ask::ListFiles(..) => Answer::Files(self.page(value, Self::file)?),
            Ask::DeleteFile(_) => {
                let id = value["id"].as_str()?.strip_prefix("file-")?;
                let name = self.ids.iter().find(|it| it.1 == id && value["deleted"] == true)?.0;
                Answer::Deleted(*name)
            }
            Ask::Download(..) => return None,
        })
    }

    fn upload(&mut self, value: &Value) -> Option<UploadView> {
        let name = name(value)?;
        self.bind(name, value["id"].as_str()?.strip_prefix("upload_")?)?;
        let an_hour = value["expires_at"].as_i64()? - value["created_at"].as_i64()? == 3600;
        let file = value.get("file").map(|it| self.file(it).filter(|file| file.name == name));
        Some(UploadView {
            name,
            bytes: size(value)?,
            purpose: purpose(value)?,
            status: ["pending", "completed", "cancelled", "expired"].into_iter().find(|it| value["status"] == *it)?,
            file: match file {
                Some(None) => return None,
                Some(file) => file,
                None => None,
            },
        })
        .filter(|_| an_hour)
    }

    fn part(&mut self, value: &Value) -> Option<PartView> {
        let name = self.part_with(value["crc64nvme"].as_str()?)?;
        self.bind(name, value["id"].as_str()?.strip_prefix("part_")?)?;
        let upload = value["upload_id"].as_str()?.strip_prefix("upload_")?;
        let upload = *self.ids.iter().find(|it| it.1 == upload)?.0;
        Some(PartView { name, upload, bytes: size(value)? })
    }

    fn file(&mut self, value: &Value) -> Option<FileView> {
        let name = name(value)?;
        self.bind(name, value["id"].as_str()?.strip_prefix("file-")?)?;
        let created = value["created_at"].as_i64()?;
        let lifetime = value["expires_at"].as_i64().map(|it| u64::try_from(it - created).unwrap_or(0) / 60);
        Some(FileView {
            name,
            declared: Declared { bytes: size(value)?, purpose: purpose(value)?, lifetime },
            crc64: value["crc64nvme"].as_str()?.to_owned(),
            md5: value.get("md5").and_then(Value::as_str).map(str::to_owned),
        })
    }

    fn page<T>(&mut self, value: &Value, item: impl Fn(&mut Self, &Value) -> Option<T>) -> Option<Page<T>> {
        let data = value["data"].as_array()?;
        let id = |it: Option<&Value>| it.map_or(Value::Null, |it| it["id"].clone());
        let edges = value["first_id"] == id(data.first()) && value["last_id"] == id(data.last());
        let items = data.iter().map(|it| item(self, it)).collect::<Option<_>>()?;
        Some(Page { items, more: value["has_more"].as_bool()? }).filter(|_| edges)
    }

    /// Records an id. Returns `None` if the object has another one, or the id belongs to another object.
    fn bind(&mut self, name: Name, id: &str) -> Option<()> {
        let known = self.ids.entry(name).or_insert_with(|| id.to_owned()) == id;
        (known && self.ids.values().filter(|it| *it == id).count() == 1).then_some(())
    }
}

fn filename(name: Name) -> String {
    // The purpose `batch` requires the extension.
    format!("file {}.jsonl", name.0)
}

/// The name of the object with this file name.
pub fn named(filename: &str) -> Option<Name> {
    filename.strip_prefix("file ")?.strip_suffix(".jsonl")?.parse().ok().map(Name)
}

fn name(value: &Value) -> Option<Name> {
    named(value["filename"].as_str()?)
}

fn size(value: &Value) -> Option<usize> {
    value["bytes"].as_u64()?.try_into().ok()
}

fn purpose(value: &Value) -> Option<Purpose> {
    [Purpose::UserData, Purpose::Evals, Purpose::Batch].into_iter().find(|it| value["purpose"] == it.as_str())
}

/// A part that declares more bytes than it sends.
fn truncated_part(data: Vec<u8>) -> Part {
    let promised = data.len() as u64 + 10;
    let pieces = [Ok(Bytes::from(data)), Err(std::io::Error::other("the client disconnects"))];
    Part::stream_with_length(Body::wrap_stream(stream::iter(pieces)), promised).file_name("data")
}

fn file_form(name: Name, declared: &Declared) -> Form {
    let data = Part::bytes(content(name, declared.bytes)).file_name(filename(name));
    let form = Form::new().part("file", data).text("purpose", declared.purpose.as_str());
    match declared.lifetime {
        None => form,
        Some(minutes) => {
            form.text("expires_after[anchor]", "created_at").text("expires_after[seconds]", (minutes * 60).to_string())
        }
    }
}

fn refusal(answer: &support::Answer) -> Option<Refusal> {
    let value: Value = serde_json::from_slice(&answer.body).ok()?;
    let (code, param) = (value["error"]["code"].as_str(), value["error"]["param"].as_str());
    if (answer.status.as_u16(), code) == (400, Some("quota_exceeded")) {
        return Some(Refusal::Quota);
    }
    Some(match (answer.status.as_u16(), code, param?) {
        (404, None, "upload_id") => Refusal::NoSuchUpload,
        (404, None, "id") => Refusal::NoSuchFile,
        (404, None, "after") => Refusal::NoSuchCursor,
        (400, Some("upload_not_pending"), "upload_id" | "part_ids") => Refusal::NotPending,
        (410, Some("upload_expired"), "upload_id") => Refusal::Expired,
        (400, Some("invalid_value"), "part_ids") => Refusal::RepeatedPart,
        (400, Some("parts_do_not_fit"), "part_ids") => Refusal::PartsDoNotFit,
        (400, Some("md5_mismatch"), "md5") => Refusal::WrongMd5,
        (400, Some("empty"), "data") => Refusal::Empty,
        (400, Some("too_large"), "data" | "bytes" | "file") => Refusal::TooLarge,
        (416, Some("range_not_satisfiable"), "range") => Refusal::OutsideTheFile,
        _ => return None,
    })
}
