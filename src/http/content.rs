//! A File's bytes on their way out: whole, in part, or not at all where the client has them
//! (RFC 9110, sections 13 and 14). Never shown by a browser, always saved.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody, SizedStream};
use actix_web::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};
use bytes::Bytes;
use futures_util::stream;

use super::answers::{ErrorBody, FileBytes};
use super::attachment::attachment;
use super::auth::Asker;
use super::connection::Outlet;
use super::error::ApiError;
use super::requests::file_id;
use crate::domain::File;
use crate::service::{self, ByteRange, Content, Service, Stretch};

/// Fewer bytes are sent together with what precedes them: a packet of their own costs more than a copy.
const SMALL_BYTES: usize = 16 * 1024;

/// Clients may keep a File, but have to ask whether they may still see it.
const CACHED: (HeaderName, &str) = (CACHE_CONTROL, "private, no-cache");

/// The bytes of a File. `HEAD`, `Range` (one range), `If-Range` and `If-None-Match` are extensions.
#[utoipa::path(
    get, path = "/files/{file_id}/content", tag = "Files", operation_id = "downloadFile",
    params(
        ("file_id" = String, Path),
        ("range" = Option<String>, Header, nullable = false, description = "Extension: a single byte range, such as `bytes=0-1023`. Multiple or invalid ranges are ignored."),
        ("if-range" = Option<String>, Header, nullable = false, description = "Extension: the `etag` of the File that the range refers to; with any other, the whole File is sent."),
        ("if-none-match" = Option<String>, Header, nullable = false, description = "Extension: the `etag` that the client has already."),
    ),
    responses(
        (status = 200, description = "The whole File.", content_type = "application/octet-stream", body = inline(FileBytes), headers(
            ("content-disposition" = String, description = "The name under which to save it."),
            ("etag" = String, description = "Extension: identifies the bytes; it never changes."),
            ("accept-ranges" = String, description = "Extension: `bytes`."),
        )),
        (status = 206, description = "Extension: the requested range.", content_type = "application/octet-stream", body = inline(FileBytes), headers(
            ("content-disposition" = String, description = "The name under which to save it."),
            ("content-range" = String, description = "The range sent, and the size of the File."),
            ("etag" = String, description = "Identifies the bytes; it never changes."),
        )),
        (status = 304, description = "Extension: the client already has it (not modified).", headers(("etag" = String, description = "Identifies the bytes; it never changes."))),
        (status = 400, description = "The request is invalid.", body = ErrorBody),
        (status = 404, description = "The File was not found.", body = ErrorBody),
        (status = 416, description = "Extension: the range is outside the File.", body = ErrorBody, headers(
            ("content-range" = String, description = "The size of the File, as `bytes */size`."),
        )),
    )
)]
pub async fn download_file(
    service: Data<Service>,
    asker: Asker,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = file_id(&id)?;
    let file = service.run(|it| it.get_file(asker.0, id)).await?;
    let (etag, size) = (etag(&file), file.bytes.get());
    if has_it_already(request.headers(), &etag) {
        return Ok(HttpResponse::NotModified().insert_header(CACHED).insert_header((ETAG, etag)).finish());
    }
    let is_head = request.method() == Method::HEAD;
    // A range is defined for GET only (RFC 9110, section 14.2).
    let asked = if is_head { None } else { asked_range(request.headers(), &etag) };
    let range = match asked.map(|range| range.within(size)) {
        Some(None) => return Ok(outside(size)),
        Some(Some(range)) => Some(range),
        None => None,
    };
    let mut answer = HttpResponse::build(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
    answer
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((CONTENT_DISPOSITION, attachment(&file.filename)))
        .insert_header((ACCEPT_RANGES, "bytes"))
        .insert_header(CACHED)
        .insert_header((ETAG, etag));
    if let Some(range) = &range {
        answer.insert_header((CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    let range = range.unwrap_or(0..size);
    let length = range.end - range.start;
    if is_head {
        return Ok(answer.body(SizedStream::new(length, stream::empty::<Result<_, ApiError>>())));
    }
    let mut content = service.run_at_length(|it| it.read_file(asker.0, id, range)).await?;
    // Before anything is sent, an object that cannot be read is still an error with a status.
    let first = content.next().await.transpose()?;
    let outlet = request.conn_data::<Outlet>().cloned().ok_or(service::Error::Interrupted)?;
    Ok(answer.no_chunking(length).body(ContentBody { first, content, outlet, left: length }))
}

/// The bytes of a File, most of which bypass actix.
struct ContentBody {
    first: Option<Stretch>,
    content: Content,
    outlet: Outlet,
    /// How many have not been sent yet.
    left: u64,
}

impl MessageBody for ContentBody {
    type Error = ApiError;

    /// Its length is already in the head; actix must not count bytes, since it sees few of them.
    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    /// An error makes actix abort the connection: the client sees that bytes are missing.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ApiError>>> {
        let this = self.get_mut();
        if !this.outlet.is_empty() {
            return Poll::Pending;
        }
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let next = match this.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(this.content.poll_next(cx)),
        };
        let stretch = next.unwrap_or(Err(service::Error::Interrupted))?;
        this.left = this.left.saturating_sub(stretch.length());
        match stretch {
            Stretch::Memory(bytes) if bytes.len() <= SMALL_BYTES => Poll::Ready(Some(Ok(bytes))),
            Stretch::Memory(_) | Stretch::File(..) => {
                this.outlet.send(stretch);
                // The next flush sends it, and then asks for more.
                Poll::Pending
            }
        }
    }
}

/// A File never changes, so its id identifies its bytes.
fn etag(file: &File) -> String {
    format!("\"{}\"", file.id)
}

fn has_it_already(headers: &HeaderMap, etag: &str) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).filter_map(|it| it.to_str().ok());
    tags.flat_map(|it| it.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// The requested range; `None` if there is none, several, or an invalid one, or if `If-Range` is about other bytes:
/// then the response is the whole File.
fn asked_range(headers: &HeaderMap, etag: &str) -> Option<ByteRange> {
    if text(headers, &IF_RANGE).is_some_and(|it| it.trim() != etag) {
        return None;
    }
    let (first, last) = text(headers, &RANGE)?.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        text.trim().bytes().all(|b| b.is_ascii_digit()).then(|| text.trim().parse::<u64>().unwrap_or(u64::MAX))
    };
    match (first.trim(), last.trim()) {
        ("", "") => None,
        ("", count) => Some(ByteRange::Last(number(count)?)),
        (first, "") => Some(ByteRange::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::From(first, Some(last)))
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn outside(size: u64) -> HttpResponse {
    let mut answer = ApiError::range_not_satisfiable(size).error_response();
    if let Ok(range) = format!("bytes */{size}").parse() {
        answer.headers_mut().insert(CONTENT_RANGE, range);
    }
    answer
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn range(header: &str) -> Option<ByteRange> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(header).unwrap());
        asked_range(&headers, "\"x\"")
    }

    #[test]
    fn one_byte_range_is_understood_and_everything_else_is_the_whole_file() {
        assert_eq!(range("bytes=0-0"), Some(ByteRange::From(0, Some(0))));
        assert_eq!(range("bytes=5-"), Some(ByteRange::From(5, None)));
        assert_eq!(range("bytes=-5"), Some(ByteRange::Last(5)));
        assert_eq!(range("bytes=5-99999999999999999999999"), Some(ByteRange::From(5, Some(u64::MAX))));
        for whole in ["bytes=", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "0-1"] {
            assert_eq!(range(whole), None, "{whole}");
        }
    }
}
