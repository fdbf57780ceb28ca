//! Why requests are refused: the reason of each error response, as a label with few distinct values for the metrics.

use actix_web::http::StatusCode;
use metrics::counter;
use windlass_types::ErrorCode;

const REFUSALS: &str = "windlass_refusals_total";

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No valid API key.
    WrongKey,
    /// The key or the signed URL does not allow the operation.
    NotAllowed,
    /// The key exceeded a rate, or the address sent too many wrong keys.
    Rate,
    /// A quota of the project.
    Quota,
    /// A size, or a number of parts, exceeds its limit.
    TooLarge,
    /// The request did not arrive in time.
    TooSlow,
    /// The bytes that arrived are not those that were sent.
    Corrupted,
    /// There is no such object or path.
    NotFound,
    /// The object is not in the state that the operation needs.
    WrongState,
    /// The request is malformed, or a value is invalid.
    Invalid,
    /// Memory, turns or tasks were not available in time.
    Overloaded,
    /// A disk or the store is full.
    StorageFull,
    /// The database or the store cannot be used.
    StorageUnavailable,
    /// The process was asked to stop.
    ShuttingDown,
    /// A bug, or damaged data.
    Failed,
}

impl Refusal {
    const ALL: [Self; 15] = [
        Self::WrongKey,
        Self::NotAllowed,
        Self::Rate,
        Self::Quota,
        Self::TooLarge,
        Self::TooSlow,
        Self::Corrupted,
        Self::NotFound,
        Self::WrongState,
        Self::Invalid,
        Self::Overloaded,
        Self::StorageFull,
        Self::StorageUnavailable,
        Self::ShuttingDown,
        Self::Failed,
    ];

    /// The reason of an error with this status and code. What [`ErrorCode::Unavailable`] stands for is known only where
    /// the error arises (`ApiError::unavailable`).
    pub fn of(status: StatusCode, code: Option<ErrorCode>) -> Self {
        use ErrorCode as C;
        let Some(code) = code else {
            return match status {
                StatusCode::UNAUTHORIZED => Self::WrongKey,
                StatusCode::NOT_FOUND => Self::NotFound,
                _ => Self::Invalid,
            };
        };
        match code {
            C::InvalidApiKey => Self::WrongKey,
            C::MissingScope | C::ProjectNotAllowed | C::InvalidSignedUrl | C::SignedUrlExpired | C::SignedUrlUsed => {
                Self::NotAllowed
            }
            C::RateLimitExceeded => Self::Rate,
            C::QuotaExceeded => Self::Quota,
            C::TooLarge | C::HeadersTooLarge | C::TooManyParts => Self::TooLarge,
            C::BodyStalled | C::HeadersStalled => Self::TooSlow,
            C::DigestMismatch | C::Md5Mismatch => Self::Corrupted,
            C::UnknownUrl => Self::NotFound,
            C::UploadExpired | C::UploadNotPending | C::IdempotencyKeyReused => Self::WrongState,
            C::Empty
            | C::InvalidJsonl
            | C::InvalidValue
            | C::MalformedRequest
            | C::MethodNotSupported
            | C::MissingRequiredParameter
            | C::PartsDoNotFit
            | C::RangeNotSatisfiable
            | C::UnknownParameter => Self::Invalid,
            C::Unavailable => Self::StorageUnavailable,
            C::ServerError | C::Other => Self::Failed,
        }
    }

    /// Counts a refused request.
    pub fn count(self) {
        counter!(REFUSALS, "reason" => self.label()).increment(1);
    }

    fn label(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong_key",
            Self::NotAllowed => "not_allowed",
            Self::Rate => "rate",
            Self::Quota => "quota",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Corrupted => "corrupted",
            Self::NotFound => "not_found",
            Self::WrongState => "wrong_state",
            Self::Invalid => "invalid",
            Self::Overloaded => "overloaded",
            Self::StorageFull => "storage_full",
            Self::StorageUnavailable => "storage_unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::Failed => "failed",
        }
    }
}

/// Exports the counters, so that their first increase is visible.
pub fn export() {
    for refusal in Refusal::ALL {
        counter!(REFUSALS, "reason" => refusal.label()).increment(0);
    }
}
