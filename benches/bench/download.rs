//! Download: a File of eight Parts of 64 MiB, read by one client and by four at once.

use std::fs;
use std::thread;
use std::time::Instant;

use futures_util::StreamExt as _;
use nix::unistd::Pid;
use object_store::ObjectStoreExt as _;
use tokio::runtime::Runtime;

use crate::http::Connection;
use crate::ingest::{BODY, random_body};
use crate::peers::Peer;
use crate::process;
use crate::support::StoreKind;
use crate::support::store::Store;
use crate::table::{Table, median};
use crate::windlass::{Windlass, id};

const ROUNDS: usize = 5;
const PARTS: usize = 8;
const BYTES: usize = PARTS * BODY;
const READERS: [usize; 2] = [1, 4];

/// A server and how often it was measured: megabytes a second and processor seconds a GiB.
struct Rounds {
    name: &'static str,
    rounds: Vec<[(f64, f64); READERS.len()]>,
}

/// Runs it, and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let bytes = random_body();
    let nginx = Peer::nginx();
    if let Some(nginx) = &nginx {
        fs::write(nginx.files().join("file"), bytes.repeat(PARTS)).unwrap();
    }
    let directory = runtime.block_on(Windlass::start(StoreKind::Directory, &[])).unwrap();
    let bucket = runtime.block_on(Windlass::start(StoreKind::Bucket, &[]));
    let file = store(&directory, &bytes);
    let file_in_bucket = bucket.as_ref().map(|it| store(it, &bytes));
    let objects = bucket.as_ref().map(|_| store_directly(&runtime, &bytes));

    let mut all: Vec<Rounds> = Vec::new();
    for _ in 0..ROUNDS {
        let mut add = |name, read: &(dyn Fn() -> u64 + Sync), server| {
            let round = READERS.map(|readers| measured(server, readers, read));
            match all.iter_mut().find(|it| it.name == name) {
                Some(it) => it.rounds.push(round),
                None => all.push(Rounds { name, rounds: vec![round] }),
            }
        };
        if let Some(nginx) = &nginx {
            let read = || Connection::open(&nginx.address).send("GET /file", "", &[], false).length;
            add("nginx, static file", &read, nginx.pid());
        }
        add("**Windlass**, directory", &|| directory.client().download(&file, None), directory.pid());
        if let (Some(bucket), Some(file), Some(objects)) = (&bucket, &file_in_bucket, &objects) {
            add("object_store's own client from SeaweedFS", &|| read_directly(&runtime, objects), Pid::this());
            add("**Windlass**, the same SeaweedFS", &|| bucket.client().download(file, None), bucket.pid());
        }
    }
    print(&all);
}

/// A File, its id.
fn store(windlass: &Windlass, bytes: &[u8]) -> String {
    let mut client = windlass.client();
    let upload = client.upload(BYTES);
    let parts: Vec<_> = (0..PARTS).map(|_| client.part(&upload, bytes)).collect();
    id(&client.complete(&upload, &parts, None))
}

fn store_directly(runtime: &Runtime, bytes: &[u8]) -> Store {
    let store = Store::new(StoreKind::Bucket).unwrap();
    let Store::Bucket { objects, prefix, .. } = &store else { unreachable!() };
    for part in 0..PARTS {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        runtime.block_on(objects.put(&format!("{prefix}/{part}").into(), bytes.into())).unwrap();
    }
    store
}

/// Reads the objects one after another, as `object_store` streams them.
fn read_directly(runtime: &Runtime, store: &Store) -> u64 {
    let Store::Bucket { objects, prefix, .. } = store else { unreachable!() };
    runtime.block_on(async {
        let mut length = 0;
        for part in 0..PARTS {
            let mut pieces = objects.get(&format!("{prefix}/{part}").into()).await.unwrap().into_stream();
            while let Some(piece) = pieces.next().await {
                length += piece.unwrap().len() as u64;
            }
        }
        length
    })
}

fn measured(server: Pid, readers: usize, read: &(dyn Fn() -> u64 + Sync)) -> (f64, f64) {
    let cpu = process::cpu_seconds(server);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| assert_eq!(read(), BYTES as u64, "the whole file"));
        }
    });
    let mib = f64::from(u32::try_from((readers * BYTES) >> 20).unwrap());
    let speed = mib * 1.048_576 / began.elapsed().as_secs_f64();
    (speed, (process::cpu_seconds(server) - cpu) / (mib / 1024.0))
}

fn print(all: &[Rounds]) {
    println!("download: a file of {PARTS} parts of 64 MiB, {ROUNDS} rounds; medians");
    let mut table = Table::new(&[
        "server",
        "MB/s, 1 reader",
        "of the one above",
        "CPU-s/GiB",
        "MB/s, 4 readers",
        "of the one above",
        "CPU-s/GiB",
    ]);
    for (number, it) in all.iter().enumerate() {
        // A server of others, then Windlass on the same disk or bucket.
        let other = (number % 2 == 1).then(|| &all[number - 1]);
        let mut figures = Vec::new();
        for readers in 0..READERS.len() {
            let of = |it: &Rounds, figure: fn(&(f64, f64)) -> f64| {
                median(&it.rounds.iter().map(|it| figure(&it[readers])).collect::<Vec<_>>())
            };
            let speed = of(it, |it| it.0);
            figures.push(format!("{speed:.0}"));
            figures.push(other.map_or_else(String::new, |other| format!("{:.2}", speed / of(other, |it| it.0))));
            figures.push(format!("{:.2}", of(it, |it| it.1)));
        }
        table.row(it.name, &figures);
    }
    table.print();
}
