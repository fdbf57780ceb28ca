//! Faults of the database, the store and the disk: no acknowledged data is lost, no false success is reported, and the
//! service recovers on its own.

mod bucket;
mod disk;
mod postgres;
mod restart;
mod silence;
