//! JSON request bodies: a `serde` deserializer whose errors name the field, the problem and the expected value.
//!
//! `serde_json` reports positions instead of fields, converts numbers such as `1e3` to floats, and reports a missing
//! field without its type. This deserializer parses values on demand, numbers without a loss of precision, and visits
//! every field of a struct, present or not.

use std::fmt::{self, Display};

use serde::de::{self, DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::value::RawValue;
use windlass_types::Shown;

use super::error::ApiError;
use super::number::whole;

/// UTF-8 byte order mark, which some programs write at the beginning of every file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a request body.
///
/// # Errors
/// 400 when it is not a JSON object, or a field is repeated, missing, unknown or invalid; the error names one field.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    if body.is_empty() {
        return Err(ApiError::malformed("The body is empty; it must be a JSON object."));
    }
    let value: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    let kind = Kind::of(value);
    if kind != Kind::Object {
        return Err(ApiError::malformed(format!("The body must be a JSON object, but was {kind}.")));
    }
    Ok(T::deserialize(Value::Given(value))?)
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::malformed(format!("The body is not JSON: {error}."))
}

/// A rejected field.
struct Fault {
    /// Path of the field, such as `expires_after.seconds`; empty until it is known.
    path: String,
    error: Box<dyn FnOnce(&str) -> ApiError>,
}

impl Fault {
    /// `error` converts the path of the field to the error.
    fn new(error: impl FnOnce(&str) -> ApiError + 'static) -> Self {
        Self { path: String::new(), error: Box::new(error) }
    }

    /// `message` converts the path of the field to the message.
    fn invalid(message: impl FnOnce(Shown<'_>) -> String + 'static) -> Self {
        Self::new(|path| ApiError::invalid(path, message(Shown(path))))
    }

    /// Prepends the name of the enclosing field to the path.
    fn within(mut self, field: &str) -> Self {
        self.path = if self.path.is_empty() { field.to_owned() } else { format!("{field}.{}", self.path) };
        self
    }
}

impl From<Fault> for ApiError {
    fn from(Fault { path, error }: Fault) -> Self {
        error(&path)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fault").field(&self.path).finish()
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is rejected", self.path)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(error: T) -> Self {
        let error = error.to_string();
        Self::invalid(move |field| format!("'{field}' is invalid: {error}."))
    }

    fn unknown_variant(given: &str, allowed: &'static [&'static str]) -> Self {
        let given = given.to_owned();
        Self::invalid(move |field| match allowed {
            [only] => format!("'{field}' must be '{only}', but was '{}'.", Shown(&given)),
            _ => format!("'{}' is not one of ['{}'] - '{field}'", Shown(&given), allowed.join("', '")),
        })
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(move |path| ApiError::unknown(path, known)).within(field)
    }
}

/// The value of a field, or its absence.
#[derive(Clone, Copy)]
enum Value<'b> {
    Given(&'b RawValue),
    Missing,
}

impl<'b> Value<'b> {
    /// Returns the raw text of a value of this kind. `expected` describes the kind in errors.
    fn of_kind(self, kind: Kind, expected: &'static str) -> Result<&'b RawValue, Fault> {
        match self {
            Self::Missing => Err(Fault::new(move |path| ApiError::missing(path, expected))),
            Self::Given(value) => {
                let was = Kind::of(value);
                let fault = || Fault::invalid(move |field| format!("'{field}' must be {expected}, but was {was}."));
                if was == kind { Ok(value) } else { Err(fault()) }
            }
        }
    }

    fn text(self) -> Result<String, Fault> {
        let text = self.of_kind(Kind::Text, "a string")?;
        // The syntax has been validated, so the only possible error is an escaped lone surrogate.
        serde_json::from_str(text.get()).map_err(|_| {
            Fault::invalid(|field| format!("'{field}' is not valid Unicode: it contains a lone surrogate."))
        })
    }
}

impl<'b> Deserializer<'b> for Value<'b> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_str<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_string(visitor)
    }

    fn deserialize_i64<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Fault> {
        let number = self.of_kind(Kind::Number, "a whole number")?;
        let number = whole(number.get());
        visitor.visit_i64(number.map_err(|error| Fault::invalid(move |field| format!("'{field}' {error}.")))?)
    }

    fn deserialize_bool<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(self.of_kind(Kind::Boolean, "a boolean")?.get() == "true")
    }

    fn deserialize_option<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Missing => visitor.visit_none(),
            Self::Given(value) if Kind::of(value) == Kind::Null => visitor.visit_none(),
            Self::Given(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'b>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    fn deserialize_seq<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Fault> {
        let list = self.of_kind(Kind::List, "a list of strings")?;
        let items: Vec<&RawValue> = parse(list)?;
        visitor.visit_seq(Items(items.into_iter()))
    }

    fn deserialize_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let object = self.of_kind(Kind::Object, "an object")?;
        let Members(mut members) = parse(object)?;
        let is_given = |name: &str, members: &[(String, Value<'_>)]| members.iter().any(|(it, _)| it == name);
        if let Some(at) = (1..members.len()).find(|&at| is_given(&members[at].0, &members[..at])) {
            let fault = Fault::invalid(|field| format!("'{field}' is given more than once."));
            return Err(fault.within(&members[at].0));
        }
        let missing: Vec<_> = fields.iter().filter(|it| !is_given(it, &members)).collect();
        members.extend(missing.into_iter().map(|it| ((*it).to_owned(), Value::Missing)));
        // Missing fields are reported first, then unknown ones, then invalid ones.
        members
            .sort_by_key(|(name, value)| (matches!(value, Value::Given(_)), fields.iter().position(|it| it == name)));
        visitor.visit_map(Fields { left: members.into_iter(), current: None })
    }

    forward_to_deserialize_any! {
        <W: Visitor<'b>>
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct map
        identifier ignored_any
    }
}

/// Parses the raw text of a list or an object, whose syntax has been validated.
fn parse<'b, T: Deserialize<'b>>(value: &'b RawValue) -> Result<T, Fault> {
    serde_json::from_str(value.get()).map_err(|error| Fault::new(move |_| not_json(&error)))
}

/// The members of an object in document order, including repeated ones.
struct Members<'b>(Vec<(String, Value<'b>)>);

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
                while let Some((name, value)) = map.next_entry()? {
                    members.push((name, Value::Given(value)));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The fields of a struct that have not been visited yet.
struct Fields<'b> {
    left: std::vec::IntoIter<(String, Value<'b>)>,
    current: Option<(String, Value<'b>)>,
}

impl<'b> MapAccess<'b> for Fields<'b> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'b>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.left.next();
        let Some((name, _)) = &self.current else { return Ok(None) };
        seed.deserialize(name.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (name, value) = self.current.take().ok_or_else(|| Fault::custom("a value without a name"))?;
        seed.deserialize(value).map_err(|error| error.within(&name))
    }
}

/// The items of a list of strings that have not been visited yet.
struct Items<'b>(std::vec::IntoIter<&'b RawValue>);

impl<'b> SeqAccess<'b> for Items<'b> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(item) = self.0.next() else { return Ok(None) };
        let was = Kind::of(item);
        if was != Kind::Text {
            return Err(Fault::invalid(move |field| {
                format!("'{field}' must be a list of strings, but one of its items is {was}, not a string.")
            }));
        }
        seed.deserialize(Value::Given(item)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The type of a JSON value.
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
    /// Determines the kind by the first character.
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

impl Display for Kind {
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
