//! Parses the head of a form's part (RFC 7578, section 4): its headers, with folded lines.

use windlass_types::{BadMimeType, MimeType, Shown};

use super::parameters::{BadParameters, Parameters, is_token};
use super::text::{BadText, excerpt};
use crate::http::digests::{BadDigestHeader, Claims};

const DISPOSITION: &str = "Content-Disposition";
const TYPE: &str = "Content-Type";
const TRANSFER_ENCODING: &str = "Content-Transfer-Encoding";
const ENCODING: &str = "Content-Encoding";

/// The relevant headers of a part.
#[derive(Debug)]
pub struct Head {
    /// The name of the field; empty if there is none.
    pub name: String,
    /// The file name, if there is one, or why it cannot be decoded.
    pub filename: Result<Option<String>, BadText>,
    /// The content type; empty if there is none.
    pub content_type: String,
    /// Why the content is not supported, if it is not.
    pub unusable: Option<Unusable>,
    /// The digests of the content, or why they cannot be verified.
    pub digests: Result<Claims, BadDigestHeader>,
}

/// The error for a malformed head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    #[error("the line '{0}' in a part's header is not of the form 'Name: value'")]
    NotAHeader(String),
    #[error("a line in a part's header ends in LF alone; lines must end in CRLF")]
    BareLf,
    #[error("a part's header contains the control character U+{0:04X}")]
    Control(u8),
    #[error("a part has two {0} headers")]
    Twice(&'static str),
    #[error("a part has no Content-Disposition header, such as 'form-data; name=\"file\"; filename=\"a.txt\"'")]
    NoDisposition,
    #[error("the Content-Disposition of a part is '{0}'; it must be 'form-data'")]
    NotFormData(String),
    #[error("the Content-Disposition of a part cannot be used: {0}")]
    Disposition(#[from] BadParameters),
    #[error("the name of a field cannot be read: {0}")]
    Name(BadText),
}

/// Content that is valid, but not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The content is encoded (RFC 7578, section 4.7).
    #[error("is sent with '{header}: {value}', which is not supported; send it unencoded, without this header")]
    Encoded { header: &'static str, value: String },
    /// The content is a nested multipart body with several files, as older clients send it (RFC 7578, section 4.3).
    #[error(
        "is sent as '{type}' without a file name, which is how several files are sent in one field, and is not \
         supported; send one file per request",
        type = Shown(.0)
    )]
    SeveralFiles(String),
}

impl Head {
    /// Parses a head, without the CRLF of its last line.
    ///
    /// # Errors
    /// When the head is malformed, or is not that of a form's part.
    pub fn parse(head: &[u8]) -> Result<Self, BadHead> {
        let headers = Headers::read(head)?;
        let disposition = headers.get(DISPOSITION)?.ok_or(BadHead::NoDisposition)?;
        let disposition = Parameters::parse(disposition)?;
        if disposition.value() != "form-data" {
            return Err(BadHead::NotFormData(excerpt(disposition.value().as_bytes())));
        }
        let content_type = headers.text(TYPE)?;
        let filename = disposition.text("filename");
        let encoded = encoded(&headers)?;
        let several = several_files(&content_type).filter(|_| filename == Ok(None));
        Ok(Self {
            name: disposition.text("name").map_err(BadHead::Name)?.unwrap_or_default(),
            filename,
            content_type,
            unusable: encoded.or(several),
            digests: Claims::parse(|name| headers.all(name)),
        })
    }

    /// The content type of the file; `application/octet-stream` if there is none. The parameters are removed if it is
    /// invalid with them.
    ///
    /// # Errors
    /// When it is invalid without parameters, too.
    pub fn mime_type(&self) -> Result<MimeType, BadMimeType> {
        match self.content_type.as_str() {
            "" => Ok(MimeType::octet_stream()),
            sent => sent.parse().or_else(|_| essence(sent).parse()),
        }
    }
}

/// The content type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim_ascii()
}

fn several_files(content_type: &str) -> Option<Unusable> {
    let essence = essence(content_type).to_ascii_lowercase();
    essence.starts_with("multipart/").then_some(Unusable::SeveralFiles(essence))
}

/// The encoding of the content, if it is encoded.
fn encoded(headers: &Headers) -> Result<Option<Unusable>, BadHead> {
    let is_any_of = |value: &str, harmless: &[&str]| harmless.iter().any(|it| value.eq_ignore_ascii_case(it));
    let (transfer, codings) = (headers.text(TRANSFER_ENCODING)?, headers.text(ENCODING)?);
    let (header, value) = if !is_any_of(&transfer, &["", "7bit", "8bit", "binary"]) {
        (TRANSFER_ENCODING, transfer)
    } else if !codings.split(',').all(|it| is_any_of(it.trim_ascii(), &["", "identity"])) {
        (ENCODING, codings)
    } else {
        return Ok(None);
    };
    Ok(Some(Unusable::Encoded { header, value: excerpt(value.as_bytes()) }))
}

/// The headers of one part: the names in their original case, and the unfolded values.
struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    fn read(head: &[u8]) -> Result<Self, BadHead> {
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut lines = head.split(|it| *it == b'\n').peekable();
        while let Some(line) = lines.next() {
            let line = match line {
                [line @ .., b'\r'] if lines.peek().is_some() => line,
                last if lines.peek().is_none() => last,
                _ => return Err(BadHead::BareLf),
            };
            if let Some(control) = line.iter().find(|it| it.is_ascii_control() && **it != b'\t') {
                return Err(BadHead::Control(*control));
            }
            match (line, headers.last_mut()) {
                ([], _) => {}
                ([b' ' | b'\t', ..], Some((_, folded))) => folded.extend_from_slice(line),
                _ => headers.push(Self::header(line).ok_or_else(|| BadHead::NotAHeader(excerpt(line)))?),
            }
        }
        Ok(Self(headers))
    }

    fn header(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let (name, value) = line.split_at(line.iter().position(|it| *it == b':')?);
        let name = name.trim_ascii_end();
        (!name.is_empty() && name.iter().copied().all(is_token)).then(|| (name.to_vec(), value[1..].to_vec()))
    }

    fn all(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        let values = self.0.iter().filter(|it| it.0.eq_ignore_ascii_case(name.as_bytes()));
        values.map(|it| it.1.trim_ascii())
    }

    fn get(&self, name: &'static str) -> Result<Option<&[u8]>, BadHead> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() { Err(BadHead::Twice(name)) } else { Ok(value) }
    }

    /// The value of a header, with tabs, which folded lines may contain, replaced by spaces; empty if there is none.
    fn text(&self, name: &'static str) -> Result<String, BadHead> {
        Ok(String::from_utf8_lossy(self.get(name)?.unwrap_or_default()).replace('\t', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Head {
        Head::parse(head.as_bytes()).unwrap_or_else(|error| panic!("{error}: {head:?}"))
    }

    #[test]
    fn headers_are_found_in_any_case_and_order_and_folded() {
        for head in [
            "Content-Disposition: form-data; name=\"file\"; filename=\"a  b\"\r\nContent-Type: text/plain; charset=x",
            "content-type:text/plain; charset=x\r\nX-Other: {}[] \u{e9}\r\n\
             CONTENT-DISPOSITION:Form-Data;name=file;filename=\"a  b\"",
            "Content-Type :\t text/plain;\r\n\tcharset=x\r\n \r\n\
             Content-Disposition:\r\n form-data; name=\r\n\tfile\r\n ;filename=\"a\r\n  b\"",
        ] {
            let head = parse(head);
            assert_eq!(head.name, "file");
            assert_eq!(head.filename.unwrap().as_deref(), Some("a  b"));
            assert_eq!(head.content_type, "text/plain; charset=x");
            assert_eq!(head.unusable, None);
        }
    }

    #[test]
    fn a_missing_name_or_a_bad_file_name_does_not_invalidate_the_head() {
        let head = parse("Content-Disposition: form-data; filename*=x");
        assert_eq!((head.name.as_str(), head.filename), ("", Err(BadText::NotExtended)));
        assert_eq!(head.content_type, "");
    }

    #[test]
    fn malformed_heads_are_refused() {
        let disposition = "Content-Disposition: form-data; name=file";
        for (head, error) in [
            ("", BadHead::NoDisposition),
            ("Content-Type: text/plain", BadHead::NoDisposition),
            ("no colon", BadHead::NotAHeader("no colon".to_owned())),
            (": empty", BadHead::NotAHeader(": empty".to_owned())),
            (" folded: first", BadHead::NotAHeader(" folded: first".to_owned())),
            ("two words: x", BadHead::NotAHeader("two words: x".to_owned())),
            (&format!("a: b\n{disposition}"), BadHead::BareLf),
            (&format!("a: b\r{disposition}"), BadHead::Control(b'\r')),
            (&format!("{disposition}\0"), BadHead::Control(0)),
            (&format!("a: \u{7f}\r\n{disposition}"), BadHead::Control(0x7f)),
            (&format!("{disposition}\r\n{disposition}"), BadHead::Twice(DISPOSITION)),
            (&format!("{disposition}\r\nContent-Type: a\r\ncontent-type: a"), BadHead::Twice(TYPE)),
            ("Content-Disposition: name=file", BadHead::NotFormData("name=file".to_owned())),
            ("Content-Disposition: attachment; name=file", BadHead::NotFormData("attachment".to_owned())),
            (&format!("{disposition}; x"), BadHead::Disposition(BadParameters::NotAParameter("x".to_owned()))),
            (&format!("{disposition}; NAME=x"), BadHead::Disposition(BadParameters::Twice("name".to_owned()))),
        ] {
            assert_eq!(Head::parse(head.as_bytes()).unwrap_err(), error, "{head:?}");
        }
        let latin_1 = b"Content-Disposition: form-data; name=\"caf\xe9\"";
        assert_eq!(Head::parse(latin_1).unwrap_err(), BadHead::Name(BadText::NotUtf8));
    }

    #[test]
    fn encoded_content_is_reported() {
        for (header, message) in [
            ("Content-Transfer-Encoding: base64", Some("Content-Transfer-Encoding: base64")),
            ("content-transfer-encoding:Quoted-Printable", Some("Content-Transfer-Encoding: Quoted-Printable")),
            ("Content-Transfer-Encoding: x-uuencode", Some("Content-Transfer-Encoding: x-uuencode")),
            ("Content-Transfer-Encoding: BINARY", None),
            ("Content-Transfer-Encoding: 7bit", None),
            ("Content-Transfer-Encoding:", None),
            ("Content-Encoding: gzip", Some("Content-Encoding: gzip")),
            ("Content-Encoding: Identity", None),
            ("Content-Encoding: identity ,\tIDENTITY,", None),
            ("Content-Encoding: identity, gzip", Some("Content-Encoding: identity, gzip")),
            ("Content-Transfer-Encoding: 8bit, 8bit", Some("Content-Transfer-Encoding: 8bit, 8bit")),
        ] {
            let head = parse(&format!("Content-Disposition: form-data; name=file\r\n{header}"));
            match (head.unusable, message) {
                (Some(encoded), Some(message)) => assert!(encoded.to_string().contains(message), "{encoded}"),
                (encoded, message) => assert_eq!((encoded, message), (None, None), "{header}"),
            }
        }
    }

    #[test]
    fn several_files_in_one_field_are_reported() {
        let unusable = |head: &str| parse(&format!("Content-Disposition: form-data; name=file{head}")).unusable;
        for head in ["\r\nContent-Type: multipart/mixed; boundary=x", "\r\nContent-Type: MULTIPART/Mixed"] {
            assert_eq!(unusable(head), Some(Unusable::SeveralFiles("multipart/mixed".to_owned())), "{head}");
        }
        for head in [
            "; filename=a.mht\r\nContent-Type: multipart/related; boundary=x",
            "; filename*=a\r\nContent-Type: multipart/mixed; boundary=x",
            "\r\nContent-Type: multipart",
            "\r\nContent-Type: x-multipart/mixed",
        ] {
            assert_eq!(unusable(head), None, "{head}");
        }
    }

    #[test]
    fn an_invalid_content_type_is_stripped_of_its_parameters() {
        let long = |length: usize| format!("a/b; c={}", "d".repeat(length - "a/b; c=".len()));
        for (sent, kept) in [
            ("", Some("application/octet-stream")),
            ("text/plain; charset=x", Some("text/plain; charset=x")),
            ("text/plain; name=\"日本\"", Some("text/plain")),
            ("Text/Plain ;name=é; charset=x", Some("Text/Plain")),
            ("txt;\té", Some("txt")),
            (&long(255), Some(&long(255))),
            (&long(256), Some("a/b")),
            ("日本", None),
            ("日本; a=b", None),
            ("; name=日本", None),
            (&"x".repeat(256), None),
        ] {
            let head = parse(&format!("Content-Disposition: form-data; name=file\r\nContent-Type: {sent}"));
            assert_eq!(head.mime_type().ok().as_ref().map(MimeType::as_str), kept, "{sent}");
        }
    }
}
