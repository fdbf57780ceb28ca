//! Model-based tests: concurrent clients send random requests while the program is killed, loses its database
//! connections and sweeps, and the clock jumps. Every response must be one that `reference` allows.
//!
//! `./dev model 1000` runs a thousand cases, `./dev model 1000 7` a thousand from seed 7 on. A failing case is shrunk
//! and printed. At the end, the number of responses of each kind to each kind of request is printed (`--show-output`).

mod cases;
mod checker;
mod driver;
mod operations;
mod paging;
mod quotas;
mod reference;
mod shrink;
mod wire;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use driver::{Driver, Setup, Tally};
use operations::Case;
use reference::PART_BYTES;
use shrink::Failure;

use crate::support::{StoreKind, tools};

/// The configurations of the program under test, and the number of programs that run in parallel with each.
const SETUPS: [(Setup, usize); 3] = [
    (Setup { store: StoreKind::Directory, sweeps: false, ledger_part_bytes: 0 }, 2),
    (Setup { store: StoreKind::Directory, sweeps: true, ledger_part_bytes: PART_BYTES / 2 }, 2),
    (Setup { store: StoreKind::Bucket, sweeps: false, ledger_part_bytes: PART_BYTES / 2 }, 1),
];

/// Hands out the seeds of one setup. Each seed belongs to exactly one setup.
struct Seeds {
    setup: usize,
    next: AtomicU64,
    end: u64,
}

impl Seeds {
    fn next(&self) -> Option<u64> {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let setup = match seed % 8 {
                0 => 2,
                1 | 3 | 5 => 1,
                _ => 0,
            };
            if seed >= self.end || setup == self.setup {
                return (seed < self.end).then_some(seed);
            }
        }
    }
}

#[test]
fn every_response_is_allowed_by_the_model() {
    let seeds = tools::seeds();
    let seeds: Vec<_> =
        (0..SETUPS.len()).map(|setup| Seeds { setup, next: seeds.start.into(), end: seeds.end }).collect();
    let (failures, tally) = (Mutex::new(String::new()), Mutex::new(Tally::new()));
    thread::scope(|scope| {
        for seeds in &seeds {
            for _ in 0..SETUPS[seeds.setup].1 {
                // A program is killed when the thread that started it ends.
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(run(seeds, &failures, &tally));
                });
            }
        }
    });
    for (kind, count) in tally.into_inner().unwrap() {
        println!("{count:>8}  {kind}");
    }
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures}");
}

/// Runs cases until there are no more seeds, or one has failed in any thread.
async fn run(seeds: &Seeds, failures: &Mutex<String>, tally: &Mutex<Tally>) {
    let setup = SETUPS[seeds.setup].0;
    let mut driver = None;
    while let Some(seed) = seeds.next().filter(|_| failures.lock().unwrap().is_empty()) {
        if driver.is_none() {
            driver = Driver::start(setup).await;
        }
        let Some(running) = &driver else { return };
        let case = Case::from_seed(seed);
        if let Err(record) = running.run(&case).await {
            let found = format!("seed {seed} on {setup:?}\n{case}\n{record}");
            eprintln!("{found}\nshrinking it…");
            failures.lock().unwrap().push_str(&found);
            let Failure { case, record } = shrink::shrink(setup, Failure { case, record }).await;
            let smaller = format!("\n\nthe shrunk case:\n{case}\n{record}\nto reproduce: ./dev model 1 {seed}\n");
            failures.lock().unwrap().push_str(&smaller);
            break;
        }
    }
    for (kind, count) in driver.map(Driver::tally).unwrap_or_default() {
        *tally.lock().unwrap().entry(kind).or_default() += count;
    }
}
