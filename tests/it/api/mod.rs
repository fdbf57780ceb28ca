//! Tests of the HTTP API: one file for each area of the contract.

mod auth;
mod bad_input;
mod content;
mod content_coding;
mod cors;
mod expiry;
mod fair_shares;
mod files;
mod form_heads;
mod forms;
mod health;
mod hostile;
mod http_semantics;
mod isolation;
mod jsonl;
mod listing;
mod logs;
mod md5;
mod openapi;
mod parts;
mod prefixes;
mod service_keys;
mod signed_uploads;
mod signed_urls;
mod text;
mod uploads;
