//! Windlass: OpenAI's Uploads and Files API, self-hosted.
//!
//! A client creates an *Upload*, adds *Parts* to it in parallel and in any order, and completes it with the ids of the
//! Parts in the order of the file; the result is a *File*. Acknowledged data survives any crash; data that was not
//! acknowledged, or is no longer referenced, is deleted. Windlass does not inspect files, unless the JSON lines check
//! is enabled, and does not expose URLs of the store.
//!
//! # Crates
//!
//! ```text
//! windlass (src)   HTTP, settings, the embedded PostgreSQL, the process
//!    │
//!    ▼
//! windlass-engine  uploads, files, the ledger in Postgres, the bytes in a store; no HTTP
//!    │
//!    ▼
//! windlass-types   identifiers, sizes, checksums, JSON bodies; no I/O; also for clients
//! ```
//!
//! [`windlass_engine`] documents the data flow, the ledger and the invariants of the engine. Modules of this crate:
//!
//! ```text
//! main ────► app, audit_command, config, embedded, health, http, keys_command, projects_command, signals,
//!            telemetry
//! app ─────► config, descriptors, http, listener, telemetry
//! health ──► config
//! audit_command ──► config, telemetry
//! keys_command ──► config, telemetry
//! projects_command ──► config, keys_command, telemetry
//! config ──► embedded, http, memory
//! http ────► telemetry
//! ```
//!
//! Only [`http`] uses actix; only [`config`] uses clap and reads the environment. [`memory`] determines the memory
//! limit, [`descriptors`] the maximum number of connections.
//!
//! The OpenAPI document is available without a running server:
//!
//! ```
//! let document = windlass::http::document(&windlass_engine::model::Limits::default());
//! assert!(document.paths.paths.contains_key("/uploads/{upload_id}/complete"));
//! ```
//!
//! # Invariants
//!
//! **Invariant: the resources that clients use are bounded**, with or without a key: the number of connections, and the
//! size and the duration of each head, body, response and idle period (`http/connection/activity.rs`). A response that
//! is sent before the end of the request body reaches the client: the rest of the body is discarded, up to a limit,
//! before the connection is closed.
//!
//! **Invariant: a download from a directory store holds no file content in memory**: it is read, verified, and sent
//! from the page cache (`http/connection/socket.rs`).
//!
//! **Invariant: the process either works or exits.** A panic ends a request, a pass of the sweeper or the process
//! (`telemetry/panics.rs`). A blocked output does not block the service ([`telemetry`]), and stray signals do not end
//! it ([`signals`]).
//!
//! **Invariant: status codes and messages for clients are defined only in [`http`].**
//!
//! # Where to start reading
//!
//! `src/http/mod.rs` (the routes) → `crates/windlass-engine/src/model/upload.rs` (the state machine) →
//! `ingest/part_ingest.rs` and `operations/completion.rs` (its implementation) → `migrations/` (the schema).

pub mod app;
pub mod audit_command;
pub mod config;
pub mod descriptors;
pub mod embedded;
pub mod health;
pub mod http;
pub mod keys_command;
pub mod listener;
pub mod memory;
pub mod projects_command;
pub mod signals;
pub mod telemetry;
