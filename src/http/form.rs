//! Multipart forms (RFC 7578) as SDKs send them (contract section 3.4): fields in any order, with
//! or without lengths and content types, read as they come.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use futures_util::{Stream, StreamExt as _};
use multer::{Constraints, Multipart, SizeLimit};
use send_wrapper::SendWrapper;

use super::body::{Allowance, BodyError, timed};
use super::error::ApiError;
use crate::domain::{BadFilename, Filename, Limits, MimeType};

/// A form has a handful of fields. More are a client's mistake, such as an array sent byte by byte.
const MOST_FIELDS: usize = 16;

/// What may come between two fields' contents, all of which is held: their headers, and whatever was read ahead, which
/// is what the connection has at once.
const BETWEEN_FIELDS_BYTES: u64 = 256 * 1024;

/// Longer boundaries than RFC 2046 allows (70) are seen in the wild; much longer ones are hostile.
const LONGEST_BOUNDARY: usize = 200;

/// A form being read.
pub struct Form {
    fields: Multipart<'static>,
    body: SharedBody,
    seen: Vec<String>,
    allowance: Allowance,
    known: &'static [&'static str],
}

/// The body that the parser reads, and of which we read the rest once the parser is content.
#[derive(Clone)]
struct SharedBody(Rc<RefCell<LocalBoxStream<'static, Result<Bytes, BodyError>>>>);

impl Stream for SharedBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().as_mut().poll_next(cx)
    }
}

/// A field of a form being read.
pub struct Field {
    field: multer::Field<'static>,
    name: String,
}

impl Form {
    /// Begins to read a form whose fields are `known` and whose content has up to `most_bytes`.
    ///
    /// # Errors
    /// When the request is no form.
    pub fn open(
        request: &HttpRequest,
        payload: Payload,
        limits: &Limits,
        most_bytes: u64,
        known: &'static [&'static str],
    ) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let boundary = multer::parse_boundary(content_type)
            .ok()
            .filter(|it| (1..=LONGEST_BOUNDARY).contains(&it.len()))
            .ok_or_else(|| {
                ApiError::malformed("The request must have the content type 'multipart/form-data' with a boundary.")
            })?;
        let allowance = Allowance::unlimited();
        let body = SharedBody(Rc::new(RefCell::new(timed(payload, limits, allowance.clone()).fuse().boxed_local())));
        let whole = SizeLimit::new().whole_stream(most_bytes.saturating_add(Limits::FORM_OVERHEAD_BYTES));
        // The stream never leaves its worker's thread; multer only asks for `Send` in general.
        let shared = SendWrapper::new(body.clone());
        let fields = Multipart::with_constraints(shared, boundary, Constraints::new().size_limit(whole));
        Ok(Self { fields, body, seen: Vec::new(), allowance, known })
    }

    /// The next field.
    ///
    /// # Errors
    /// When it has no name, a name that is not known, or one that came before; or the body is bad.
    pub async fn next(&mut self) -> Result<Option<Field>, ApiError> {
        self.allowance.set(BETWEEN_FIELDS_BYTES);
        let next = self.fields.next_field().await.map_err(|error| broken(&error))?;
        let Some(field) = next else {
            self.end().await?;
            return Ok(None);
        };
        self.allowance.set(u64::MAX);
        let name = field.name().unwrap_or_default().to_owned();
        if !self.known.contains(&name.as_str()) {
            return Err(ApiError::unknown(&name, self.known));
        }
        if self.seen.contains(&name) || self.seen.len() == MOST_FIELDS {
            return Err(ApiError::invalid(&name, format!("'{name}' is given twice; give it once.")));
        }
        self.seen.push(name.clone());
        Ok(Some(Field { field, name }))
    }

    /// Reads what follows the last boundary: only then is it known that the body was not cut off.
    async fn end(&mut self) -> Result<(), ApiError> {
        while let Some(rest) = self.body.next().await {
            rest.as_ref().map_err(ApiError::from)?;
        }
        Ok(())
    }
}

impl Field {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next bytes of its content.
    ///
    /// # Errors
    /// When the body is bad.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        self.field.chunk().await.map_err(|error| broken(&error))
    }

    /// Its whole content, as a short text.
    ///
    /// # Errors
    /// When it is long, or not UTF-8.
    pub async fn text(mut self) -> Result<String, ApiError> {
        let mut text = Vec::new();
        while let Some(bytes) = self.next().await? {
            if text.len() + bytes.len() > Limits::FORM_TEXT_BYTES {
                let message =
                    format!("'{}' has more than {} bytes; it is a short text.", self.name, Limits::FORM_TEXT_BYTES);
                return Err(ApiError::invalid(&self.name, message));
            }
            text.extend_from_slice(&bytes);
        }
        String::from_utf8(text)
            .map_err(|_| ApiError::invalid(&self.name, format!("'{}' is not UTF-8 text.", self.name)))
    }

    /// The file name that came with it; `upload` if none did, as SDKs call bytes without a name.
    ///
    /// # Errors
    /// When there is one that cannot be.
    pub fn filename(&self) -> Result<Filename, ApiError> {
        let bad = |error: BadFilename| ApiError::invalid(&self.name, format!("The file name cannot be used: {error}."));
        let given = self
            .field
            .headers()
            .get("content-disposition")
            .is_some_and(|it| it.as_bytes().windows(9).any(|it| it.eq_ignore_ascii_case(b"filename=")));
        match self.field.file_name() {
            // Browsers and SDKs escape these three, and nothing else (HTML, 4.10.21.8).
            Some(name) => name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n").parse().map_err(bad),
            None if given => Err(ApiError::invalid(&self.name, "The file name is not UTF-8 text.")),
            None => "upload".parse().map_err(bad),
        }
    }

    /// The content type that came with it, if one did.
    ///
    /// # Errors
    /// When there is one that cannot be.
    pub fn mime_type(&self) -> Result<MimeType, ApiError> {
        let given = self.field.headers().get(CONTENT_TYPE.as_str()).map(|it| it.to_str().unwrap_or("\u{fffd}").trim());
        match given {
            None | Some("") => Ok(MimeType::octet_stream()),
            Some(text) => text
                .parse()
                .map_err(|error| ApiError::invalid(&self.name, format!("The content type cannot be used: {error}."))),
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "multer's enum is not exhaustive")]
fn broken(error: &multer::Error) -> ApiError {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast_ref::<BodyError>() {
            Some(cause) => cause.into(),
            None => ApiError::malformed("The body could not be read."),
        },
        multer::Error::StreamSizeExceeded { limit } => {
            ApiError::malformed(format!("The body has more than {limit} bytes."))
        }
        multer::Error::IncompleteStream
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders => ApiError::malformed(
            "The form has no end: the body was cut off, or its boundary is not the one in its content type.",
        ),
        other => ApiError::malformed(format!("The form cannot be read: {other}.")),
    }
}
