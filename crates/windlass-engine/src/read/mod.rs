//! The read path: from a File's manifest to verified bytes.

pub(crate) mod content_stream;
pub(crate) mod manifest_reader;
