//! The program as a process: its embedded database, its command line, its signals, its deployment.

mod command_line;
mod deployment;
mod embedded;
mod fsck;
mod signals;
