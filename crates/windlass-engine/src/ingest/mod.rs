//! The write path: from the bytes of a request body to a stored Part.

pub(crate) mod admission;
pub(crate) mod md5_chain;
pub(crate) mod object_writer;
pub(crate) mod once;
pub(crate) mod part_ingest;
