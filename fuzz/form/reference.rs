//! Reads a form the simple way: all of it at once, with searches and splits.

use super::case::{BOUNDARIES, Case, Ending, KNOWN};
use super::head::{Head, Names};
use super::reading::{ReadField, Reading};

/// What must become of a case. `refused` is how the message begins.
///
/// `read` is what did become of it: it has the names where the reference has no opinion.
pub fn read(case: &Case, read: &Reading) -> Reading {
    let mut expected = Reading::default();
    expected.refused = read_fields(case, read, &mut expected).err().map(|it| match it {
        Fault::CutOff if case.ending == Ending::Broken => "The body ended before its end".to_owned(),
        Fault::CutOff | Fault::NoDelimiter => "The form has no end".to_owned(),
        Fault::Head => "The form cannot be read".to_owned(),
        Fault::Unknown(name) => format!("Unknown parameter: '{name}'."),
        Fault::Twice(name) => format!("'{name}' is given twice"),
        Fault::NoText => format!("'{}' is not UTF-8 text", KNOWN[0]),
        Fault::Any => String::new(),
    });
    expected
}

enum Fault {
    /// Everything is right, and something is missing.
    CutOff,
    /// What follows the boundary in its line makes it none.
    NoDelimiter,
    Head,
    Unknown(String),
    Twice(String),
    NoText,
    /// It depends on a name of which the reference has no opinion.
    Any,
}

fn read_fields(case: &Case, read: &Reading, expected: &mut Reading) -> Result<(), Fault> {
    let first = format!("--{}", BOUNDARIES[case.boundary]);
    let delimiter = format!("\r\n{first}");
    // Laxer than RFC 2046: the first one need not begin a line, and what precedes it is passed over.
    let (_, mut rest) = cut(&case.body, first.as_bytes()).ok_or(Fault::CutOff)?;
    while !rest.starts_with(b"--") {
        let (head, content) = part(rest)?;
        let head = Head::read(head).ok_or(Fault::Head)?;
        let end = cut(content, delimiter.as_bytes());
        expected.cut_off = end.map_or(content, |it| it.0).to_vec();
        let names = match head.names() {
            Some(names) => names,
            None => read.fields.get(expected.fields.len()).map(names_of).ok_or(Fault::Any)?,
        };
        let name = names.name;
        if !KNOWN.contains(&name.as_str()) {
            return Err(Fault::Unknown(name));
        }
        if expected.fields.iter().any(|it| it.name == name) {
            return Err(Fault::Twice(name));
        }
        let (_, after) = end.ok_or(Fault::CutOff)?;
        let content = std::mem::take(&mut expected.cut_off);
        if name == KNOWN[0] && std::str::from_utf8(&content).is_err() {
            return Err(Fault::NoText);
        }
        let (filename, mime_type) = (names.filename, head.mime_type());
        expected.fields.push(ReadField { name, filename, mime_type, content });
        rest = after;
    }
    // What follows is passed over, but must have come.
    if case.ending == Ending::Broken { Err(Fault::CutOff) } else { Ok(()) }
}

/// What is before it and what is after.
fn cut<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|it| it == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

/// The head and what follows it, of what follows a boundary.
fn part(rest: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let padding = if rest.len() < 2 { 0 } else { rest.iter().take_while(|it| b" \t".contains(it)).count() };
    let line = &rest[padding..];
    if line.len() < 2 {
        return Err(Fault::CutOff);
    }
    let head = line.strip_prefix(b"\r\n").ok_or(Fault::NoDelimiter)?;
    // A part without any header is legal in RFC 2046, and begins with an empty line. In a form it would
    // have no name, so nothing is lost by looking for an empty line further on, as multer does.
    let (lines, content) = cut(head, b"\r\n\r\n").ok_or(Fault::CutOff)?;
    Ok((&head[..lines.len() + 2], content))
}

fn names_of(field: &ReadField) -> Names {
    Names { name: field.name.clone(), filename: field.filename.clone() }
}
