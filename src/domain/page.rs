//! One page of a list: where it begins, which way it goes, how long it is.

use std::str::FromStr;

use super::{Limits, Shown};

/// What a client asks for. `Id` is the kind of object that is listed.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<Id> {
    /// The last object of the previous page.
    pub after: Option<Id>,
    /// The maximum number of objects in the page.
    pub limit: PageLimit,
    /// Its order by age.
    pub order: Order,
}

/// 1 to 10,000 objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(u16);

/// A number that is not a page length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit must be between 1 and {}", Limits::PAGE)]
pub struct BadPageLimit;

/// The order of a list, by `created_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Ascending,
    /// The newest first.
    Descending,
}

/// A text that is not an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("order must be 'asc' or 'desc', but was '{}'", Shown(.0))]
pub struct BadOrder(pub String);

impl PageLimit {
    /// How many.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(Limits::PAGE)
    }
}

impl TryFrom<i64> for PageLimit {
    type Error = BadPageLimit;

    fn try_from(limit: i64) -> Result<Self, BadPageLimit> {
        u16::try_from(limit).ok().filter(|it| (1..=Limits::PAGE).contains(it)).map(Self).ok_or(BadPageLimit)
    }
}

impl FromStr for Order {
    type Err = BadOrder;

    fn from_str(text: &str) -> Result<Self, BadOrder> {
        match text {
            "asc" => Ok(Self::Ascending),
            "desc" => Ok(Self::Descending),
            other => Err(BadOrder(other.to_owned())),
        }
    }
}
