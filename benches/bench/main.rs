//! The benchmark: `./dev bench` runs every part of it, `./dev bench sweep` one. Each prints a table.
//!
//! It measures the program as it is deployed (a process of its own, a real Postgres that syncs), and
//! says how often the disk can sync, since every durable figure hangs on that.
#![expect(clippy::unwrap_used, reason = "a benchmark that meets what it does not expect ends there")]

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
mod peers;
mod process;
mod slow;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use more of their harness")]
mod support;
mod sweep;
mod table;
mod unread;
mod windlass;

/// The parts, by the name they are asked for.
const PARTS: [(&str, fn()); 10] = [
    ("ingest", ingest::run),
    ("hostile", hostile::run),
    ("unread", unread::run),
    ("download", download::run),
    ("completion", completion::run),
    ("metadata", metadata::run),
    ("memory", memory::run),
    ("slow", slow::run),
    ("sweep", sweep::run),
    ("growth", growth::run),
];

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    if let Some(unknown) = asked.iter().find(|it| PARTS.iter().all(|(name, _)| name != it)) {
        eprintln!("there is no part '{unknown}'; there are: {}", PARTS.map(|(name, _)| name).join(", "));
        std::process::exit(2);
    }
    println!("disk: {:.0} syncs of 4 KiB a second\n", disk::syncs_a_second());
    for (name, run) in PARTS {
        if asked.is_empty() || asked.iter().any(|it| it == name) {
            run();
        }
    }
}
