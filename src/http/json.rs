//! JSON bodies, read field by field, so that an error names the field and says what would be right. Numbers are read
//! from their text, which has every digit.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use super::error::ApiError;
use super::number::whole;

/// A byte order mark, with which some programs begin every file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The fields of an object that have not been read yet.
pub struct Fields<'b> {
    unread: BTreeMap<String, &'b RawValue>,
    known: Vec<&'static str>,
    within: Option<&'static str>,
}

impl<'b> Fields<'b> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not JSON, or not an object.
    pub fn parse(body: &'b [u8]) -> Result<Self, ApiError> {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        if body.is_empty() {
            return Err(ApiError::malformed("The body is empty; it must be a JSON object."));
        }
        let value: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
        match Kind::of(value) {
            Kind::Object => Self::of(value, None),
            other => Err(ApiError::malformed(format!("The body must be a JSON object, but was {other}."))),
        }
    }

    fn of(object: &'b RawValue, within: Option<&'static str>) -> Result<Self, ApiError> {
        let unread = serde_json::from_str(object.get()).map_err(|error| not_json(&error))?;
        Ok(Self { unread, known: Vec::new(), within })
    }

    /// Takes a text that must be there.
    pub fn text(&mut self, name: &'static str) -> Result<String, ApiError> {
        let value = self.take(name).ok_or_else(|| ApiError::missing(&self.path(name), "a string"))?;
        self.read_text(name, value)
    }

    /// Takes a text that may be absent or null.
    pub fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        let value = self.take(name).filter(|it| Kind::of(it) != Kind::Null);
        value.map(|it| self.read_text(name, it)).transpose()
    }

    /// Takes a whole number that must be there.
    pub fn integer(&mut self, name: &'static str) -> Result<i64, ApiError> {
        let value = self.take(name).ok_or_else(|| ApiError::missing(&self.path(name), "a whole number"))?;
        let path = self.path(name);
        match Kind::of(value) {
            Kind::Number => whole(value.get()).map_err(|error| ApiError::invalid(&path, format!("'{path}' {error}."))),
            other => Err(wrong(&path, "a whole number", other)),
        }
    }

    /// Takes a list of texts that must be there.
    pub fn texts(&mut self, name: &'static str) -> Result<Vec<String>, ApiError> {
        let value = self.take(name).ok_or_else(|| ApiError::missing(&self.path(name), "a list of strings"))?;
        let path = self.path(name);
        if Kind::of(value) != Kind::List {
            return Err(wrong(&path, "a list of strings", Kind::of(value)));
        }
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|error| not_json(&error))?;
        let read = |item: &RawValue| match Kind::of(item) {
            Kind::Text => decoded(&path, item),
            other => {
                let message = format!("'{path}' must be a list of strings, but one of its items is {other}.");
                Err(ApiError::invalid(&path, message))
            }
        };
        items.into_iter().map(read).collect()
    }

    /// Takes an object that may be absent or null.
    pub fn optional_object(&mut self, name: &'static str) -> Result<Option<Self>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match Kind::of(value) {
            Kind::Object => Self::of(value, Some(name)).map(Some),
            Kind::Null => Ok(None),
            other => Err(wrong(&self.path(name), "an object", other)),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When a field is left that nobody asked for.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.unread.keys().next() {
            Some(name) => Err(ApiError::unknown(&self.path(name), &self.known)),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'b RawValue> {
        self.known.push(name);
        self.unread.remove(name)
    }

    fn path(&self, name: &str) -> String {
        self.within.map_or_else(|| name.to_owned(), |within| format!("{within}.{name}"))
    }

    fn read_text(&self, name: &str, value: &RawValue) -> Result<String, ApiError> {
        match Kind::of(value) {
            Kind::Text => decoded(&self.path(name), value),
            other => Err(wrong(&self.path(name), "a string", other)),
        }
    }
}

/// The only thing that can still be wrong with a text is an escape.
fn decoded(path: &str, text: &RawValue) -> Result<String, ApiError> {
    serde_json::from_str(text.get()).map_err(|_| {
        ApiError::invalid(path, format!("'{path}' is not Unicode text: it has one half of a surrogate pair."))
    })
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::malformed(format!("The body is not JSON: {error}."))
}

fn wrong(path: &str, right: &str, was: Kind) -> ApiError {
    ApiError::invalid(path, format!("'{path}' must be {right}, but was {was}."))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Number,
    Text,
    List,
    Object,
}

impl Kind {
    /// What a value is shows in its first character.
    fn of(value: &RawValue) -> Self {
        match value.get().as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => Self::Text,
            Some(b'[') => Self::List,
            Some(b'{') => Self::Object,
            _ => Self::Number,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        })
    }
}
