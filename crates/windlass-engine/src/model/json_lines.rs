//! A streaming check that each line of a text is one JSON object (RFC 8259). Lines may have any length, and the text
//! may be split anywhere: at most one incomplete character is buffered.

use std::fmt;
use std::str;

/// The maximum nesting depth, including the line's own object: the limit of `serde_json`.
const MAX_DEPTH: u32 = 127;

/// The byte order mark in UTF-8.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A check in progress. A line ends with a line feed, which the last line may lack. A carriage return counts as white
/// space between tokens; the text may begin with a byte order mark.
#[derive(Debug, Clone)]
pub struct JsonLines {
    state: State,
    /// Whether the current string is the name of a member.
    in_name: bool,
    /// The number of open objects and arrays.
    depth: u32,
    /// One bit for each of these: 1 for an object, 0 for an array. The innermost has the lowest bit.
    are_objects: u128,
    /// The bytes of an incomplete character.
    partial: Vec<u8>,
    line: u64,
    /// Where the line begins, in bytes from the beginning of the text.
    line_start: u64,
    /// The number of bytes of whole characters that were accepted so far.
    taken: u64,
    objects: u64,
    bad: Option<BadLine>,
}

/// What is allowed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Object,
    /// The rest of a byte order mark.
    Bom(&'static [u8]),
    FirstNameOrEnd,
    Name,
    Colon,
    Value,
    FirstValueOrEnd,
    CommaOrEnd,
    InString,
    Escaped,
    /// This many more hexadecimal digits.
    Hex(u8),
    /// The rest of a literal such as `true`.
    Word(&'static [u8]),
    /// After a minus.
    Integer,
    /// After a zero at a number's beginning.
    PointOrExponent,
    InInteger,
    Fraction,
    InFraction,
    ExponentOrSign,
    Exponent,
    InExponent,
    LineEnd,
}

/// The first line that is not a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not a JSON object: expected {expected} but found {found} at byte {byte} of the line")]
pub struct BadLine {
    /// The number of the line, from 1.
    pub line: u64,
    byte: u64,
    found: Found,
    expected: Expected,
}

/// What was found instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Byte(u8),
    EndOfLine,
    EndOfFile,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(byte) if byte.is_ascii_graphic() || *byte == b' ' => write!(f, "'{}'", char::from(*byte)),
            Self::Byte(byte) => write!(f, "0x{byte:02X}"),
            Self::EndOfLine => f.write_str("the end of the line"),
            Self::EndOfFile => f.write_str("the end of the file"),
        }
    }
}

/// What was expected.
type Expected = &'static str;

const UTF_8: Expected = "UTF-8";

impl Default for JsonLines {
    fn default() -> Self {
        Self {
            state: State::Object,
            in_name: false,
            depth: 0,
            are_objects: 0,
            partial: Vec::new(),
            line: 1,
            line_start: 0,
            taken: 0,
            objects: 0,
            bad: None,
        }
    }
}

impl JsonLines {
    /// Checks the next bytes of the text. They are ignored after the first invalid line.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.bad.is_none()
            && let Some(&first) = rest.first()
        {
            let (found, taken) = match first {
                _ if !self.partial.is_empty() => (Found::Byte(self.partial[0]), self.complete_character(first)),
                b'\n' => (Found::EndOfLine, self.step(first)),
                _ => (Found::Byte(first), self.advance(rest)),
            };
            match taken {
                Ok(length) => rest = &rest[length..],
                Err(expected) => self.fail(found, expected),
            }
        }
    }

    /// Ends the text. The last line is checked for completeness.
    pub fn end(&mut self) {
        let is_between_lines = self.state == State::Object && self.taken == self.line_start;
        if self.bad.is_some() || is_between_lines || self.state == State::LineEnd {
            return;
        }
        match self.partial.first() {
            Some(&first) => self.fail(Found::Byte(first), UTF_8),
            None => self.fail(Found::EndOfFile, self.expected()),
        }
    }

    /// The first invalid line so far.
    pub fn bad(&self) -> Option<&BadLine> {
        self.bad.as_ref()
    }

    /// The number of lines so far that begin with an object.
    pub fn objects(&self) -> u64 {
        self.objects
    }

    fn fail(&mut self, found: Found, expected: Expected) {
        let byte = self.taken - self.line_start + 1;
        self.bad = Some(BadLine { line: self.line, byte, found, expected });
    }

    /// Processes the next byte, or several within a string. Returns how many.
    fn advance(&mut self, rest: &[u8]) -> Result<usize, Expected> {
        if self.state == State::InString {
            let ends = rest.iter().position(|&it| it < b' ' || it == b'"' || it == b'\\');
            let characters = &rest[..ends.unwrap_or(rest.len())];
            if !characters.is_empty() {
                return self.take_characters(characters, ends.is_none());
            }
        }
        self.step(rest[0])
    }

    /// Processes characters of a string, the last of which may be incomplete. Returns the number of bytes.
    fn take_characters(&mut self, text: &[u8], may_be_cut: bool) -> Result<usize, Expected> {
        let whole = match str::from_utf8(text) {
            Ok(text) => text.len(),
            Err(error) if error.valid_up_to() > 0 => error.valid_up_to(),
            Err(error) if error.error_len().is_none() && may_be_cut => {
                self.partial.extend_from_slice(text);
                return Ok(text.len());
            }
            Err(_) => return Err(UTF_8),
        };
        self.taken += whole as u64;
        Ok(whole)
    }

    /// Processes another byte of an incomplete character.
    fn complete_character(&mut self, byte: u8) -> Result<usize, Expected> {
        self.partial.push(byte);
        match str::from_utf8(&self.partial) {
            Ok(_) => {
                self.taken += self.partial.len() as u64;
                self.partial.clear();
                Ok(1)
            }
            Err(error) if error.error_len().is_none() => Ok(1),
            Err(_) => Err(UTF_8),
        }
    }

    /// Processes a byte.
    fn step(&mut self, byte: u8) -> Result<usize, Expected> {
        let mut next = self.next(byte);
        if next.is_none() && self.state.may_end_a_number() {
            self.state = State::CommaOrEnd;
            next = self.next(byte);
        }
        self.state = next.ok_or_else(|| self.expected())?;
        self.taken += 1;
        if byte == b'\n' {
            (self.line, self.line_start) = (self.line + 1, self.taken);
        }
        Ok(1)
    }

    /// The state after a byte; `None` if the byte is not allowed.
    fn next(&mut self, byte: u8) -> Option<State> {
        let state = match (self.state, byte) {
            (State::LineEnd, b'\n') => State::Object,
            (_, b'\n') => return None,
            (state, b' ' | b'\t' | b'\r') if state.is_between_tokens() => state,
            (State::Object, b'{') => {
                self.objects += 1;
                self.open(true)?
            }
            (State::Object, 0xEF) if self.taken == 0 => State::Bom(&BOM[1..]),
            (State::Bom([next, rest @ ..]), byte) if byte == *next => {
                if rest.is_empty() {
                    // The byte order mark is not part of the line.
                    self.line_start = BOM.len() as u64;
                    State::Object
                } else {
                    State::Bom(rest)
                }
            }
            (State::FirstNameOrEnd, b'}') | (State::FirstValueOrEnd, b']') => self.close(),
            (State::FirstNameOrEnd | State::Name, b'"') => {
                self.in_name = true;
                State::InString
            }
            (State::Value | State::FirstValueOrEnd, _) => return self.begin_value(byte),
            (State::CommaOrEnd, b',') if self.is_in_object() => State::Name,
            (State::Colon, b':') | (State::CommaOrEnd, b',') => State::Value,
            (State::CommaOrEnd, b'}') if self.is_in_object() => self.close(),
            (State::CommaOrEnd, b']') if !self.is_in_object() => self.close(),
            (State::InString, b'"') if self.in_name => State::Colon,
            (State::InString, b'"') => State::CommaOrEnd,
            (State::InString, b'\\') => State::Escaped,
            (State::Escaped, b'u') => State::Hex(4),
            (State::Escaped, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => State::InString,
            (State::Hex(1), _) if byte.is_ascii_hexdigit() => State::InString,
            (State::Hex(left), _) if byte.is_ascii_hexdigit() => State::Hex(left - 1),
            (State::Word([last]), _) if byte == *last => State::CommaOrEnd,
            (State::Word([next, rest @ ..]), _) if byte == *next => State::Word(rest),
            (State::Integer, b'0') => State::PointOrExponent,
            (State::Integer | State::InInteger, b'0'..=b'9') => State::InInteger,
            (State::PointOrExponent | State::InInteger, b'.') => State::Fraction,
            (State::Fraction | State::InFraction, b'0'..=b'9') => State::InFraction,
            (State::PointOrExponent | State::InInteger | State::InFraction, b'e' | b'E') => State::ExponentOrSign,
            (State::ExponentOrSign, b'+' | b'-') => State::Exponent,
            (State::ExponentOrSign | State::Exponent | State::InExponent, b'0'..=b'9') => State::InExponent,
            _ => return None,
        };
        Some(state)
    }

    fn begin_value(&mut self, byte: u8) -> Option<State> {
        Some(match byte {
            b'{' => self.open(true)?,
            b'[' => self.open(false)?,
            b'"' => {
                self.in_name = false;
                State::InString
            }
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            b'-' => State::Integer,
            b'0' => State::PointOrExponent,
            b'1'..=b'9' => State::InInteger,
            _ => return None,
        })
    }

    fn open(&mut self, is_object: bool) -> Option<State> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        self.are_objects = self.are_objects << 1 | u128::from(is_object);
        Some(if is_object { State::FirstNameOrEnd } else { State::FirstValueOrEnd })
    }

    fn close(&mut self) -> State {
        self.depth -= 1;
        self.are_objects >>= 1;
        if self.depth == 0 { State::LineEnd } else { State::CommaOrEnd }
    }

    fn is_in_object(&self) -> bool {
        self.are_objects & 1 == 1
    }

    /// What is allowed in the current state.
    fn expected(&self) -> Expected {
        match self.state {
            State::Object => "'{'",
            State::Bom(_) => UTF_8,
            State::FirstNameOrEnd => "a name in double quotes or '}'",
            State::Name => "a name in double quotes",
            State::Colon => "':'",
            State::Value | State::FirstValueOrEnd if self.depth == MAX_DEPTH => {
                "a value nested at most 127 levels deep"
            }
            State::Value => "a value",
            State::FirstValueOrEnd => "a value or ']'",
            State::Integer | State::Fraction | State::ExponentOrSign | State::Exponent => "a digit",
            State::CommaOrEnd | State::PointOrExponent | State::InInteger | State::InFraction | State::InExponent => {
                if self.is_in_object() {
                    "',' or '}'"
                } else {
                    "',' or ']'"
                }
            }
            State::InString => "a character (control characters must be escaped) or the closing quote",
            State::Escaped => "an escape character such as 'n'",
            State::Hex(_) => "a hexadecimal digit",
            State::Word(_) => "the rest of 'true', 'false' or 'null'",
            State::LineEnd => "the end of the line",
        }
    }
}

impl State {
    /// Whether white space is allowed and ignored.
    fn is_between_tokens(self) -> bool {
        matches!(
            self,
            Self::Object
                | Self::FirstNameOrEnd
                | Self::Name
                | Self::Colon
                | Self::Value
                | Self::FirstValueOrEnd
                | Self::CommaOrEnd
                | Self::LineEnd
        )
    }

    /// Whether a number may end here. Only the byte after it shows whether it does.
    fn may_end_a_number(self) -> bool {
        matches!(self, Self::PointOrExponent | Self::InInteger | Self::InFraction | Self::InExponent)
    }
}

#[cfg(test)]
mod tests;
