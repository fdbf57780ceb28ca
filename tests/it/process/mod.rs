//! The program as a process: its embedded database, its command line, its clients
//! that go away, its signals, its deployment.

mod backup;
mod command_line;
mod departures;
mod deployment;
mod documents;
mod durability;
mod embedded;
mod fsck;
mod image;
mod signals;
