//! What the service depends on is in trouble: nothing is lost, nothing is claimed that is not so, and
//! it recovers by itself.

mod bucket;
mod disk;
mod postgres;
mod restart;
mod silence;
