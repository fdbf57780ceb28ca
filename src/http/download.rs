//! Downloads of a File: the whole File, a byte range, or 304 if the client has a copy (RFC 9110, sections 13 and 14).
//! Browsers save it instead of displaying it.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody, SizedStream};
use actix_web::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    IF_NONE_MATCH,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, Path};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError as _};
use bytes::Bytes;
use futures_util::stream;
use windlass_engine::model::{File, UrlClaims};
use windlass_engine::{self as engine, ContentStream, FileSlice, Service};
use windlass_types::ErrorResponse;

use super::access_log::BytesOut;
use super::attachment::attachment;
use super::auth::AuthenticatedProject;
use super::connection::SendfileQueue;
use super::digests::wanted;
use super::error::ApiError;
use super::range;
use super::requests::FileBytes;
use super::requests::file_id;
use super::subject::{Fact, note};

/// Up to this many bytes are sent through actix, together with the head: a separate packet costs more than a copy.
const SMALL_BYTES: usize = 16 * 1024;

/// Clients may cache a File, but must revalidate it, since their access may have ended.
const CACHED: (HeaderName, &str) = (CACHE_CONTROL, "private, no-cache");

/// The bytes of a File. `HEAD`, `Range` (one range), `If-Range` and `If-None-Match` are extensions.
#[utoipa::path(
    get, path = "/files/{file_id}/content", tag = "Files", operation_id = "downloadFile",
    params(
        ("file_id" = String, Path),
        ("range" = Option<String>, Header, nullable = false, description = "Extension: a single byte range, such as `bytes=0-1023`. Multiple or invalid ranges are ignored."),
        ("if-range" = Option<String>, Header, nullable = false, description = "Extension: the `etag` of the File that the range refers to; with any other, the whole File is sent."),
        ("if-none-match" = Option<String>, Header, nullable = false, description = "Extension: the `etag` of the client's copy."),
        ("want-repr-digest" = Option<String>, Header, nullable = false, description = "Extension: the preferred algorithms for `repr-digest` (RFC 9530), such as `sha-256=1`. An invalid value is ignored."),
        ("want-content-digest" = Option<String>, Header, nullable = false, description = "Extension: as `want-repr-digest`, for `content-digest`."),
    ),
    responses(
        (status = 200, description = "The whole File.", content_type = "application/octet-stream", body = inline(FileBytes), headers(
            ("content-disposition" = String, description = "The name under which to save it."),
            ("etag" = String, description = "Extension: identifies the bytes; it never changes."),
            ("accept-ranges" = String, description = "Extension: `bytes`."),
            ("repr-digest" = String, description = "Extension: the digests of the File that are known (RFC 9530)."),
            ("content-digest" = String, description = "Extension: the same, if the request has `want-content-digest`."),
        )),
        (status = 206, description = "Extension: the requested range.", content_type = "application/octet-stream", body = inline(FileBytes), headers(
            ("content-disposition" = String, description = "The name under which to save it."),
            ("content-range" = String, description = "The range sent, and the size of the File."),
            ("repr-digest" = String, description = "The digests of the whole File that are known (RFC 9530)."),
            ("etag" = String, description = "Identifies the bytes; it never changes."),
        )),
        (status = 304, description = "Extension: the client's copy is up to date (not modified).", headers(("etag" = String, description = "Identifies the bytes; it never changes."))),
        (status = 400, description = "The request is invalid.", body = ErrorResponse),
        (status = 404, description = "The File was not found.", body = ErrorResponse),
        (status = 416, description = "Extension: the range is outside the File.", body = ErrorResponse, headers(
            ("content-range" = String, description = "The size of the File, as `bytes */size`."),
        )),
    )
)]
pub async fn download_file(
    service: Data<Service>,
    project: AuthenticatedProject,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = file_id(&id)?;
    note(Fact::File(id));
    let file = service.get_file(project.0, id).await?;
    respond(&service, &request, &file, &attachment(&file.filename), None).await
}

/// Responds with the content of a File. `url` is the signed URL that is used, if there is one.
///
/// # Errors
/// When the content cannot be read, or the URL can be used once and another request used it first.
pub async fn respond(
    service: &Service,
    request: &HttpRequest,
    file: &File,
    disposition: &str,
    url: Option<&UrlClaims>,
) -> Result<HttpResponse, ApiError> {
    let (etag, size) = (etag(file), file.bytes.get());
    if has_current_copy(request.headers(), &etag) {
        return Ok(HttpResponse::NotModified().insert_header(CACHED).insert_header((ETAG, etag)).finish());
    }
    let is_head = request.method() == Method::HEAD;
    // A range is defined for GET only (RFC 9110, section 14.2).
    let requested = if is_head { None } else { range::requested(request.headers(), &etag) };
    let range = match requested.map(|range| range.within(size)) {
        Some(None) => return Ok(outside(size)),
        Some(Some(range)) => Some(range),
        None => None,
    };
    let mut answer = HttpResponse::build(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
    answer
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((CONTENT_DISPOSITION, disposition))
        .insert_header((ACCEPT_RANGES, "bytes"))
        .insert_header(CACHED)
        .insert_header((ETAG, etag));
    if let Some(range) = &range {
        answer.insert_header((CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    wanted::add(&mut answer, request.headers(), &file.digests, range.is_none());
    let range = range.unwrap_or(0..size);
    let length = range.end - range.start;
    if is_head {
        return Ok(answer.body(SizedStream::new(length, stream::empty::<Result<_, ApiError>>())));
    }
    let mut content = service.read_file(file, range).await?;
    // Read before the head is sent, so that an unreadable object still results in an error status.
    let first = content.next().await.transpose()?;
    if let Some(url) = url {
        service.use_download_url(url).await?;
    }
    let sendfile_queue = request
        .conn_data::<SendfileQueue>()
        .cloned()
        .ok_or(engine::Error::Bug("the connection has no sendfile queue"))?;
    let bytes_out = request.extensions().get::<BytesOut>().cloned().unwrap_or_default();
    let body = ContentBody { first, content, sendfile_queue, left: length, queued: 0, bytes_out };
    Ok(answer.no_chunking(length).body(body))
}

/// The response body: the bytes of a File, most of which bypass actix.
struct ContentBody {
    first: Option<FileSlice>,
    content: ContentStream,
    sendfile_queue: SendfileQueue,
    /// Bytes in the queue, which are sent once it is empty.
    queued: u64,
    bytes_out: BytesOut,
    /// The number of bytes that are still to be produced.
    left: u64,
}

impl MessageBody for ContentBody {
    type Error = ApiError;

    /// The length is already in the head. actix must not count the bytes, since most of them bypass it.
    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    /// An error makes actix abort the connection, so that the client detects the truncation.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ApiError>>> {
        let this = self.get_mut();
        if !this.sendfile_queue.is_empty() {
            return Poll::Pending;
        }
        this.bytes_out.0.add(mem::take(&mut this.queued));
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let next = match this.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(this.content.poll_next(cx)),
        };
        let slice = next.unwrap_or(Err(engine::Error::ShuttingDown))?;
        this.left = this.left.saturating_sub(slice.length());
        match slice {
            FileSlice::Memory(bytes) if bytes.len() <= SMALL_BYTES => Poll::Ready(Some(Ok(bytes))),
            FileSlice::Memory(_) | FileSlice::File(..) => {
                this.queued = slice.length();
                this.sendfile_queue.send(slice);
                // The next flush sends the slice, and then wakes this task.
                Poll::Pending
            }
        }
    }
}

/// A File never changes, so its id identifies its bytes.
fn etag(file: &File) -> String {
    format!("\"{}\"", file.id)
}

fn has_current_copy(headers: &HeaderMap, etag: &str) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).filter_map(|it| it.to_str().ok());
    tags.flat_map(|it| it.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

fn outside(size: u64) -> HttpResponse {
    let mut answer = ApiError::range_not_satisfiable(size).error_response();
    if let Ok(range) = format!("bytes */{size}").parse() {
        answer.headers_mut().insert(CONTENT_RANGE, range);
    }
    answer
}
