//! The environment of the process: its outputs, disk, memory, database, store and orchestrator.

mod addresses;
mod bucket_addresses;
mod bucket_permissions;
mod bucket_settings;
mod bucket_start;
mod bucket_tls;
mod data_directory;
mod failover;
mod failover_drill;
mod full_disk;
mod large_ends;
mod memory_limit;
mod newer_schema;
mod outputs;
mod pooler;
mod postgres_upgrade;
mod postmaster;
mod proxy;
mod readiness;
mod roles;
mod sessions;
mod settings;
mod store_identity;
mod tls_proxies;
mod unread_responses;
