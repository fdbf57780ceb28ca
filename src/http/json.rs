//! JSON bodies, read field by field, so that an error names the field and says what would be right. Numbers are read
//! from their text, so that no digit is lost.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::ApiError;
use super::number::whole;
use crate::domain::Shown;

/// A byte order mark, which some programs write at the beginning of every file.
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
        let kind = Kind::of(value);
        if kind != Kind::Object {
            return Err(ApiError::malformed(format!("The body must be a JSON object, but was {kind}.")));
        }
        Self::of(value, None)
    }

    fn of(object: &'b RawValue, within: Option<&'static str>) -> Result<Self, ApiError> {
        let Members(members) = serde_json::from_str(object.get()).map_err(|error| not_json(&error))?;
        let mut fields = Self { unread: BTreeMap::new(), known: Vec::new(), within };
        for (name, value) in members {
            if fields.unread.contains_key(&name) {
                let path = fields.path(&name);
                let message = format!("'{}' is given more than once.", Shown(&path));
                return Err(ApiError::invalid(&path, message));
            }
            fields.unread.insert(name, value);
        }
        Ok(fields)
    }

    /// Takes a text that must be there.
    pub fn text(&mut self, name: &'static str) -> Result<String, ApiError> {
        let (path, value) = self.required(name, "a string")?;
        decoded(&path, of_kind(&path, value, Kind::Text, "a string")?)
    }

    /// Takes a text that may be absent or null.
    pub fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        let Some((path, value)) = self.optional(name) else { return Ok(None) };
        decoded(&path, of_kind(&path, value, Kind::Text, "a string")?).map(Some)
    }

    /// Takes a whole number that must be there.
    pub fn integer(&mut self, name: &'static str) -> Result<i64, ApiError> {
        let (path, value) = self.required(name, "a whole number")?;
        let number = of_kind(&path, value, Kind::Number, "a whole number")?;
        whole(number.get()).map_err(|error| ApiError::invalid(&path, format!("'{path}' {error}.")))
    }

    /// Takes a list of texts that must be there.
    pub fn texts(&mut self, name: &'static str) -> Result<Vec<String>, ApiError> {
        let (path, value) = self.required(name, "a list of strings")?;
        let list = of_kind(&path, value, Kind::List, "a list of strings")?;
        let items: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(|error| not_json(&error))?;
        let text = |item: &RawValue| {
            let kind = Kind::of(item);
            if kind != Kind::Text {
                let message = format!("'{path}' must be a list of strings, but one of its items is {kind}.");
                return Err(ApiError::invalid(&path, message));
            }
            decoded(&path, item)
        };
        items.into_iter().map(text).collect()
    }

    /// Takes an object that may be absent or null.
    pub fn optional_object(&mut self, name: &'static str) -> Result<Option<Self>, ApiError> {
        let Some((path, value)) = self.optional(name) else { return Ok(None) };
        Self::of(of_kind(&path, value, Kind::Object, "an object")?, Some(name)).map(Some)
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

    fn required(&mut self, name: &'static str, right: &str) -> Result<(String, &'b RawValue), ApiError> {
        self.known.push(name);
        let path = self.path(name);
        let value = self.unread.remove(name).ok_or_else(|| ApiError::missing(&path, right))?;
        Ok((path, value))
    }

    fn optional(&mut self, name: &'static str) -> Option<(String, &'b RawValue)> {
        self.known.push(name);
        let value = self.unread.remove(name).filter(|it| Kind::of(it) != Kind::Null)?;
        Some((self.path(name), value))
    }

    fn path(&self, name: &str) -> String {
        self.within.map_or_else(|| name.to_owned(), |within| format!("{within}.{name}"))
    }
}

/// The members of an object, in their order and with all repetitions.
struct Members<'b>(Vec<(String, &'b RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The value, if it is of that kind; `right` describes the kind.
fn of_kind<'b>(path: &str, value: &'b RawValue, kind: Kind, right: &str) -> Result<&'b RawValue, ApiError> {
    let was = Kind::of(value);
    if was != kind {
        return Err(ApiError::invalid(path, format!("'{path}' must be {right}, but was {was}.")));
    }
    Ok(value)
}

/// The only error that is still possible in a string is an escape.
fn decoded(path: &str, text: &RawValue) -> Result<String, ApiError> {
    serde_json::from_str(text.get())
        .map_err(|_| ApiError::invalid(path, format!("'{path}' is not valid Unicode: it contains a lone surrogate.")))
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::malformed(format!("The body is not JSON: {error}."))
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
    /// The first character of a value shows its kind.
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
