//! Object names: one object per Part.

use std::fmt;

use windlass_types::PartId;

/// The name of an object. It is derived from a Part's id alone, never from client input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectKey(PartId);

impl ObjectKey {
    /// The Part whose bytes the object holds.
    pub fn part(self) -> PartId {
        self.0
    }

    /// Parses an object name. Returns `None` if it is not a name that this service generates.
    pub fn from_name(name: &str) -> Option<Self> {
        let key = Self(name.rsplit('/').next()?.parse().ok()?);
        (key.to_string() == name).then_some(key)
    }
}

impl From<PartId> for ObjectKey {
    fn from(part: PartId) -> Self {
        Self(part)
    }
}

/// Formats as `parts/5e/part_…5e`: the last two digits are random, so the subdirectories fill evenly.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.to_string();
        write!(f, "parts/{}/{id}", &id[id.len() - 2..])
    }
}
