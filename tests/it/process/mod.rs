//! The program as a process: its embedded database, command line, health check, signals, deployment and documentation,
//! and clients that disconnect.

mod backup;
mod command_line;
mod configuration;
mod deployment;
mod disconnects;
mod documents;
mod durability;
mod embedded;
mod fsck;
mod health;
mod image;
mod metrics;
mod metrics_of_the_ledger;
mod signals;
mod traces;
