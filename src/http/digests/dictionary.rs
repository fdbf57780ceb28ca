//! Dictionaries of structured fields (RFC 9651, section 3.2), as the headers with digests have them. Other than in a map,
//! members with the same key are all kept.

use std::convert::Infallible;

use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser};

/// A value of a member. Parameters are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bytes(Vec<u8>),
    Integer(i64),
    Other,
}

/// Parses the lines of a header; `None` if they are not a dictionary.
pub fn parse(lines: &[&[u8]]) -> Option<Vec<(String, Value)>> {
    let value = lines.join(&b", "[..]);
    let mut members = Members(Vec::new());
    Parser::new(&value).parse_dictionary_with_visitor(&mut members).ok()?;
    Some(members.0)
}

struct Members(Vec<(String, Value)>);

impl<'de> DictionaryVisitor<'de> for &mut Members {
    type Out = ();
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(Member { key, members: &mut self.0 })
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Member<'members, 'de> {
    key: &'de KeyRef,
    members: &'members mut Vec<(String, Value)>,
}

impl Member<'_, '_> {
    fn add(self, value: Value) {
        self.members.push((self.key.as_str().to_owned(), value));
    }
}

impl<'de> EntryVisitor<'de> for Member<'_, 'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        self.add(Value::Other);
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Member<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        self.add(if let BareItemFromInput::ByteSequence(bytes) = item {
            Value::Bytes(bytes)
        } else if let BareItemFromInput::Integer(integer) = item {
            Value::Integer(integer.into())
        } else {
            Value::Other
        });
        Ok(Ignored)
    }
}
