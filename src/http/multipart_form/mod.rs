//! Streaming parser for multipart forms (RFC 7578; contract section 3.4): fields in any order, with or without lengths
//! and content types.

mod head;
mod parameters;
mod splitter;
mod text;
mod unread;

use std::task::Poll;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::LocalBoxStream;
use windlass_engine::Error;
use windlass_engine::model::{Digests, Limits};
use windlass_types::{ByteCount, Filename, MimeType, Shown};

use self::head::Head;
use self::parameters::Parameters;
use self::splitter::Splitter;
use super::body::{Allowance, Body, BodyError, declared_length, timed};
use super::digests::Verifier;
use super::error::ApiError;

/// The maximum number of bytes between the contents of two fields: headers, and what is read ahead.
const BETWEEN_FIELDS_BYTES: u64 = 1024 * 1024;

/// The maximum length of a boundary. RFC 2046 allows 70 characters, but some clients send longer ones.
const LONGEST_BOUNDARY: usize = 200;

/// The field in which browsers send the charset of a form's texts (RFC 7578, section 4.6).
const CHARSET: &str = "_charset_";

/// The maximum size of a form's content.
pub struct ContentLimit {
    /// The maximum number of bytes.
    pub content: ByteCount,
    /// The error for larger content.
    pub error: fn(ByteCount) -> Error,
}

impl ContentLimit {
    /// The maximum size of the whole body.
    fn body_bytes(&self) -> u64 {
        self.content.get().saturating_add(Limits::FORM_OVERHEAD_BYTES)
    }

    /// The declared length of the body, if any.
    ///
    /// # Errors
    /// When the body is longer than the maximum: [`Self::error`], before any of it is read.
    pub fn declared_length(&self, request: &HttpRequest) -> Result<Option<u64>, ApiError> {
        match declared_length(request) {
            Some(bytes) if bytes > self.body_bytes() => Err((self.error)(self.content).into()),
            declared => Ok(declared),
        }
    }
}

/// A form being read.
pub struct Form {
    body: LocalBoxStream<'static, Result<Bytes, BodyError>>,
    splitter: Splitter,
    most_bytes: u64,
    read_bytes: u64,
    seen: Vec<String>,
    allowance: Allowance,
    known: &'static [&'static str],
}

/// A field of a form being read.
pub struct Field<'form> {
    form: &'form mut Form,
    head: Head,
    digests: Digests,
    verifier: Verifier,
}

impl Form {
    /// Starts reading a form that may have the fields `known`. Nothing is read before [`Self::next`] is called.
    ///
    /// # Errors
    /// When the content type of the request is not `multipart/form-data` with a valid boundary.
    pub fn open(
        request: &HttpRequest,
        body: Body,
        limits: &Limits,
        most: &ContentLimit,
        known: &'static [&'static str],
    ) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |it| it.as_bytes());
        let boundary = boundary(content_type).ok_or_else(|| {
            ApiError::malformed("The request must have the content type 'multipart/form-data' with a boundary.")
        })?;
        let allowance = Allowance::unlimited();
        Ok(Self {
            body: timed(body, limits, allowance.clone()).fuse().boxed_local(),
            splitter: Splitter::new(&boundary),
            most_bytes: most.body_bytes(),
            read_bytes: 0,
            seen: Vec::new(),
            allowance,
            known,
        })
    }

    /// The next field; `None` after the last one.
    ///
    /// # Errors
    /// When the field is unknown, is given more than once or has unsupported content, or when the form is malformed,
    /// declares a charset other than UTF-8 or cannot be read.
    pub async fn next(&mut self) -> Result<Option<Field<'_>>, ApiError> {
        loop {
            self.allowance.set(BETWEEN_FIELDS_BYTES);
            let Some(head) = self.head().await? else {
                // Reads to the end, which detects a truncated body.
                while self.read().await? {}
                return Ok(None);
            };
            self.allowance.set(u64::MAX);
            let head = Head::parse(&head).map_err(cannot_be_read)?;
            let name = &head.name;
            if !self.known.contains(&name.as_str()) && name != CHARSET {
                return Err(ApiError::unknown(name, self.known));
            }
            if self.seen.contains(name) {
                return Err(ApiError::invalid(name, format!("'{name}' is given more than once.")));
            }
            if let Some(unusable) = &head.unusable {
                return Err(ApiError::invalid(name, format!("'{name}' {unusable}.")));
            }
            let claims = head.digests.clone().map_err(|error| ApiError::bad_digest(name, &error))?;
            self.seen.push(name.clone());
            let (digests, is_charset) = (claims.digests(), name == CHARSET);
            if !is_charset {
                return Ok(Some(Field { form: self, head, digests, verifier: claims.verify() }));
            }
            let charset = Field { form: self, head, digests, verifier: claims.verify() }.text().await?;
            if !charset.trim().eq_ignore_ascii_case("utf-8") {
                let message = format!("'{CHARSET}' must be 'utf-8', but was '{}'.", Shown(&charset));
                return Err(ApiError::invalid(CHARSET, message));
            }
        }
    }

    async fn head(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            match self.splitter.head().map_err(cannot_be_read)? {
                Poll::Ready(head) => return Ok(head),
                Poll::Pending => self.read_more().await?,
            }
        }
    }

    async fn content(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            match self.splitter.content().map_err(cannot_be_read)? {
                Poll::Ready(content) => return Ok(content),
                Poll::Pending => self.read_more().await?,
            }
        }
    }

    /// Reads the next piece of the body. The end of the body is an error.
    async fn read_more(&mut self) -> Result<(), ApiError> {
        if self.read().await? {
            return Ok(());
        }
        Err(ApiError::malformed(
            "The form is not terminated: the body is truncated, its boundary differs from the one in the content type, \
             or its lines do not end in CRLF.",
        ))
    }

    /// Reads the next piece of the body. Returns `false` at its end.
    async fn read(&mut self) -> Result<bool, ApiError> {
        let Some(piece) = self.body.next().await else { return Ok(false) };
        let piece = piece.as_ref().map_err(ApiError::from)?;
        self.read_bytes += piece.len() as u64;
        if self.read_bytes > self.most_bytes {
            return Err(ApiError::malformed(format!("The body has more than {} bytes.", self.most_bytes)));
        }
        self.splitter.push(piece.clone());
        Ok(true)
    }
}

impl Field<'_> {
    /// The name of the field.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// The digests that the content has once it has been read without an error.
    pub fn digests(&self) -> Digests {
        self.digests.clone()
    }

    /// The next bytes of the content; `None` at its end.
    ///
    /// # Errors
    /// When the form is malformed, its body cannot be read, or the content does not have a digest in the field's headers.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let next = self.form.content().await?;
        match &next {
            Some(bytes) => self.verifier.update(bytes),
            None => self.verifier.finish().map_err(|wrong| ApiError::wrong_digest(&self.head.name, &wrong))?,
        }
        Ok(next)
    }

    /// Reads the whole content as text.
    ///
    /// # Errors
    /// When it exceeds [`Limits::FORM_TEXT_BYTES`] or is not UTF-8, or as for [`Self::next`].
    pub async fn text(mut self) -> Result<String, ApiError> {
        let mut text = Vec::new();
        while let Some(bytes) = self.next().await? {
            if text.len() + bytes.len() > Limits::FORM_TEXT_BYTES {
                let (name, most) = (self.name(), Limits::FORM_TEXT_BYTES);
                let message = format!("'{name}' has more than the maximum of {most} bytes.");
                return Err(ApiError::invalid(self.name(), message));
            }
            text.extend_from_slice(&bytes);
        }
        String::from_utf8(text)
            .map_err(|_| ApiError::invalid(self.name(), format!("'{}' is not UTF-8 text.", self.name())))
    }

    /// The file name of the field; `upload` if there is none, which is the SDKs' name for unnamed bytes.
    ///
    /// # Errors
    /// When the file name is invalid.
    pub fn filename(&self) -> Result<Filename, ApiError> {
        let invalid = |message: String| ApiError::invalid(self.name(), message);
        match &self.head.filename {
            Ok(name) => name
                .as_deref()
                .unwrap_or("upload")
                .parse()
                .map_err(|error| invalid(format!("The file name cannot be used: {error}."))),
            Err(error) => Err(invalid(format!("The file name cannot be read: {error}."))),
        }
    }

    /// The content type of the field; `application/octet-stream` if there is none.
    ///
    /// # Errors
    /// When the content type is invalid.
    pub fn mime_type(&self) -> Result<MimeType, ApiError> {
        self.head.mime_type().map_err(|error| {
            let message = format!("The content type '{}' cannot be used: {error}.", Shown(&self.head.content_type));
            ApiError::invalid(self.name(), message)
        })
    }
}

/// The boundary in the content type of a form. Only printable characters are accepted, so it contains no CR or LF.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let content_type = Parameters::parse(content_type).ok().filter(|it| it.value() == "multipart/form-data")?;
    let boundary = content_type.get("boundary")?;
    let printable = boundary.iter().all(|it| matches!(it, b' '..=b'~'));
    (printable && (1..=LONGEST_BOUNDARY).contains(&boundary.len())).then(|| boundary.to_vec())
}

fn cannot_be_read(error: impl std::error::Error) -> ApiError {
    ApiError::malformed(format!("The form cannot be read: {error}."))
}

#[cfg(test)]
mod tests {
    use super::boundary;

    #[test]
    fn the_boundary_may_be_quoted_and_other_parameters_are_ignored() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=B", Some("B")),
            ("Multipart/Form-Data;charset=utf-8;BOUNDARY=\"a b=?;\"", Some("a b=?;")),
            ("multipart/form-data; boundary=----a'b=c:d/e ; x=y", Some("----a'b=c:d/e")),
            ("multipart/form-data; boundary==?utf-8?Q?a%22?=", Some("=?utf-8?Q?a%22?=")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"\"", None),
            ("multipart/form-data; boundary=\"a\tb\"", None),
            ("multipart/form-data; boundary=é", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("multipart/form-data; boundary*=''a%0Db", None),
            ("multipart/mixed; boundary=B", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(boundary(content_type.as_bytes()).as_deref(), expected.map(str::as_bytes), "{content_type}");
        }
        let longest =
            |length: usize| boundary(format!("multipart/form-data; boundary={}", "x".repeat(length)).as_bytes());
        assert!(longest(200).is_some() && longest(201).is_none());
    }
}
