//! The vocabulary: what the words mean and which values are possible. No I/O, no async, no clock.

mod byte_count;
mod crc64;
mod file;
mod file_lifetime;
mod filename;
mod ids;
mod key;
mod limits;
mod md5;
mod mime_policy;
mod mime_type;
mod origins;
mod page;
mod part;
mod purpose;
mod upload;

pub use byte_count::*;
pub use crc64::*;
pub use file::*;
pub use file_lifetime::*;
pub use filename::*;
pub use ids::*;
pub use key::*;
pub use limits::*;
pub use md5::*;
pub use mime_policy::*;
pub use mime_type::*;
pub use origins::*;
pub use page::*;
pub use part::*;
pub use purpose::*;
pub use upload::*;
