//! Error responses: their JSON format, their statuses and their headers. `engine_error.rs` has those of engine errors.
//!
//! The statuses 409, 413 and 423 are never used: SDKs retry every 409, and the contract uses 400 instead (sections 1
//! and 7).

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use windlass_types::{ErrorCode, ErrorObject, ErrorResponse, Shown};

use super::digests::{BadDigestHeader, WrongDigest};
use super::refusal::Refusal;

/// The maximum of `retry-after`, in seconds: SDKs ignore longer ones.
const MAX_RETRY_AFTER_SECONDS: u64 = 60;

/// The longest `retry-after` of a server that is overloaded, as a multiple of the shortest.
const RETRY_SPREAD: u64 = 4;

/// Value of `retry-after` in a 503 response, in seconds. SDKs ignore values above 60.
pub const RETRY_AFTER_SECONDS: u16 = 1;

/// Maximum length of a message, in bytes. Messages quote client input, which can be as long as the request.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Maximum length of `param`, in bytes. It can be the name of an unknown parameter.
const MAX_PARAM_BYTES: usize = 256;

/// Maximum number of headers of a request, set by actix-http.
const MAX_HEADERS: usize = 96;

/// An error response (contract section 1.10).
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<ErrorCode>,
    /// Value of `retry-after`, in seconds.
    retry_after: Option<u16>,
    /// What is counted.
    refusal: Refusal,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: Option<ErrorCode>,
        param: Option<&str>,
        message: impl fmt::Display,
    ) -> Self {
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            _ if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS);
        let message = shortened(message.to_string(), MAX_MESSAGE_BYTES);
        let param = param.map(|it| shortened(it.to_owned(), MAX_PARAM_BYTES));
        Self { status, message, kind, param, code, retry_after, refusal: Refusal::of(status, code) }
    }

    /// 400: the value of `param` is invalid.
    pub fn invalid(param: &str, message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some(ErrorCode::InvalidValue), Some(param), message)
    }

    /// 400: a header with digests of the content cannot be verified. `param` is the header or the form field.
    pub fn bad_digest(param: &str, error: &BadDigestHeader) -> Self {
        Self::invalid(param, sentence(error))
    }

    /// 400: the content does not have a digest that was sent for it. `param` is the header or the form field.
    pub fn wrong_digest(param: &str, error: &WrongDigest) -> Self {
        let message = format!("The content is not what was sent: {error}. Nothing was stored.");
        Self::new(StatusCode::BAD_REQUEST, Some(ErrorCode::DigestMismatch), Some(param), message)
    }

    /// 400: the request as a whole is malformed.
    pub fn malformed(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some(ErrorCode::MalformedRequest), None, message)
    }

    /// 400: the required parameter or field `param` is missing. `expected` describes its value.
    pub fn missing(param: &str, expected: impl fmt::Display) -> Self {
        let message = format!("Missing required parameter: '{param}'. It must be {expected}.");
        Self::new(StatusCode::BAD_REQUEST, Some(ErrorCode::MissingRequiredParameter), Some(param), message)
    }

    /// 400: the parameter or field `param` is unknown.
    pub fn unknown(param: &str, known: &[&str]) -> Self {
        let message = format!("Unknown parameter: '{}'. Known parameters: {}.", Shown(param), known.join(", "));
        Self::new(StatusCode::BAD_REQUEST, Some(ErrorCode::UnknownParameter), Some(param), message)
    }

    /// 404: no object has this id. A malformed id is reported in the same way.
    pub fn no_such(what: &str, param: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, None, Some(param), format!("No such {what} object: {}", Shown(id)))
    }

    /// 404: no operation has this path.
    pub fn no_such_path(method: &str, path: &str) -> Self {
        let message = format!("Unknown request URL: {} {}.", Shown(method), Shown(path));
        Self::new(StatusCode::NOT_FOUND, Some(ErrorCode::UnknownUrl), None, message)
    }

    /// 405: the path does not support this method. The caller adds the header `allow`.
    pub fn method_not_allowed(method: &str, path: &str, allow: &str) -> Self {
        let message = format!("Method {} is not allowed on {}; allowed methods: {allow}.", Shown(method), Shown(path));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Some(ErrorCode::MethodNotSupported), None, message)
    }

    /// 401: no API key was sent.
    pub fn no_key() -> Self {
        let message = "You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer \
                       YOUR_KEY', or in an api-key header.";
        Self::new(StatusCode::UNAUTHORIZED, None, None, message)
    }

    /// 401: the headers carry different keys.
    pub fn different_keys() -> Self {
        let message =
            "The headers Authorization and api-key must carry the same key if both are sent. Send it in one of them.";
        Self::new(StatusCode::UNAUTHORIZED, Some(ErrorCode::InvalidApiKey), None, message)
    }

    /// 401: the key is unknown, revoked or expired. The message does not quote it.
    pub fn wrong_key() -> Self {
        let message =
            "Incorrect API key provided. `windlass keys list`, run on the server, shows which keys are valid.";
        Self::new(StatusCode::UNAUTHORIZED, Some(ErrorCode::InvalidApiKey), None, message)
    }

    /// 429: a rate is exceeded for this long.
    pub fn rate_limited(wait: Duration, message: &str) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).clamp(1, MAX_RETRY_AFTER_SECONDS.into());
        let retry_after = u16::try_from(seconds).ok();
        let code = Some(ErrorCode::RateLimitExceeded);
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, None, message) }
    }

    /// 431: the request line and headers are too large.
    pub fn head_too_large(max_bytes: usize) -> Self {
        let message =
            format!("The request line and headers must not exceed {max_bytes} bytes or {MAX_HEADERS} headers.");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Some(ErrorCode::HeadersTooLarge), None, message)
    }

    /// 408: the request line and headers did not arrive within the timeout.
    pub fn head_timeout(timeout: Duration) -> Self {
        let message = format!("Timed out: the request line and the headers must arrive within {timeout:?}.");
        Self::new(StatusCode::REQUEST_TIMEOUT, Some(ErrorCode::HeadersStalled), None, message)
    }

    /// 408: the body stopped arriving or arrived too slowly.
    pub fn stalled(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, Some(ErrorCode::BodyStalled), None, message)
    }

    /// 416: the range is outside the file. The caller adds the header `content-range`.
    pub fn range_not_satisfiable(bytes: u64) -> Self {
        let message = format!("The requested range is outside the file, which has {bytes} bytes.");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, Some(ErrorCode::RangeNotSatisfiable), Some("range"), message)
    }

    /// 500: an internal error, caused by a bug or by damaged data. Only the log has the details.
    pub fn internal() -> Self {
        let message = "The server had an error while processing the request. Retry it; if it fails again, look up its \
                       x-request-id in the server's log.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Some(ErrorCode::ServerError), None, message)
    }

    /// 503: the request would wait for longer than `limit`, and was refused at once. The time in `retry-after` is random,
    /// so that the clients that were refused do not all return at the same time.
    pub(super) fn overloaded(wait: Duration, limit: Duration) -> Self {
        let limit = humantime::format_duration(limit);
        let message = format!(
            "The server is overloaded: this request would wait longer than {limit} for its project's turn, so it was \
             refused and has changed nothing. Send it again after the time in retry-after. Requests that continue an \
             upload are served first."
        );
        let least = wait.as_secs().clamp(1, MAX_RETRY_AFTER_SECONDS / RETRY_SPREAD);
        let retry_after = u16::try_from(fastrand::u64(least..=RETRY_SPREAD * least)).ok();
        Self { retry_after, ..Self::unavailable(Refusal::Overloaded, &message) }
    }

    /// Whether the request was refused because of overload.
    pub(super) fn is_overload(&self) -> bool {
        self.refusal == Refusal::Overloaded
    }

    /// 503: a temporary error, for this reason.
    pub(super) fn unavailable(refusal: Refusal, message: &str) -> Self {
        Self { refusal, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, Some(ErrorCode::Unavailable), None, message) }
    }
}

impl From<BadDigestHeader> for ApiError {
    fn from(error: BadDigestHeader) -> Self {
        Self::bad_digest(error.header, &error)
    }
}

/// Truncates a text to `max` bytes and marks the cut with an ellipsis.
fn shortened(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.shrink_to_fit();
        text.push('…');
    }
    text
}

/// Formats an error as a sentence, with a capital letter and a full stop.
pub(super) fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).chain(['.']).collect()
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

    /// Renders the response, once per error, and counts it.
    fn error_response(&self) -> HttpResponse {
        self.refusal.count();
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, HeaderValue::from(seconds)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        let is_temporary = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&self.status);
        if self.status.is_client_error() && !is_temporary {
            response.insert_header(("x-should-retry", "false"));
        }
        response.json(ErrorResponse {
            error: ErrorObject {
                message: self.message.clone(),
                kind: self.kind.to_owned(),
                param: self.param.clone(),
                code: self.code,
            },
        })
    }
}
