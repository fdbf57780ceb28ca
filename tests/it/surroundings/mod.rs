//! What happens around the process: its outputs, disk, memory, database, store and orchestrator.

mod addresses;
mod data_directory;
mod failover;
mod full_disk;
mod large_ends;
mod memory_limit;
mod outputs;
mod pooler;
mod postgres_upgrade;
mod postmaster;
mod readiness;
mod roles;
mod sessions;
mod settings;
mod store_identity;
