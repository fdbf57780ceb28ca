//! What happens around the process: its outputs, disk, memory, database, store and orchestrator.

mod readiness;
mod store_identity;
