//! Error responses to requests that do not reach a handler, because the head is malformed, too large or too slow. They
//! have the format and the headers of all other errors, and close the connection.

use std::time::Instant;

use actix_web::ResponseError as _;
use actix_web::body::MessageBody as _;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::http::access_log::RequestRecord;
use crate::http::error::ApiError;

/// Renders the whole response as HTTP/1.1 bytes, and logs the request.
pub fn response(error: &ApiError) -> Bytes {
    let record = RequestRecord::new(Instant::now());
    let mut response = error.error_response();
    let status = response.status();
    record.log_rejected(status);
    record.mark(response.headers_mut());
    let headers = std::mem::take(response.headers_mut());
    let body = response.into_body().try_into_bytes().unwrap_or_default();
    let mut wire = BytesMut::with_capacity(1024);
    wire.put(format!("HTTP/1.1 {status}\r\n").as_bytes());
    let more = [(CONTENT_LENGTH, body.len().into()), (CONNECTION, HeaderValue::from_static("close"))];
    for (name, value) in headers.into_iter().chain(more) {
        wire.put(name.as_str().as_bytes());
        wire.put_slice(b": ");
        wire.put(value.as_bytes());
        wire.put_slice(b"\r\n");
    }
    wire.put_slice(b"\r\n");
    wire.put(body);
    wire.freeze()
}
