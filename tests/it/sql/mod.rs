//! Tests of the ledger: the constraints of its schema, its query plans, its migrations, and concurrent transactions.

mod compatibility;
mod illegal;
mod legal;
mod migrations;
mod plans;
mod races;
mod sweepers;
