//! Download: a File of eight Parts of 64 MiB, read by one client and by four concurrently.

use std::fs;
use std::thread;
use std::time::Instant;

use futures_util::StreamExt as _;
use nix::unistd::Pid;
use object_store::{GetOptions, ObjectStore as _, ObjectStoreExt as _};
use tokio::runtime::Runtime;

use crate::http::Connection;
use crate::ingest::{BODY, random_body};
use crate::peers::Peer;
use crate::process;
use crate::support::StoreKind;
use crate::support::store::Store;
use crate::table::{Table, median};
use crate::windlass::{Windlass, id};

const ROUNDS: usize = 15;
const PARTS: usize = 8;
const BYTES: usize = PARTS * BODY;
const READERS: [usize; 2] = [1, 4];

/// A server and the results of its rounds.
struct Server {
    name: &'static str,
    /// The name of the server that it is compared with, which comes earlier in the list.
    of: Option<&'static str>,
    rounds: Vec<[Round; READERS.len()]>,
}

/// The result of a round: MB/s, and processor seconds per GiB of the server and of the load.
struct Round {
    speed: f64,
    cpu: f64,
    load_cpu: f64,
}

const NGINX: &str = "nginx, static file";
const DIRECT: &str = "object_store's own client from SeaweedFS";

/// Runs this part and prints its table.
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

    let mut all: Vec<Server> = Vec::new();
    for _ in 0..ROUNDS {
        let mut add = |name, of, read: &(dyn Fn() -> u64 + Sync), server| {
            let round = READERS.map(|readers| measured(server, readers, read));
            match all.iter_mut().find(|it| it.name == name) {
                Some(it) => it.rounds.push(round),
                None => all.push(Server { name, of, rounds: vec![round] }),
            }
        };
        if let Some(nginx) = &nginx {
            let read = || Connection::open(&nginx.address).send("GET /file", "", &[], false).length;
            add(NGINX, None, &read, nginx.pid());
        }
        let read = || directory.client().download(&file, None);
        add("**Windlass**, directory", Some(NGINX), &read, directory.pid());
        if let (Some(bucket), Some(file), Some(objects)) = (&bucket, &file_in_bucket, &objects) {
            let (whole, range) = (GetOptions::new(), GetOptions::new().with_range(Some(0..BODY as u64)));
            add(DIRECT, None, &|| read_directly(&runtime, objects, &whole), Pid::this());
            add(
                "the same, requesting a range",
                Some(DIRECT),
                &|| read_directly(&runtime, objects, &range),
                Pid::this(),
            );
            let read = || bucket.client().download(file, None);
            add("**Windlass**, the same SeaweedFS", Some(DIRECT), &read, bucket.pid());
        }
    }
    print(&all);
}

/// Creates the File. Returns its id.
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

/// Reads the objects one after another with `object_store`. Returns the number of bytes.
fn read_directly(runtime: &Runtime, store: &Store, options: &GetOptions) -> u64 {
    let Store::Bucket { objects, prefix, .. } = store else { unreachable!() };
    runtime.block_on(async {
        let mut length = 0;
        for part in 0..PARTS {
            let found = objects.get_opts(&format!("{prefix}/{part}").into(), options.clone()).await;
            let mut pieces = found.unwrap().into_stream();
            while let Some(piece) = pieces.next().await {
                length += piece.unwrap().len() as u64;
            }
        }
        length
    })
}

fn measured(server: Pid, readers: usize, read: &(dyn Fn() -> u64 + Sync)) -> Round {
    let cpu = || (process::cpu_seconds(server), process::cpu_seconds(Pid::this()));
    let (before, began) = (cpu(), Instant::now());
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| assert_eq!(read(), BYTES as u64, "the whole file"));
        }
    });
    let (took, after) = (began.elapsed(), cpu());
    let gib = f64::from(u32::try_from((readers * BYTES) >> 20).unwrap()) / 1024.0;
    let load_cpu = if server == Pid::this() { f64::NAN } else { (after.1 - before.1) / gib };
    Round { speed: gib * 1_073.741_824 / took.as_secs_f64(), cpu: (after.0 - before.0) / gib, load_cpu }
}

fn print(all: &[Server]) {
    println!("download: a file of {PARTS} parts of 64 MiB, {ROUNDS} rounds; medians");
    let columns = READERS.map(|readers| {
        let figures = [format!("MB/s, {readers} at once"), "of the other".into(), "CPU-s/GiB".into(), "load's".into()];
        figures.to_vec()
    });
    let columns: Vec<_> = ["server".to_owned()].into_iter().chain(columns.concat()).collect();
    let mut table = Table::new(&columns.iter().map(|it| &**it).collect::<Vec<_>>());
    for it in all {
        let other = all.iter().find(|other| it.of == Some(other.name));
        let mut figures = Vec::new();
        for readers in 0..READERS.len() {
            let of = |it: &Server, figure: fn(&Round) -> f64| {
                median(&it.rounds.iter().map(|it| figure(&it[readers])).collect::<Vec<_>>())
            };
            let figure = |it: f64| if it.is_nan() { String::new() } else { format!("{it:.2}") };
            let speed = of(it, |it| it.speed);
            figures.push(format!("{speed:.0}"));
            figures.push(other.map_or_else(String::new, |other| figure(speed / of(other, |it| it.speed))));
            figures.extend([figure(of(it, |it| it.cpu)), figure(of(it, |it| it.load_cpu))]);
        }
        table.row(it.name, &figures);
    }
    table.print();
}
