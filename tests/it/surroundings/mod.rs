//! What happens around the process: its outputs, disk, memory, database, store and orchestrator.

mod addresses;
mod failover;
mod large_ends;
mod outputs;
mod pooler;
mod readiness;
mod roles;
mod sessions;
mod settings;
mod store_identity;
