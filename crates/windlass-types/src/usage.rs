//! What a project uses, and how much it may use (`GET /usage`, an extension).

use serde::{Deserialize, Serialize};

use super::ObjectKind;

/// Extension: what a project uses, and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Usage))]
pub struct UsageObject {
    /// Always `usage`.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^usage$"))]
    pub object: ObjectKind,
    /// Extension: bytes of files, and bytes that pending uploads have declared.
    pub bytes: u64,
    /// Extension: pending uploads.
    pub pending_uploads: u64,
    /// Extension: files.
    pub files: u64,
    /// Extension: the project's limits.
    pub limits: UsageLimits,
}

/// Extension: how much a project may use; null is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UsageLimits {
    /// Extension: limit on the bytes.
    #[cfg_attr(feature = "schema", schema(required))]
    pub bytes: Option<u64>,
    /// Extension: limit on pending uploads.
    #[cfg_attr(feature = "schema", schema(required))]
    pub pending_uploads: Option<u64>,
    /// Extension: limit on files, together with uploads that may become files.
    #[cfg_attr(feature = "schema", schema(required))]
    pub files: Option<u64>,
}
