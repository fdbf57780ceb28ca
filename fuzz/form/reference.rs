//! Reads a form the simple way: all of it at once, with searches and splits.

use windlass::domain::Shown;

use super::case::{BOUNDARIES, Case, Ending, KNOWN};
use super::head::Head;
use super::reading::{ReadField, Reading};

/// The longest head of a part.
const MOST_HEAD_BYTES: usize = 16 * 1024;

/// The most blanks after a boundary.
const MOST_PADDING_BYTES: usize = 1024;

/// What must become of a case. `refused` is how the message begins.
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
    /// Everything is right, and something is missing.
    CutOff,
    /// A head or the line of a boundary is not as it must be.
    Malformed,
    Unknown(String),
    Twice(String),
    /// Its content would have to be decoded.
    Encoded(String),
    /// Its content would be several files.
    Several(String),
    NoText(String),
    /// The texts are in another one than UTF-8.
    Charset,
}

fn read_fields(case: &Case, expected: &mut Reading) -> Result<(), Fault> {
    // The first boundary begins a line as well, even where the body begins with it.
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
    // What follows is passed over, but must have come.
    if case.ending == Ending::Broken { Err(Fault::CutOff) } else { Ok(()) }
}

/// What precedes the first line that is a delimiter; and what follows the boundary and its blanks, nothing
/// after the last one.
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
        // What may become a delimiter is held back.
        if line.is_empty() || line == b"\r" || rest == b"-" {
            return (before, Err(Fault::CutOff));
        }
        at += found + 1;
    }
    (bytes, Err(Fault::CutOff))
}

/// The head and the content, of what follows a boundary. A head may be empty.
fn part(rest: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = rest.windows(4).position(|it| it == b"\r\n\r\n");
    if end.unwrap_or(rest.len().saturating_sub(3)) > MOST_HEAD_BYTES + 2 {
        return Err(Fault::Malformed);
    }
    let end = end.ok_or(Fault::CutOff)?;
    Ok((rest[..end].get(2..).unwrap_or_default(), &rest[end + 4..]))
}
