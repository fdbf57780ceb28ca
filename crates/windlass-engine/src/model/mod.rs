//! Domain types and their rules. No I/O, no async code, no clock.

mod api_key;
mod audit;
mod digests;
mod file;
mod file_expiry;
mod grant;
mod idempotency;
mod json_lines;
mod jsonl;
mod limits;
mod md5_link;
mod mime_policy;
mod part;
mod quota;
mod signed_url;
mod upload;

pub use self::api_key::*;
pub use self::audit::*;
pub use self::digests::*;
pub use self::file::*;
pub use self::file_expiry::*;
pub use self::grant::*;
pub use self::idempotency::*;
pub use self::json_lines::*;
pub use self::jsonl::*;
pub use self::limits::*;
pub use self::md5_link::*;
pub use self::mime_policy::*;
pub use self::part::*;
pub use self::quota::*;
pub use self::signed_url::*;
pub use self::upload::*;
