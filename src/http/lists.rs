//! List responses. A short list is sent in one piece; a long one is streamed in batches, as fast as the client reads
//! them. If the ledger fails midway, the connection is aborted, so that a truncated list never looks complete.

use std::future::ready;

use actix_web::body::BodyStream;
use actix_web::http::header::ContentType;
use actix_web::http::{ConnectionType, Method, Version};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use windlass_engine::model::{File, Part, Upload};
use windlass_engine::{Batch, List, ListItem};
use windlass_types::{FileObject, PartObject, UploadObject};

use super::error::ApiError;
use super::responses::ToObject;

/// Maximum size of a chunk passed to the connection, in bytes.
const CHUNK_BYTES: usize = 32 * 1024;

/// An object that can be listed.
pub trait Item: ListItem + ToObject {
    /// Id of the object on the wire.
    fn id(object: &Self::Object) -> String;
}

impl Item for Upload {
    fn id(object: &UploadObject) -> String {
        object.id.to_string()
    }
}

impl Item for File {
    fn id(object: &FileObject) -> String {
        object.id.to_string()
    }
}

impl Item for Part {
    fn id(object: &PartObject) -> String {
        object.id.to_string()
    }
}

/// Responds with a list. The first batch has already been read, so a failure to read it has an error status.
///
/// # Errors
/// [`ApiError::internal`] when an object cannot be serialized, which is a bug.
pub fn respond<T: Item>(request: &HttpRequest, (list, first): (List<T>, Batch<T>)) -> Result<HttpResponse, ApiError> {
    let mut writer = ListWriter::default();
    let is_last = first.is_last;
    let first = writer.add::<T>(first)?;
    let mut response = HttpResponse::Ok();
    response.content_type(ContentType::json());
    if is_last {
        return Ok(response.body(first));
    }
    if request.method() == Method::HEAD {
        return Ok(response.body(BodyStream::new(stream::empty::<Result<Bytes, ApiError>>())));
    }
    let rest = stream::try_unfold((Some(list), writer), next_batch::<T>);
    let batches = stream::once(ready(Ok(first))).chain(rest);
    let mut response = response.body(BodyStream::new(batches.map_ok(chunks).try_flatten().boxed_local()));
    if request.version() < Version::HTTP_11 {
        // HTTP/1.0 has no chunked encoding: closing the connection ends the list.
        response.head_mut().no_chunking(true);
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// State of a streamed list. `None` after the last batch.
type Streaming<T> = (Option<List<T>>, ListWriter);

async fn next_batch<T: Item>((list, mut writer): Streaming<T>) -> Result<Option<(Bytes, Streaming<T>)>, ApiError> {
    let Some(list) = list else { return Ok(None) };
    let (list, batch) = list.next().await?;
    let list = (!batch.is_last).then_some(list);
    let batch = writer.add::<T>(batch)?;
    Ok(Some((batch, (list, writer))))
}

fn chunks(mut batch: Bytes) -> impl Stream<Item = Result<Bytes, ApiError>> {
    let next = move || (!batch.is_empty()).then(|| Ok(batch.split_to(batch.len().min(CHUNK_BYTES))));
    stream::iter(std::iter::from_fn(next))
}

/// Writes a list as JSON, batch by batch. Holds the ids of the first and the last object written so far.
#[derive(Default)]
struct ListWriter {
    first_id: Option<String>,
    last_id: Option<String>,
}

/// The fields that follow the objects.
#[derive(Serialize)]
struct End<'t> {
    first_id: Option<&'t str>,
    last_id: Option<&'t str>,
    has_more: bool,
}

impl ListWriter {
    /// Writes the next batch; after the last one, also the closing fields.
    fn add<T: Item>(&mut self, batch: Batch<T>) -> Result<Bytes, ApiError> {
        let mut json = Vec::new();
        if self.last_id.is_none() {
            json.extend_from_slice(br#"{"object":"list","data":["#);
        }
        for item in batch.items {
            let object = item.to_object();
            if self.last_id.is_some() {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, &object).map_err(|_| ApiError::internal())?;
            let id = T::id(&object);
            self.first_id.get_or_insert_with(|| id.clone());
            self.last_id = Some(id);
        }
        if batch.is_last {
            let (first_id, last_id) = (self.first_id.as_deref(), self.last_id.as_deref());
            let end = End { first_id, last_id, has_more: batch.has_more };
            let end = serde_json::to_vec(&end).map_err(|_| ApiError::internal())?;
            // Without its opening brace, since the fields continue the object that the first batch opened.
            json.extend_from_slice(b"],");
            json.extend_from_slice(&end[1..]);
        }
        Ok(json.into())
    }
}
