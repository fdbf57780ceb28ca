//! List responses. A short one is sent like any other response; a long one is written as the client reads it, and
//! aborted if the ledger fails in between: it never ends as if it were complete.

use std::future::ready;

use actix_web::body::BodyStream;
use actix_web::http::header::ContentType;
use actix_web::http::{ConnectionType, Method, Version};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::answers::{FileBody, PartBody, UploadBody};
use super::error::ApiError;
use crate::domain::{File, Part, Upload};
use crate::service::{Batch, List, Listed, Service};

/// How much is passed to the connection at once.
const PIECE_BYTES: usize = 32 * 1024;

/// An entry of a list.
pub trait Entry: Serialize + Sized {
    /// What it is made from.
    type From: Listed + Into<Self>;

    /// Its id.
    fn id(&self) -> &str;
}

impl Entry for UploadBody {
    type From = Upload;

    fn id(&self) -> &str {
        &self.id
    }
}

impl Entry for FileBody {
    type From = File;

    fn id(&self) -> &str {
        &self.id
    }
}

impl Entry for PartBody {
    type From = Part;

    fn id(&self) -> &str {
        &self.id
    }
}

/// Responds with a list whose first batch has been read.
///
/// # Errors
/// When it cannot be written as JSON, which is a bug.
pub fn answer<E: Entry + 'static>(
    request: &HttpRequest,
    service: &Service,
    (list, first): (List<E::From>, Batch<E::From>),
) -> Result<HttpResponse, ApiError> {
    let mut text = Text::default();
    let is_last = first.is_last;
    let first = text.add::<E>(first)?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(ContentType::json());
    if is_last {
        return Ok(answer.body(first));
    }
    if request.method() == Method::HEAD {
        return Ok(answer.body(BodyStream::new(stream::empty::<Result<Bytes, ApiError>>())));
    }
    let rest = stream::try_unfold((service.clone(), Some(list), text), read_on::<E>);
    let batches = stream::once(ready(Ok(first))).chain(rest);
    let mut answer = answer.body(BodyStream::new(batches.map_ok(pieces).try_flatten().boxed_local()));
    if request.version() < Version::HTTP_11 {
        // HTTP/1.0 has no chunked encoding: the end of the connection is the end of the list.
        answer.head_mut().no_chunking(true);
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(answer)
}

type Reading<E> = (Service, Option<List<<E as Entry>::From>>, Text);

async fn read_on<E: Entry>((service, list, mut text): Reading<E>) -> Result<Option<(Bytes, Reading<E>)>, ApiError> {
    let Some(mut list) = list else { return Ok(None) };
    let read = |_: Service| async move {
        let batch = list.next().await?;
        Ok((list, batch))
    };
    let (list, batch) = service.run_at_length(read).await?;
    let list = (!batch.is_last).then_some(list);
    let batch = text.add::<E>(batch)?;
    Ok(Some((batch, (service, list, text))))
}

fn pieces(mut batch: Bytes) -> impl Stream<Item = Result<Bytes, ApiError>> {
    let next = move || (!batch.is_empty()).then(|| Ok(batch.split_to(batch.len().min(PIECE_BYTES))));
    stream::iter(std::iter::from_fn(next))
}

/// The JSON text of a list, as far as it has been written.
#[derive(Default)]
struct Text {
    first_id: Option<String>,
    last_id: Option<String>,
}

/// The fields at the end of a list.
#[derive(Serialize)]
struct End<'t> {
    first_id: Option<&'t str>,
    last_id: Option<&'t str>,
    has_more: bool,
}

impl Text {
    /// Writes the next entries, and after the last of them the end.
    fn add<E: Entry>(&mut self, batch: Batch<E::From>) -> Result<Bytes, ApiError> {
        let mut text = Vec::new();
        if self.last_id.is_none() {
            text.extend_from_slice(br#"{"object":"list","data":["#);
        }
        for item in batch.items {
            let entry: E = item.into();
            if self.last_id.is_some() {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, &entry).map_err(|_| ApiError::internal())?;
            self.first_id.get_or_insert_with(|| entry.id().to_owned());
            self.last_id = Some(entry.id().to_owned());
        }
        if batch.is_last {
            let (first_id, last_id) = (self.first_id.as_deref(), self.last_id.as_deref());
            let end = End { first_id, last_id, has_more: batch.has_more };
            let end = serde_json::to_vec(&end).map_err(|_| ApiError::internal())?;
            // These fields belong to the object that has been opened.
            text.extend_from_slice(b"],");
            text.extend_from_slice(&end[1..]);
        }
        Ok(text.into())
    }
}
