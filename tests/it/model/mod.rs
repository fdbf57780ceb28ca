//! The model: clients do at random what clients may do, several at once, while the program dies, is
//! cut off, sweeps, and the clock jumps; whatever they are told must be what `reference` allows.
//!
//! `./dev model 1000` runs a thousand cases, `./dev model 1000 7` those from the seventh seed on. A case
//! that fails is made small, and printed; in the end stands how often what was answered with what
//! (`--show-output`).

mod cases;
mod checker;
mod driver;
mod operations;
mod reference;
mod shrink;
mod wire;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::support::{StoreKind, tools};
use driver::{Driver, Setup, Tally};
use operations::Case;
use reference::PART_BYTES;
use shrink::Failure;

/// The ways in which programs are set up, and how many at once.
const SETUPS: [(Setup, usize); 3] = [
    (Setup { store: StoreKind::Directory, sweeps: false, ledger_part_bytes: 0 }, 2),
    (Setup { store: StoreKind::Directory, sweeps: true, ledger_part_bytes: PART_BYTES / 2 }, 2),
    (Setup { store: StoreKind::Bucket, sweeps: false, ledger_part_bytes: PART_BYTES / 2 }, 1),
];

/// The seeds of one setup, as they are handed out: a seed belongs to one.
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
fn whatever_clients_are_told_the_model_allows() {
    let seeds = tools::seeds();
    let seeds: Vec<_> =
        (0..SETUPS.len()).map(|setup| Seeds { setup, next: seeds.start.into(), end: seeds.end }).collect();
    let (failures, tally) = (Mutex::new(String::new()), Mutex::new(Tally::new()));
    thread::scope(|scope| {
        for seeds in &seeds {
            for _ in 0..SETUPS[seeds.setup].1 {
                // A program ends with the thread that started it.
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

/// Runs cases until there are no more, or one has failed.
async fn run(seeds: &Seeds, failures: &Mutex<String>, tally: &Mutex<Tally>) {
    let setup = SETUPS[seeds.setup].0;
    let mut driver = None;
    while let Some(seed) = seeds.next().filter(|_| failures.lock().unwrap().is_empty()) {
        if driver.is_none() {
            driver = Driver::start(setup).await;
        }
        let Some(running) = &driver else { return };
        let case = Case::from_seed(seed);
        if let Err(story) = running.run(&case).await {
            let found = format!("seed {seed} on {setup:?}\n{case}\n{story}");
            eprintln!("{found}\nmaking it smaller…");
            failures.lock().unwrap().push_str(&found);
            let Failure { case, story } = shrink::shrink(setup, Failure { case, story }).await;
            let smaller = format!("\n\nas small as it was made:\n{case}\n{story}\nagain: ./dev model 1 {seed}\n");
            failures.lock().unwrap().push_str(&smaller);
            break;
        }
    }
    for (kind, count) in driver.map(Driver::tally).unwrap_or_default() {
        *tally.lock().unwrap().entry(kind).or_default() += count;
    }
}
