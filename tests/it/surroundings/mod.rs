//! What happens around the process: its outputs, disk, memory, database, store and orchestrator.

mod outputs;
mod readiness;
mod settings;
mod store_identity;
