//! Error responses to requests that reach no handler: their head is malformed, too large or too slow. They have the
//! format and the headers of every other error, and close the connection.

use std::time::Instant;

use actix_web::ResponseError as _;
use actix_web::body::MessageBody as _;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::error::ApiError;
use super::stamp::Stamp;

/// The whole response, as it goes over the wire.
pub fn response(error: &ApiError) -> Bytes {
    let stamp = Stamp::new(Instant::now());
    let mut response = error.error_response();
    let status = response.status();
    stamp.log(status);
    stamp.mark(response.headers_mut());
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
