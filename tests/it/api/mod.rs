//! Through HTTP only: one file an area of the contract.

mod auth;
mod bad_input;
mod content;
mod cors;
mod expiry;
mod files;
mod forms;
mod health;
mod hostile;
mod listing;
mod md5;
mod openapi;
mod parts;
mod prefixes;
mod uploads;
