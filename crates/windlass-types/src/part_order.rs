//! The order of a File's Parts.

use serde::{Deserialize, Serialize};

use super::PartId;

/// The order of a File's Parts, as sent by the client. No Part occurs twice; an empty file has no Parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<PartId>")]
pub struct PartOrder(Vec<PartId>);

/// Why a list of ids is not a valid order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPartOrder {
    /// This Part is listed more than once.
    #[error("part '{0}' is listed more than once; list every part once, in the file's order")]
    Repeated(PartId),
    /// There are this many Parts, which is too many.
    #[error("{0} parts are listed, but a file has at most {max}", max = PartOrder::MAX_PARTS)]
    TooMany(usize),
}

impl PartOrder {
    /// The maximum number of Parts of an Upload, and of ids in a completion.
    pub const MAX_PARTS: usize = 10_000;

    /// The ids in file order.
    pub fn ids(&self) -> &[PartId] {
        &self.0
    }
}

impl TryFrom<Vec<PartId>> for PartOrder {
    type Error = BadPartOrder;

    fn try_from(ids: Vec<PartId>) -> Result<Self, BadPartOrder> {
        if ids.len() > PartOrder::MAX_PARTS {
            return Err(BadPartOrder::TooMany(ids.len()));
        }
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        match sorted.array_windows().find(|[a, b]| a == b) {
            Some([repeated, _]) => Err(BadPartOrder::Repeated(*repeated)),
            None => Ok(Self(ids)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_no_duplicates_and_a_maximum_length() {
        let [a, b] = [PartId::generate(), PartId::generate()];
        assert_eq!(PartOrder::try_from(vec![b, a]).unwrap().ids(), [b, a]);
        assert_eq!(PartOrder::try_from(vec![a, b, a]), Err(BadPartOrder::Repeated(a)));
        assert!(PartOrder::try_from(Vec::new()).is_ok(), "a file of no bytes has no parts");
        let ids = |count| std::iter::repeat_with(PartId::generate).take(count).collect::<Vec<_>>();
        assert!(PartOrder::try_from(ids(10_000)).is_ok());
        assert_eq!(PartOrder::try_from(ids(10_001)), Err(BadPartOrder::TooMany(10_001)));
    }
}
