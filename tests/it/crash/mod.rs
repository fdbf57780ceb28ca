//! Kills the real program with SIGKILL at every crash point and at random moments. Afterwards, everything acknowledged
//! is there, byte for byte, and nothing else is left.

mod any_moment;
mod first_start;
mod operations;
mod panics;
mod steps;
