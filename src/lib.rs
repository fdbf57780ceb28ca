//! Windlass: OpenAI's Uploads and Files API, run by yourself.
//!
//! A client opens an *Upload*, adds *Parts* to it in parallel and in any order, and completes it with the Parts' ids in
//! the file's order; the result is a *File*. What was acknowledged survives any crash; what was not, or is no longer
//! wanted, leaves nothing behind. Windlass does not look into files, unless it is configured to check JSON lines, and
//! does not hand out the store's own URLs.
//!
//! # The picture
//!
//! ```text
//! main ──► app, config, embedded, signals, telemetry
//! app ───► http, sweeper, service, db, blobs, config, telemetry
//!               │        │
//!  http ────────┼────────┼──► service ──► db ────► domain
//!  sweeper ─────┘        └──►         ──► blobs ─► domain
//! ```
//!
//! Arrows are the only imports (`tests/it/tidy.rs` holds that), and each outside technology has one
//! home: actix in [`http`], sqlx in [`db`], `object_store` in [`blobs`], the environment in [`config`].
//! [`domain`] has no I/O and no clock; one deliberate leak is that its newtypes derive `sqlx::Type`.
//! [`crash`] names the steps after which the tests let the process die, and [`memory`] finds the memory limit.
//!
//! # The ledger
//!
//! Postgres is the truth; the store holds bytes under names that only the ledger knows, and the ledger
//! the bytes of small Parts (`WINDLASS_LEDGER_PART_BYTES`). The tables
//! are `store`, `project`, `api_key`, `upload`, `part` and `file`; the rules between them stand in
//! `migrations/`, as checks and triggers, and are shown one by one in `tests/it/sql/`.
//!
//! - A row of `part` is an object in the store, or has the Part's bytes in its `content`; the row says which,
//!   never the setting. An object's row is `receiving` (committed before the first byte) →
//!   `stored` (once the store has the whole object durably) → `garbage` (with the time from which it
//!   may go) → no row (once the object is gone). A writer that fails, or whose process dies, leaves a
//!   row that says so, and nothing has to be listed to find what is left. A row with its bytes begins as
//!   `stored`, by one statement, and they go with it.
//! - An Upload is `pending`, then exactly one of `completed`, `cancelled`, `expired`.
//! - A File has the id of its Upload, with another prefix, so an Upload cannot have two. Its row holds its
//!   manifest, and that is all that the Upload has stored: what was not listed is garbage from then on.
//! - `POST /v1/files` is an Upload inside the service: one way in for every byte.
//!
//! # Invariants
//!
//! **Invariant: no object without its row, no stored row without its bytes**, which are in one place: an
//! object, or the row. An object's row is committed before the first byte, `stored` only after the store's
//! acknowledgement (a file and its directory are synced), and the row goes after the object.
//!
//! **Invariant: a ledger and a store are used only with each other.** Both hold the same identity
//! (`service/store_link.rs`): otherwise, nothing starts, writes are refused, and nothing is deleted.
//!
//! **Invariant: no transaction and no pooled connection is held** while a body is read or an object is
//! read, written or deleted.
//!
//! **Invariant: an Upload ends once.** Parts are begun and counted under a share lock of its row, ends
//! are written under an exclusive one; the schema refuses the rest, even by hand.
//!
//! **Invariant: completion moves no bytes**, and writes no row of a listed Part. An `md5` is checked
//! before, with nothing locked, and reads only what did not come in the file's order (`service/md5_chain.rs`); so
//! are JSON lines, if at all (`service/jsonl.rs`).
//!
//! **Invariant: what must finish, finishes.** The service's work runs on its own runtime ([`service::Service::run`]); a
//! client that disconnects cancels a handler, never a commit, and a stop waits for it.
//!
//! **Invariant: memory is bounded.** Bytes are copied once into buffers of our own, at most two per body. A body
//! reserves their memory from a budget as its bytes arrive (`service/memory_budget.rs`); if there is none, it waits,
//! and is then rejected. A disk takes whole buffers directly, bypassing the page cache. What clients have not read yet
//! has a budget of its own (`service/budgets.rs`): a reader of a bucket holds one chunk, and more while there is memory
//! (`blobs/read_ahead.rs`), a list one batch (`service/lists.rs`). A reader of a directory holds nothing: what was read
//! and checked there is sent from the page cache (`http/connection.rs`).
//!
//! **Invariant: what a client can hold is bounded**, with or without a key: the number of connections, and the bytes
//! and the duration of each head, body, response and pause (`http/activity.rs`). Clients see every response: after an
//! early one, the rest of the body is discarded within limits, and the connection closes.
//!
//! **Invariant: no project starves another.** The memory for bodies, the transactions and the capacity for reading back
//! are never all available to a single project; waiting requests are served by project in rotation
//! (`service/memory_budget.rs`, `service/turns.rs`).
//!
//! **Invariant: a lost answer is found out, not guessed.** Whatever commits may be done twice, and is,
//! until the ledger says what became of it or is away for too long (`service/attempts.rs`).
//!
//! **Invariant: time is the database's clock.** Expiry is decided inside statements by `now()`, so
//! replicas agree, and an Upload past its hour is expired to everyone at once, swept or not.
//!
//! **Invariant: the sweeper needs to be told nothing.** Every pass looks at what is
//! ([`service::Service::sweep`]), and any number of processes may sweep at once.
//!
//! **Invariant: the process is never half alive.** A panic ends a request, a pass of the sweeper or the process
//! (`telemetry/panics.rs`); no output can stop it ([`telemetry`]), and no signal ends it by accident ([`signals`]).
//!
//! **Invariant: only [`http`] knows status codes.**
//!
//! # Start reading at
//!
//! `http/mod.rs` (what is offered) → `domain/upload.rs` (what it means) → `service/intake.rs` and
//! `service/completion.rs` (how it is done) → `migrations/` (what can be).

pub mod app;
pub mod blobs;
pub mod config;
pub mod crash;
pub mod db;
pub mod descriptors;
pub mod domain;
pub mod embedded;
pub mod http;
pub mod memory;
pub mod service;
pub mod signals;
pub mod sweeper;
pub mod telemetry;
