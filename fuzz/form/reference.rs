//! The reference parser: reads a whole form at once, with searches and splits.

use windlass_types::Shown;

use super::case::{BOUNDARIES, Case, Ending, KNOWN};
use super::head::Head;
use super::reading::{ReadField, Reading};

/// Maximum size of a part's header.
const MOST_HEAD_BYTES: usize = 16 * 1024;

/// Maximum number of blanks after a boundary.
const MOST_PADDING_BYTES: usize = 1024;

/// The expected result of a case. `refused` is the beginning of the message.
pub fn read(case: &Case) -> Reading {
    let mut expected = Reading::default();
    expected.refused = read_fields(case, &mut expected).err().map(|it| match it {
        Fault::CutOff if case.ending == Ending::Broken => "The body is incomplete".to_owned(),
        Fault::CutOff => "The form is not terminated".to_owned(),
        Fault::Malformed => "The form cannot be read".to_owned(),
        Fault::Unknown(name) => format!("Unknown parameter: '{}'.", Shown(&name)),
        Fault::Twice(name) => format!("'{name}' is given more than once"),
        Fault::Encoded(name) => format!("'{name}' is sent with 'Content-"),
        Fault::Several(name) => format!("'{name}' is sent as 'multipart/"),
        Fault::NoText(name) => format!("'{name}' is not UTF-8 text"),
        Fault::Charset => "'_charset_' must be 'utf-8'".to_owned(),
    });
    expected
}

enum Fault {
    /// The form is valid so far, but incomplete.
    CutOff,
    /// A header or a boundary line is malformed.
    Malformed,
    Unknown(String),
    Twice(String),
    /// The content of this field would have to be decoded.
    Encoded(String),
    /// The content of this field is a nested multipart body.
    Several(String),
    NoText(String),
    /// The form declares a charset other than UTF-8.
    Charset,
}

fn read_fields(case: &Case, expected: &mut Reading) -> Result<(), Fault> {
    // The first boundary must begin a line as well, also at the beginning of the body.
    let body = [b"\r\n", &case.body[..]].concat();
    let delimiter = format!("\r\n--{}", BOUNDARIES[case.boundary]);
    let mut seen = Vec::new();
    let (before, mut next) = cut(&body, &delimiter.as_bytes()[1..]);
    if next.is_ok() && !before.ends_with(b"\r") {
        return Err(Fault::Malformed);
    }
    while let Some(rest) = next? {
        let (head, content) = part(rest)?;
        let head = Head::read(head).ok_or(Fault::Malformed)?;
        let name = head.name;
        if !KNOWN.contains(&&*name) && name != "_charset_" {
            return Err(Fault::Unknown(name));
        }
        if seen.contains(&name) {
            return Err(Fault::Twice(name));
        }
        if head.encoded {
            return Err(Fault::Encoded(name));
        }
        if head.several {
            return Err(Fault::Several(name));
        }
        seen.push(name.clone());
        let (content, end) = cut(content, delimiter.as_bytes());
        next = end;
        if name != "_charset_" {
            expected.cut_off = content.to_vec();
        }
        if next.is_err() {
            continue;
        }
        let text = std::str::from_utf8(content);
        if (name == KNOWN[0] || name == "_charset_") && text.is_err() {
            return Err(Fault::NoText(name));
        }
        if name != "_charset_" {
            let content = std::mem::take(&mut expected.cut_off);
            expected.fields.push(ReadField { name, filename: head.filename, mime_type: head.mime_type, content });
        } else if !text.is_ok_and(|it| it.trim().eq_ignore_ascii_case("utf-8")) {
            return Err(Fault::Charset);
        }
    }
    // The text after the form is skipped, but the body must not be truncated there.
    if case.ending == Ending::Broken { Err(Fault::CutOff) } else { Ok(()) }
}

/// Splits at the first delimiter line: what precedes it, and what follows the boundary and its blanks (`None` after the
/// last boundary).
fn cut<'a>(bytes: &'a [u8], delimiter: &[u8]) -> (&'a [u8], Result<Option<&'a [u8]>, Fault>) {
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(delimiter.len()).position(|it| it == delimiter) {
        let (before, rest) = (&bytes[..at + found], &bytes[at + found + delimiter.len()..]);
        let blanks = rest.iter().take_while(|it| b" \t".contains(it)).count();
        let line = &rest[blanks..];
        if blanks > MOST_PADDING_BYTES || line.starts_with(b"\n") {
            return (before, Err(Fault::Malformed));
        }
        if rest.starts_with(b"--") {
            return (before, Ok(None));
        }
        if line.starts_with(b"\r\n") {
            return (before, Ok(Some(line)));
        }
        // More bytes could make this a delimiter.
        if line.is_empty() || line == b"\r" || rest == b"-" {
            return (before, Err(Fault::CutOff));
        }
        at += found + 1;
    }
    (bytes, Err(Fault::CutOff))
}

/// Splits what follows a boundary into header, which may be empty, and content.
fn part(rest: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = rest.windows(4).position(|it| it == b"\r\n\r\n");
    if end.unwrap_or(rest.len().saturating_sub(3)) > MOST_HEAD_BYTES + 2 {
        return Err(Fault::Malformed);
    }
    let end = end.ok_or(Fault::CutOff)?;
    Ok((rest[..end].get(2..).unwrap_or_default(), &rest[end + 4..]))
}
