//! The MD5 of a file up to the end of a Part.

use windlass_types::{Md5State, PartId};

/// The MD5 of a file up to the end of a Part, if the Part follows `follows` in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Md5Link {
    /// The Part before it; `None` for the first.
    pub follows: Option<PartId>,
    /// The MD5 state at its end.
    pub state: Md5State,
}
