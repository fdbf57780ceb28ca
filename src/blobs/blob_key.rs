//! The names of objects: one a Part.

use std::fmt;

use crate::domain::PartId;

/// The name of an object. It is made of a Part's id and nothing a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobKey(PartId);

impl BlobKey {
    /// The Part whose bytes it holds.
    pub fn part(self) -> PartId {
        self.0
    }

    /// The key whose name this is, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        let key = Self(name.rsplit('/').next()?.parse().ok()?);
        (key.to_string() == name).then_some(key)
    }
}

impl From<PartId> for BlobKey {
    fn from(part: PartId) -> Self {
        Self(part)
    }
}

/// `parts/5e/part_…5e`: the last two digits are random, so directories fill evenly.
impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.to_string();
        write!(f, "parts/{}/{id}", &id[id.len() - 2..])
    }
}
