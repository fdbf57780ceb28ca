//! The ledger itself: what its schema refuses, how its queries find their rows, what its races leave.

mod illegal;
mod legal;
mod migrations;
mod plans;
mod races;
mod sweepers;
