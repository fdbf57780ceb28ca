//! Error responses and their codes.

use serde::{Deserialize, Serialize};

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ErrorResponse {
    /// The error.
    pub error: ErrorObject,
}

/// Description of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Error))]
pub struct ErrorObject {
    /// Message for humans: the problem, and what is expected instead.
    pub message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter or field that caused the error, if there is one.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub param: Option<String>,
    /// Error code for programs, if there is one.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required, value_type = Option<String>))]
    pub code: Option<ErrorCode>,
}

/// Error code for programs: the value of `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The body did not arrive in time.
    BodyStalled,
    /// The bytes have a different digest than a header of the request or of a form field.
    DigestMismatch,
    /// The part is empty.
    Empty,
    /// The request's head did not arrive in time.
    HeadersStalled,
    /// The request's head is too large.
    HeadersTooLarge,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The key is unknown, revoked or ambiguous.
    InvalidApiKey,
    /// The file is not JSON lines, which its purpose requires.
    InvalidJsonl,
    /// The signed URL was not issued by this service, was changed, or is void.
    InvalidSignedUrl,
    /// The value of `param` is invalid.
    InvalidValue,
    /// The request cannot be parsed.
    MalformedRequest,
    /// The bytes have a different MD5 than the request.
    Md5Mismatch,
    /// The path does not support the method.
    MethodNotSupported,
    /// The key lacks the scope that the operation needs.
    MissingScope,
    /// The required parameter or field `param` is missing.
    MissingRequiredParameter,
    /// The listed parts do not match the declared file.
    PartsDoNotFit,
    /// The service key may not act for the named project, or none is named.
    ProjectNotAllowed,
    /// The project would exceed one of its quotas.
    QuotaExceeded,
    /// The range is outside the file.
    RangeNotSatisfiable,
    /// Too many requests or bytes, or too many wrong keys: retry after the time in `retry-after`.
    RateLimitExceeded,
    /// An internal error.
    ServerError,
    /// The signed URL has expired.
    SignedUrlExpired,
    /// The signed URL can be used only once, and was used.
    SignedUrlUsed,
    /// A size exceeds its limit.
    TooLarge,
    /// The upload has the maximum number of parts.
    TooManyParts,
    /// Temporary: retry after the time in `retry-after`.
    Unavailable,
    /// The parameter or field `param` is unknown.
    UnknownParameter,
    /// No operation has this path.
    UnknownUrl,
    /// The upload has expired.
    UploadExpired,
    /// The upload is completed or cancelled.
    UploadNotPending,
    /// Any other code, from another server or a later version.
    #[serde(other)]
    Other,
}
