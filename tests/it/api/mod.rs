//! Through HTTP only: one file an area of the contract.

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
mod jsonl;
mod listing;
mod logs;
mod manners;
mod md5;
mod openapi;
mod parts;
mod prefixes;
mod text;
mod uploads;
