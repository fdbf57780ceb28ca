//! Background and administrative tasks: the sweep, probes, metrics of the ledger, fsck, and the link between the ledger and the store.

mod background;
pub(crate) mod fsck;
mod ledger_reporter;
mod prober;
pub(crate) mod store_link;
pub(crate) mod sweep;
mod sweeper;
