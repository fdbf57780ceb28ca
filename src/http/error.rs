//! Errors on the wire: one shape, and one function that gives every failure its status.
//!
//! Never 409, 413 or 423: SDKs retry 409 blindly, and the contract answers 400 (its sections 1 and 7).

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};

use super::answers::{ErrorBody, ErrorDetail};
use crate::db;
use crate::domain::{BadDeclaration, Shown};
use crate::service::{self, NotReady};

/// Seconds after which a rejected request may be retried. SDKs wait for no more than 60.
const TRY_AGAIN_SECONDS: u16 = 1;

/// The maximum length of a message. It may repeat what a client sent, which may be as long as its request.
const MOST_MESSAGE_BYTES: usize = 1024;

/// The same for the name of an unknown parameter.
const MOST_PARAM_BYTES: usize = 256;

/// The maximum number of a request's headers, which actix sets.
const MOST_HEADERS: usize = 96;

/// A failure as a client sees it (contract section 1.10).
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, code: Option<&'static str>, param: Option<&str>, message: impl fmt::Display) -> Self {
        let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let message = shortened(message.to_string(), MOST_MESSAGE_BYTES);
        let param = param.map(|it| shortened(it.to_owned(), MOST_PARAM_BYTES));
        Self { status, message, kind, param, code }
    }

    /// Something in the request is not as it should be; `param` names it.
    pub fn invalid(param: &str, message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("invalid_value"), Some(param), message)
    }

    /// The request as a whole is not as it should be.
    pub fn malformed(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("malformed_request"), None, message)
    }

    /// Something that must be there is not.
    pub fn missing(param: &str, what_is_right: impl fmt::Display) -> Self {
        let message = format!("Missing required parameter: '{param}'. It is {what_is_right}.");
        Self::new(StatusCode::BAD_REQUEST, Some("missing_required_parameter"), Some(param), message)
    }

    /// An unknown parameter or field was sent.
    pub fn unknown(param: &str, known: &[&str]) -> Self {
        let message = format!("Unknown parameter: '{}'. Known parameters: {}.", Shown(param), known.join(", "));
        Self::new(StatusCode::BAD_REQUEST, Some("unknown_parameter"), Some(param), message)
    }

    /// No object with that id, whether or not the text is a valid id.
    pub fn no_such(what: &str, param: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, None, Some(param), format!("No such {what} object: {}", Shown(id)))
    }

    /// No operation at that path.
    pub fn no_such_path(method: &str, path: &str) -> Self {
        let message = format!("Unknown request URL: {} {}.", Shown(method), Shown(path));
        Self::new(StatusCode::NOT_FOUND, Some("unknown_url"), None, message)
    }

    /// No such operation at that path. The caller adds `allow`.
    pub fn method_not_allowed(method: &str, path: &str, allow: &str) -> Self {
        let message = format!("Method {} is not allowed on {}; allowed methods: {allow}.", Shown(method), Shown(path));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_supported"), None, message)
    }

    /// No key was sent where one is needed.
    pub fn no_key() -> Self {
        let message = "You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer YOUR_KEY', or in an api-key header.";
        Self::new(StatusCode::UNAUTHORIZED, None, None, message)
    }

    /// Several headers carry different keys.
    pub fn different_keys() -> Self {
        let message =
            "The headers Authorization and api-key must carry the same key if both are sent. Send it in one of them.";
        Self::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), None, message)
    }

    /// The key is unknown or revoked. The response repeats no character of it.
    pub fn wrong_key() -> Self {
        let message =
            "Incorrect API key provided. `windlass keys list` shows the names of the keys that are valid here.";
        Self::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), None, message)
    }

    /// The request's head is too large.
    pub fn head_too_large(most: usize) -> Self {
        let message = format!("The request line and headers must not exceed {most} bytes or {MOST_HEADERS} headers.");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Some("headers_too_large"), None, message)
    }

    /// The request's head did not arrive in time.
    pub fn head_timeout(within: Duration) -> Self {
        let message = format!("Timed out: the request line and the headers must arrive within {within:?}.");
        Self::new(StatusCode::REQUEST_TIMEOUT, Some("headers_stalled"), None, message)
    }

    /// The body stopped coming.
    pub fn stalled(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, Some("body_stalled"), None, message)
    }

    /// The range lies outside the file. The caller adds `content-range`.
    pub fn range_not_satisfiable(bytes: u64) -> Self {
        let message = format!("The requested range is outside the file, which has {bytes} bytes.");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, Some("range_not_satisfiable"), Some("range"), message)
    }

    /// An internal error, caused by a bug or by bad stored data; the log has the details.
    pub fn internal() -> Self {
        let message = "The server had an error while processing the request. Try it again, and look for its id in the server's log if it fails again.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Some("server_error"), None, message)
    }

    fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("unavailable"), None, message)
    }
}

/// The one place where a failure of the service gets its status.
impl From<service::Error> for ApiError {
    fn from(error: service::Error) -> Self {
        use service::Error as E;
        let (status, code, param) = match &error {
            E::NoSuchUpload(_) => (StatusCode::NOT_FOUND, None, Some("upload_id")),
            E::NoSuchFile(_) | E::NoSuchKey(_) => (StatusCode::NOT_FOUND, None, Some("id")),
            E::NoSuchCursor(_) => (StatusCode::NOT_FOUND, None, Some("after")),
            E::NotPending { .. } => (StatusCode::BAD_REQUEST, Some("upload_not_pending"), Some("upload_id")),
            E::Expired(_) => (StatusCode::GONE, Some("upload_expired"), Some("upload_id")),
            E::Declaration(bad) => {
                let (code, param) = declared(bad);
                (StatusCode::BAD_REQUEST, Some(code), Some(param))
            }
            E::TooManyParts(_) => (StatusCode::BAD_REQUEST, Some("too_many_parts"), Some("upload_id")),
            E::PartTooLarge(_) => (StatusCode::BAD_REQUEST, Some("too_large"), Some("data")),
            E::PartEmpty => (StatusCode::BAD_REQUEST, Some("empty"), Some("data")),
            E::FileTooLarge(_) | E::PurposeTooLarge { .. } => {
                (StatusCode::BAD_REQUEST, Some("too_large"), Some("file"))
            }
            E::PartsDoNotFit(_) => (StatusCode::BAD_REQUEST, Some("parts_do_not_fit"), Some("part_ids")),
            E::CompletedOtherwise(_) => (StatusCode::BAD_REQUEST, Some("upload_not_pending"), Some("part_ids")),
            E::FileNotJsonl(_) => (StatusCode::BAD_REQUEST, Some("invalid_jsonl"), Some("file")),
            E::PartsNotJsonl(_) => (StatusCode::BAD_REQUEST, Some("invalid_jsonl"), Some("part_ids")),
            E::WrongMd5 { .. } => (StatusCode::BAD_REQUEST, Some("md5_mismatch"), Some("md5")),
            E::UnknownKey => return Self::wrong_key(),
            // Already logged by the readiness probe.
            E::NotReady(NotReady::Database) => return Self::unavailable("The server cannot use its database."),
            E::NotReady(NotReady::Store) => return Self::unavailable("The server cannot use its store."),
            E::NotReady(NotReady::StoreMismatch(_)) | E::StoreMismatch(_) => {
                return Self::unavailable(
                    "The server's store is not there, or is not the one that belongs to its database. The server's log says what to check.",
                );
            }
            E::Busy => return Self::unavailable("The server is overloaded. Retry in a moment."),
            E::BusySending => {
                return Self::unavailable(
                    "The server is sending as many responses as it has memory for. Retry in a moment.",
                );
            }
            E::DiskFull => {
                return Self::unavailable("The server's disk is full. Deleting files makes space; try again later.");
            }
            E::Db(db::Error::Unavailable(_) | db::Error::Silent | db::Error::Locked { .. })
            | E::Blobs(_)
            | E::Interrupted => {
                log(&error);
                return Self::unavailable("The server cannot reach its storage. Try the request again in a moment.");
            }
            E::Db(
                db::Error::Statement(_)
                | db::Error::Inconsistent { .. }
                | db::Error::Migration(_)
                | db::Error::Schema(_)
                | db::Error::Url(_),
            )
            | E::Damaged(_)
            | E::Missing(_)
            | E::Panicked => {
                log(&error);
                return Self::internal();
            }
        };
        Self::new(status, code, param, sentence(&error.to_string()))
    }
}

/// The code and the field of a declaration that was rejected.
fn declared(bad: &BadDeclaration) -> (&'static str, &'static str) {
    match bad {
        BadDeclaration::TooLarge { .. } => ("too_large", "bytes"),
        BadDeclaration::MimeType(_) => ("invalid_value", "mime_type"),
        BadDeclaration::Filename(_) => ("invalid_value", "filename"),
    }
}

/// An internal error is logged once, here; its text is not sent to the client.
fn log(error: &service::Error) {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(it) = cause {
        causes.push(it.to_string());
        cause = it.source();
    }
    tracing::error!(%error, causes = causes.join(": "), "a request failed");
}

/// Truncates a text that is too long.
fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.shrink_to_fit();
        text.push('…');
    }
    text
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(chars).collect();
    if !sentence.ends_with('.') && !sentence.starts_with("No such ") {
        sentence.push('.');
    }
    sentence
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.insert_header((RETRY_AFTER, HeaderValue::from(TRY_AGAIN_SECONDS)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            answer.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        if self.status.is_client_error() && self.status != StatusCode::REQUEST_TIMEOUT {
            answer.insert_header(("x-should-retry", "false"));
        }
        answer.json(ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: self.kind,
                param: self.param.clone(),
                code: self.code,
            },
        })
    }
}
