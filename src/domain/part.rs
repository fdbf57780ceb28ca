//! A Part: bytes of one Upload, immutable once stored, in an object of its own or, if they are few, in the ledger.

use chrono::{DateTime, Utc};

use super::{ByteCount, Crc64, Limits, PartId, UploadId};

/// A stored Part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its name, and its object's where it has one.
    pub id: PartId,
    /// The Upload it belongs to.
    pub upload: UploadId,
    /// Its size, never 0.
    pub bytes: ByteCount,
    /// The checksum of its bytes.
    pub crc64: Crc64,
    /// When its row was written.
    pub created_at: DateTime<Utc>,
    /// Whether its bytes are in its row; else they are in an object.
    pub in_ledger: bool,
}

/// The order of a File's Parts as a client gives it: no Part twice; none at all for a file of no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOrder(Vec<PartId>);

/// Why a list of ids is no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPartOrder {
    /// A Part is listed more than once.
    #[error("part '{0}' is listed more than once; list every part once, in the file's order")]
    Repeated(PartId),
    /// There are too many.
    #[error("{0} parts are listed, but a file has at most {max}", max = Limits::PARTS_PER_UPLOAD)]
    TooMany(usize),
}

impl PartOrder {
    /// The ids in the file's order.
    pub fn ids(&self) -> &[PartId] {
        &self.0
    }
}

impl TryFrom<Vec<PartId>> for PartOrder {
    type Error = BadPartOrder;

    fn try_from(ids: Vec<PartId>) -> Result<Self, BadPartOrder> {
        if ids.len() > Limits::PARTS_PER_UPLOAD {
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
    fn a_part_stands_in_an_order_once_and_an_order_has_an_end() {
        let [a, b] = [PartId::generate(), PartId::generate()];
        assert_eq!(PartOrder::try_from(vec![b, a]).unwrap().ids(), [b, a]);
        assert_eq!(PartOrder::try_from(vec![a, b, a]), Err(BadPartOrder::Repeated(a)));
        assert!(PartOrder::try_from(Vec::new()).is_ok(), "a file of no bytes has no parts");
        let ids = |count| std::iter::repeat_with(PartId::generate).take(count).collect::<Vec<_>>();
        assert!(PartOrder::try_from(ids(10_000)).is_ok());
        assert_eq!(PartOrder::try_from(ids(10_001)), Err(BadPartOrder::TooMany(10_001)));
    }
}
