//! The use cases of the API. Only this module and `maintenance` begin and commit transactions.

pub(crate) mod audit;
pub(crate) mod completion;
pub(crate) mod create_batcher;
pub(crate) mod file_upload;
pub(crate) mod files;
pub(crate) mod jsonl_check;
pub(crate) mod keys;
pub(crate) mod lists;
pub(crate) mod quotas;
pub(crate) mod signed_urls;
pub(crate) mod uploads;
