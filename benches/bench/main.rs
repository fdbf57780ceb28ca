//! The benchmark: `./dev bench` runs all parts, `./dev bench sweep` one of them. Each prints a table.
//!
//! It measures the program as it is deployed, as a separate process with a real Postgres that syncs. It first prints
//! the number of syncs per second of the disk, on which all figures for durable writes depend.
#![expect(clippy::unwrap_used, reason = "a benchmark fails on an unexpected error")]

mod completion;
mod disk;
mod download;
mod growth;
mod hostile;
mod http;
mod ingest;
mod load;
mod memory;
mod metadata;
mod neighbours;
mod overload;
mod peers;
mod process;
mod slow;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use more of this harness")]
mod support;
mod sweep;
mod table;
mod unread;
mod windlass;

/// The parts, by their names on the command line.
const PARTS: [(&str, fn()); 11] = [
    ("ingest", ingest::run),
    ("hostile", hostile::run),
    ("unread", unread::run),
    ("download", download::run),
    ("completion", completion::run),
    ("metadata", metadata::run),
    ("overload", overload::run),
    ("memory", memory::run),
    ("slow", slow::run),
    ("sweep", sweep::run),
    ("growth", growth::run),
];

fn main() {
    let selected: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    if let Some(unknown) = selected.iter().find(|it| PARTS.iter().all(|(name, _)| name != it)) {
        eprintln!("unknown part '{unknown}'; the parts are: {}", PARTS.map(|(name, _)| name).join(", "));
        std::process::exit(2);
    }
    println!("disk: {:.0} syncs of 4 KiB a second\n", disk::syncs_a_second());
    for (name, run) in PARTS {
        if selected.is_empty() || selected.iter().any(|it| it == name) {
            run();
        }
    }
}
