//! The real program dies, by SIGKILL, at every step that it has and at any moment; what was
//! acknowledged is there afterwards, byte for byte, and nothing else is left anywhere.

mod any_moment;
mod first_start;
mod operations;
mod panics;
mod steps;
