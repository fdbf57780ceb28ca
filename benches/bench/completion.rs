//! Completion: how long it takes to complete Uploads with one, many and large Parts, and with an `md5`; and the
//! server's processor time from the first Part on.

use std::time::Instant;

use md5::{Digest as _, Md5};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::ingest::{BODY, in_parallel, random_body};
use crate::process;
use crate::support::StoreKind;
use crate::table::{Table, median};
use crate::windlass::{Client, Windlass, id};

const ROUNDS: usize = 7;
const PARALLEL: usize = 8;

/// An Upload to complete.
struct Case {
    name: &'static str,
    parts: usize,
    part_bytes: usize,
    with_md5: bool,
    /// Whether the Parts are sent concurrently rather than one after another.
    in_parallel: bool,
}

const CASES: [Case; 6] = [
    Case { name: "1 part of 1 KiB", parts: 1, part_bytes: 1024, with_md5: false, in_parallel: false },
    Case { name: "8 GiB in 128 parts", parts: 128, part_bytes: BODY, with_md5: false, in_parallel: true },
    Case { name: "10,000 parts of 16 bytes", parts: 10_000, part_bytes: 16, with_md5: false, in_parallel: true },
    Case { name: "1 GiB in 16 parts, sent in order", parts: 16, part_bytes: BODY, with_md5: false, in_parallel: false },
    Case {
        name: "1 GiB in 16 parts, sent in order, with md5",
        parts: 16,
        part_bytes: BODY,
        with_md5: true,
        in_parallel: false,
    },
    Case {
        name: "1 GiB in 16 parts, sent at once, with md5",
        parts: 16,
        part_bytes: BODY,
        with_md5: true,
        in_parallel: true,
    },
];

/// Runs this part and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let body = random_body();
    let windlass = runtime.block_on(Windlass::start(StoreKind::Directory, &[])).unwrap();
    println!("completion: {ROUNDS} rounds; medians");
    let mut table = Table::new(&["a file of", "ms", "of the first", "CPU-s/GiB, parts included"]);
    let mut first = None;
    // Postgres may switch to a generic plan after five executions of a statement on a connection.
    for _ in 0..10 {
        let (file, ..) = complete(&windlass, &CASES[0], &body[..CASES[0].part_bytes]);
        windlass.client().delete(&id(&file));
    }
    for case in &CASES {
        let (times, cpu): (Vec<_>, Vec<_>) = (0..ROUNDS)
            .map(|_| {
                let before = process::cpu_seconds(windlass.pid());
                let (file, milliseconds) = complete(&windlass, case, &body[..case.part_bytes]);
                let cpu = process::cpu_seconds(windlass.pid()) - before;
                windlass.client().delete(&id(&file));
                runtime.block_on(windlass.is_empty());
                (milliseconds, cpu)
            })
            .unzip();
        let time = median(&times);
        let mib = f64::from(u32::try_from((case.parts * case.part_bytes) >> 20).unwrap());
        let cpu = if mib < 1024.0 { String::new() } else { format!("{:.2}", median(&cpu) / mib * 1024.0) };
        table.row(case.name, &[format!("{time:.1}"), format!("{:.1}", time / *first.get_or_insert(time)), cpu]);
    }
    table.print();
}

fn complete(windlass: &Windlass, case: &Case, bytes: &[u8]) -> (Value, f64) {
    let mut client = windlass.client();
    let upload = client.upload(case.parts * bytes.len());
    let connections = if case.in_parallel { PARALLEL } else { 1 };
    let clients: Vec<_> = (0..connections).map(|_| windlass.client()).collect();
    let parts = in_parallel(clients, case.parts, |client: &mut Client, _| client.part(&upload, bytes));
    let md5 = case.with_md5.then(|| {
        let mut digest = Md5::new();
        (0..case.parts).for_each(|_| digest.update(bytes));
        windlass_types::Md5::from(<[u8; 16]>::from(digest.finalize())).to_string()
    });
    let began = Instant::now();
    let file = client.complete(&upload, &parts, md5.as_deref());
    (file, began.elapsed().as_secs_f64() * 1e3)
}
