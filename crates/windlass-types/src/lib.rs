//! Types of the Windlass API, for servers and clients: identifiers, purposes, sizes, checksums, and all JSON bodies.
//! No I/O and no async code.
//!
//! ```
//! use windlass_types::{CreateUploadRequest, Purpose};
//!
//! let request = r#"{"filename": "a.jsonl", "purpose": "batch", "bytes": 5, "mime_type": "text/plain"}"#;
//! let request: CreateUploadRequest = serde_json::from_str(request)?;
//! assert_eq!(request.purpose, Purpose::Batch);
//!
//! let refused = serde_json::from_str::<CreateUploadRequest>(r#"{"filename": ""}"#).unwrap_err();
//! assert!(refused.to_string().starts_with("a file name cannot be empty"));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! The feature `schema` derives OpenAPI schemas of the bodies; `sqlx` derives column types for ids and byte counts.

mod byte_count;
mod crc64;
mod error;
mod error_chain;
mod file_lifetime;
mod filename;
mod idempotency_key;
mod ids;
mod invisible;
mod md5;
mod mime_type;
mod objects;
mod page;
mod part_order;
mod project_name;
mod purpose;
mod requests;
mod sha2;
mod shown;
mod signed_url;
mod url_lifetime;
mod usage;

pub use self::byte_count::*;
pub use self::crc64::*;
pub use self::error::*;
pub use self::error_chain::*;
pub use self::file_lifetime::*;
pub use self::filename::*;
pub use self::idempotency_key::*;
pub use self::ids::*;
pub use self::invisible::*;
pub use self::md5::*;
pub use self::mime_type::*;
pub use self::objects::*;
pub use self::page::*;
pub use self::part_order::*;
pub use self::project_name::*;
pub use self::purpose::*;
pub use self::requests::*;
pub use self::sha2::*;
pub use self::shown::*;
pub use self::signed_url::*;
pub use self::url_lifetime::*;
pub use self::usage::*;
