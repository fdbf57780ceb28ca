//! JSON bodies, read field by field, so that an error names the field and says what would be right.

use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of an object that have not been read yet.
pub struct Fields {
    unread: Map<String, Value>,
    known: Vec<&'static str>,
    within: Option<&'static str>,
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not JSON, or not an object.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Err(ApiError::malformed("The body is empty; it must be a JSON object."));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self { unread: fields, known: Vec::new(), within: None }),
            Ok(other) => Err(ApiError::malformed(format!("The body must be a JSON object, but was {}.", kind(&other)))),
            Err(error) => Err(ApiError::malformed(format!("The body is not JSON: {error}."))),
        }
    }

    /// Takes a text that must be there.
    pub fn text(&mut self, name: &'static str) -> Result<String, ApiError> {
        match self.take(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(name, "a string", &other)),
            None => Err(ApiError::missing(&self.path(name), "a string")),
        }
    }

    /// Takes a text that may be absent or null.
    pub fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null) | None => Ok(None),
            Some(other) => Err(self.wrong(name, "a string", &other)),
        }
    }

    /// Takes a whole number that must be there.
    pub fn integer(&mut self, name: &'static str) -> Result<i64, ApiError> {
        match self.take(name) {
            Some(Value::Number(number)) => number.as_i64().ok_or_else(|| {
                let message = format!("'{}' must be a whole number below 2^63, but was {number}.", self.path(name));
                ApiError::invalid(&self.path(name), message)
            }),
            Some(other) => Err(self.wrong(name, "a whole number", &other)),
            None => Err(ApiError::missing(&self.path(name), "a whole number")),
        }
    }

    /// Takes a list of texts that must be there.
    pub fn texts(&mut self, name: &'static str) -> Result<Vec<String>, ApiError> {
        match self.take(name) {
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        let message =
                            format!("'{name}' must be a list of strings, but one of its items is {}.", kind(&item));
                        Err(ApiError::invalid(&self.path(name), message))
                    }
                })
                .collect(),
            Some(other) => Err(self.wrong(name, "a list of strings", &other)),
            None => Err(ApiError::missing(&self.path(name), "a list of strings")),
        }
    }

    /// Takes an object that may be absent or null.
    pub fn optional_object(&mut self, name: &'static str) -> Result<Option<Self>, ApiError> {
        match self.take(name) {
            Some(Value::Object(fields)) => Ok(Some(Self { unread: fields, known: Vec::new(), within: Some(name) })),
            Some(Value::Null) | None => Ok(None),
            Some(other) => Err(self.wrong(name, "an object", &other)),
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

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.unread.remove(name)
    }

    fn path(&self, name: &str) -> String {
        self.within.map_or_else(|| name.to_owned(), |within| format!("{within}.{name}"))
    }

    fn wrong(&self, name: &str, right: &str, was: &Value) -> ApiError {
        let path = self.path(name);
        ApiError::invalid(&path, format!("'{path}' must be {right}, but was {}.", kind(was)))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
