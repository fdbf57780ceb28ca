//! What happens around the process: its outputs, disk, memory, database, store and orchestrator.

mod store_identity;
