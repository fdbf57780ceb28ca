//! The mapping of engine errors to statuses and messages for clients, and nothing else.

use actix_web::http::StatusCode;
use windlass_engine as engine;
use windlass_engine::db;
use windlass_engine::model::BadUploadSpec;
use windlass_types::{ErrorChain, ErrorCode, PartOrder, Shown};

use super::error::{ApiError, sentence};
use super::refusal::Refusal;
use super::usage;

const DISK_FULL: &str = "The server's disk is full. Delete files to free space, or retry later.";

/// Used while the store is not the one that belongs to the database.
pub const STORE_MISMATCH: &str =
    "The server's store is missing or does not belong to its database. The server's log has the details.";

/// The operation may have taken effect. `operations/audit.rs` has logged the cause.
const UNAUDITED: &str =
    "The server cannot record the request in its audit trail, and therefore does not answer it. Retry in a moment.";

const STORAGE_UNREACHABLE: &str = "The server cannot reach its storage. Retry in a moment.";

/// The only place where engine errors are mapped to statuses and messages for clients.
impl From<engine::Error> for ApiError {
    #[expect(clippy::too_many_lines, reason = "one arm per error")]
    fn from(error: engine::Error) -> Self {
        use ErrorCode as C;
        use engine::Error as E;
        let bad = |code, param, message: String| Self::new(StatusCode::BAD_REQUEST, Some(code), Some(param), message);
        match error {
            E::NoSuchUpload(id) => Self::no_such("Upload", "upload_id", &id.to_string()),
            E::NoSuchFile(id) => Self::no_such("File", "id", &id.to_string()),
            E::NoSuchKey(_) => Self::new(StatusCode::NOT_FOUND, None, Some("id"), sentence(&error)),
            E::NoSuchProject(_) => Self::new(StatusCode::NOT_FOUND, None, None, sentence(&error)),
            E::Quota(exceeded) => {
                let (param, message) = usage::explain(&exceeded);
                Self::new(StatusCode::BAD_REQUEST, Some(C::QuotaExceeded), param, message)
            }
            E::Lifetime(error) => bad(C::InvalidValue, "expires_after", sentence(&error)),
            E::NoSuchCursor(id) => {
                let message = format!(
                    "'{id}' is not in this list; 'after' takes the id of the last object of the previous page."
                );
                Self::new(StatusCode::NOT_FOUND, None, Some("after"), message)
            }
            E::NotPending { upload, status } => {
                let message = format!("Upload '{upload}' is {status}, not pending; create a new upload.");
                bad(C::UploadNotPending, "upload_id", message)
            }
            E::Expired(upload) => {
                let message =
                    format!("Upload '{upload}' has expired; create a new upload before adding parts or completing it.");
                Self::new(StatusCode::GONE, Some(C::UploadExpired), Some("upload_id"), message)
            }
            E::Spec(error) => {
                let (code, param) = spec_field(&error);
                bad(code, param, sentence(&error))
            }
            E::TooManyParts(upload) => {
                let max = PartOrder::MAX_PARTS;
                let message = format!("Upload '{upload}' already has {max} parts, the maximum for an upload.");
                bad(C::TooManyParts, "upload_id", message)
            }
            E::TooManyBytes(upload) => {
                let message = format!(
                    "The parts of upload '{upload}' have many more bytes than the upload was created with; complete it, \
                     or cancel it and create a new one."
                );
                bad(C::QuotaExceeded, "upload_id", message)
            }
            E::PartTooLarge(limit) => {
                let message = format!(
                    "A part can have at most {limit} bytes, but this one is larger; split it into several parts."
                );
                bad(C::TooLarge, "data", message)
            }
            E::PartEmpty => {
                let message = "A part must have at least one byte, but this one is empty; to create an empty file, \
                               complete the upload without parts.";
                bad(C::Empty, "data", message.to_owned())
            }
            E::FileTooLarge(limit) => {
                let message = format!(
                    "A file sent in one request can have at most {limit} bytes, but this one is larger; create an \
                     upload and add the file in parts."
                );
                bad(C::TooLarge, "file", message)
            }
            E::PurposeTooLarge { purpose, limit, bytes } => {
                let message = format!(
                    "A file for the purpose '{purpose}' sent in one request can have at most {limit} bytes, but this \
                     one has {bytes}."
                );
                bad(C::TooLarge, "file", message)
            }
            E::KeyReused => {
                let message = "This Idempotency-Key was used for another request in the last 24 hours. Use a new key for \
                               each request, and repeat a request with all of its fields and bytes unchanged.";
                bad(C::IdempotencyKeyReused, "Idempotency-Key", message.to_owned())
            }
            E::PartsDoNotFit(error) => bad(C::PartsDoNotFit, "part_ids", sentence(&error)),
            E::CompletedOtherwise(upload) => {
                let message =
                    format!("Upload '{upload}' has already been completed with other parts or in another order.");
                bad(C::UploadNotPending, "part_ids", message)
            }
            E::FileNotJsonl(error) => bad(C::InvalidJsonl, "file", sentence(&error)),
            E::PartsNotJsonl(error) => bad(C::InvalidJsonl, "part_ids", sentence(&error)),
            E::WrongMd5 { claimed, actual } => {
                let message = format!("The MD5 of the listed parts is {actual}, but the request has {claimed}.");
                bad(C::Md5Mismatch, "md5", message)
            }
            E::BadUrl => {
                let message = "This signed URL is not valid: it is incomplete or was changed, its key was revoked, or \
                               another server issued it.";
                Self::new(StatusCode::FORBIDDEN, Some(C::InvalidSignedUrl), None, message)
            }
            E::UrlExpired => {
                let message = "This signed URL has expired. Request a new one.";
                Self::new(StatusCode::FORBIDDEN, Some(C::SignedUrlExpired), None, message)
            }
            E::UrlUsed => {
                let message = "This signed URL can be used only once, and was used. Request a new one.";
                Self::new(StatusCode::FORBIDDEN, Some(C::SignedUrlUsed), None, message)
            }
            E::UrlFileTooLarge(limit) => {
                let message =
                    format!("This signed URL accepts a file of at most {limit} bytes, but this one is larger.");
                Self::new(StatusCode::BAD_REQUEST, Some(C::TooLarge), None, message)
            }
            E::UnknownKey => Self::wrong_key(),
            E::NotInScope(scope) => {
                let message = format!("This API key lacks the scope '{}', which the operation needs.", scope.as_str());
                Self::new(StatusCode::FORBIDDEN, Some(C::MissingScope), None, message)
            }
            E::ProjectNotNamed => {
                let message = "A service key acts for the project that the request names. Send the name of exactly one \
                               project in the header OpenAI-Project.";
                Self::new(StatusCode::FORBIDDEN, Some(C::ProjectNotAllowed), None, message)
            }
            E::ProjectNotAllowed(name) => {
                let message = format!(
                    "This service key may not act for the project '{}', or there is no such project.",
                    Shown(&name)
                );
                Self::new(StatusCode::FORBIDDEN, Some(C::ProjectNotAllowed), None, message)
            }
            // The readiness probe has logged the cause.
            E::StoreMismatch(_) => Self::unavailable(Refusal::StorageUnavailable, STORE_MISMATCH),
            E::Unaudited => Self::unavailable(Refusal::StorageUnavailable, UNAUDITED),
            E::NoTime { .. } => Self::malformed(sentence(&error)),
            E::Busy => Self::unavailable(Refusal::Overloaded, "The server is overloaded. Retry in a moment."),
            E::Overloaded { wait, limit } => Self::overloaded(wait, limit),
            E::BusySending => {
                let message = "The server has no memory left for further responses. Retry in a moment.";
                Self::unavailable(Refusal::Overloaded, message)
            }
            E::DiskFull => Self::unavailable(Refusal::StorageFull, DISK_FULL),
            E::StoreFull(_) => {
                log(&error);
                Self::unavailable(Refusal::StorageFull, DISK_FULL)
            }
            E::ShuttingDown | E::Abandoned => {
                Self::unavailable(Refusal::ShuttingDown, "The server is shutting down. Retry in a moment.")
            }
            E::Unreadable { ref source, .. } => {
                log(&error);
                let is_damage = matches!(**source, E::Missing(_) | E::Damaged(_));
                if is_damage { Self::internal() } else { storage_unreachable() }
            }
            E::Db(db::Error::Unavailable(_) | db::Error::Silent | db::Error::Locked { .. })
            | E::Store(_)
            | E::Read(_) => {
                log(&error);
                storage_unreachable()
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
            | E::AnsweredBefore(_)
            | E::Panicked
            | E::Bug(_) => {
                log(&error);
                Self::internal()
            }
        }
    }
}

fn storage_unreachable() -> ApiError {
    ApiError::unavailable(Refusal::StorageUnavailable, STORAGE_UNREACHABLE)
}

/// Error code and field name for a rejected upload declaration.
fn spec_field(bad: &BadUploadSpec) -> (ErrorCode, &'static str) {
    match bad {
        BadUploadSpec::TooLarge { .. } => (ErrorCode::TooLarge, "bytes"),
        BadUploadSpec::MimeType(_) => (ErrorCode::InvalidValue, "mime_type"),
        BadUploadSpec::Filename(_) => (ErrorCode::InvalidValue, "filename"),
    }
}

/// Logs an error with its causes, because the client gets no details.
fn log(error: &engine::Error) {
    tracing::error!(error = %ErrorChain(error), "request failed");
}
