//! Pages of a list: cursor, limit and order.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Shown;

/// A request for a page of a list. `Id` is the type of the ids of the listed objects.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<Id> {
    /// Id of the last object of the previous page; `None` for the first page.
    pub after: Option<Id>,
    /// Maximum number of objects in the page.
    pub limit: PageLimit,
    /// Order of the list.
    pub order: Order,
}

/// Maximum number of objects in a page: 1 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(u16);

/// The error for a number that is not between 1 and 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit must be between 1 and {}", PageLimit::MAX)]
pub struct BadPageLimit;

/// Order of a list, by `created_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ListOrder))]
pub enum Order {
    /// Oldest first.
    #[serde(rename = "asc")]
    Ascending,
    /// Newest first.
    #[serde(rename = "desc")]
    Descending,
}

/// The error for a text that is not an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("order must be 'asc' or 'desc', but was '{}'", Shown(.0))]
pub struct BadOrder(pub String);

impl PageLimit {
    /// The maximum and the default.
    pub const MAX: u16 = 10_000;

    /// The limit as a number of objects.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(PageLimit::MAX)
    }
}

impl TryFrom<i64> for PageLimit {
    type Error = BadPageLimit;

    fn try_from(limit: i64) -> Result<Self, BadPageLimit> {
        u16::try_from(limit).ok().filter(|it| (1..=PageLimit::MAX).contains(it)).map(Self).ok_or(BadPageLimit)
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
