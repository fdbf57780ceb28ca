//! Ingest: bodies of 64 MiB, eight in parallel, are sent to each server in turn, in several rounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{mem, thread};

use nix::unistd::Pid;
use object_store::ObjectStoreExt as _;
use tokio::runtime::Runtime;
use windlass_types::Crc64Digest;

use crate::disk;
use crate::http::Connection;
use crate::load::Latencies;
use crate::peers::Peer;
use crate::process;
use crate::support::StoreKind;
use crate::support::store::Store;
use crate::table::{Table, median};
use crate::windlass::{Client, Windlass, id};

const ROUNDS: usize = 5;
const PARALLEL: usize = 8;
const BODIES: usize = 16;
pub const BODY: usize = 64 * 1024 * 1024;

/// The result of one round of one server.
struct Round {
    mb_a_second: f64,
    cpu_a_gib: f64,
    load_cpu_a_gib: f64,
    peak_mib: u64,
    bodies: Latencies,
}

impl Round {
    fn of_speed(mb_a_second: f64) -> Self {
        let (none, bodies) = (f64::NAN, Latencies::default());
        Self { mb_a_second, cpu_a_gib: none, load_cpu_a_gib: none, peak_mib: 0, bodies }
    }
}

/// A server's rounds.
struct Rounds {
    name: String,
    rounds: Vec<Round>,
}

/// Runs this part and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let bytes = random_body();
    let peers = Peer::all();
    let directory = runtime.block_on(Windlass::start(StoreKind::Directory, &[])).unwrap();
    let bucket = runtime.block_on(Windlass::start(StoreKind::Bucket, &[]));
    let mut results: Vec<Rounds> = Vec::new();
    for _ in 0..ROUNDS {
        let mut results = Results { all: &mut results };
        let synced = disk::synced_mb_a_second(&bytes, BODIES);
        results.add("as dd bs=1M conv=fsync", Round::of_speed(synced));
        for peer in &peers {
            results.add(peer.name, into_peer(peer, &bytes));
        }
        results.add("**Windlass**, directory, synced", into_windlass(&runtime, &directory, &bytes));
        if let Some(bucket) = &bucket {
            results.add("object_store's own client into SeaweedFS", directly(&runtime, &bytes));
            results.add("**Windlass**, the same SeaweedFS", into_windlass(&runtime, bucket, &bytes));
        }
    }
    print(&mut results);
}

struct Results<'r> {
    all: &'r mut Vec<Rounds>,
}

impl Results<'_> {
    fn add(&mut self, name: &str, round: Round) {
        match self.all.iter_mut().find(|it| it.name == name) {
            Some(it) => it.rounds.push(round),
            None => self.all.push(Rounds { name: name.to_owned(), rounds: vec![round] }),
        }
    }
}

/// An incompressible body.
pub fn random_body() -> Vec<u8> {
    let mut bytes = vec![0; BODY];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes
}

fn into_windlass(runtime: &Runtime, windlass: &Windlass, bytes: &[u8]) -> Round {
    let mut client = windlass.client();
    let upload = client.upload(BODY * BODIES);
    let clients: Vec<_> = (0..PARALLEL).map(|_| windlass.client()).collect();
    let (round, parts) = measured(windlass.pid(), |bodies| {
        in_parallel(clients, BODIES, |client: &mut Client, _| bodies.of_work(|| client.part(&upload, bytes)))
    });
    let file = client.complete(&upload, &parts, None);
    let mut expected = Crc64Digest::new();
    (0..BODIES).for_each(|_| expected.update(bytes));
    assert_eq!(file["crc64nvme"], expected.finish().to_string());
    client.delete(&id(&file));
    runtime.block_on(windlass.is_empty());
    round
}

fn into_peer(peer: &Peer, bytes: &[u8]) -> Round {
    let requests = peer.requests(BODIES, bytes.len());
    let connections: Vec<_> = (0..PARALLEL).map(|_| Connection::open(&peer.address)).collect();
    let (round, _) = measured(peer.pid(), |bodies| {
        in_parallel(connections, BODIES, |connection: &mut Connection, number| {
            let request = &requests[number];
            let body = [request.around[0].as_bytes(), bytes, request.around[1].as_bytes()];
            let answer = bodies.of_work(|| connection.send(&request.start, request.headers, &body, false));
            assert!(matches!(answer.status, 200 | 201 | 204), "{}: {}", peer.name, answer.status);
        })
    });
    peer.check_and_clear(BODIES, bytes.len());
    round
}

/// Sends the same bodies with `object_store`, with up to eight requests in flight for each body.
fn directly(runtime: &Runtime, bytes: &[u8]) -> Round {
    let Some(Store::Bucket { objects, prefix, .. }) = Store::new(StoreKind::Bucket) else { unreachable!() };
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let next = Arc::new(AtomicUsize::new(0));
    let (round, ()) = measured(Pid::this(), |_| {
        let tasks = (0..PARALLEL).map(|_| {
            let (objects, prefix, bytes, next) =
                (Arc::clone(&objects), prefix.clone(), bytes.clone(), Arc::clone(&next));
            runtime.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= BODIES {
                        return;
                    }
                    let path = format!("{prefix}/{number}").into();
                    let upload = objects.put_multipart(&path).await.unwrap();
                    let mut writer = object_store::WriteMultipart::new(upload);
                    for chunk in (0..BODY).step_by(5 * 1024 * 1024) {
                        writer.wait_for_capacity(8).await.unwrap();
                        writer.put(bytes.slice(chunk..BODY.min(chunk + 5 * 1024 * 1024)));
                    }
                    writer.finish().await.unwrap();
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        runtime.block_on(futures_util::future::join_all(tasks)).into_iter().for_each(Result::unwrap);
    });
    runtime.block_on(async {
        for number in 0..BODIES {
            objects.delete(&format!("{prefix}/{number}").into()).await.unwrap();
        }
    });
    round
}

/// Runs `work` and measures a server meanwhile.
fn measured<T>(server: Pid, work: impl FnOnce(&Latencies) -> T) -> (Round, T) {
    // Do not wait for writes that earlier rounds have left in the page cache.
    nix::unistd::sync();
    process::reset_peak(server);
    let bodies = Latencies::default();
    let (cpu, load_cpu) = (process::cpu_seconds(server), process::own_cpu_seconds(Pid::this()));
    let began = Instant::now();
    let done = work(&bodies);
    let seconds = began.elapsed().as_secs_f64();
    let cpu = process::cpu_seconds(server) - cpu;
    let load_cpu = process::own_cpu_seconds(Pid::this()) - load_cpu;
    let mib = f64::from(u32::try_from((BODIES * BODY) >> 20).unwrap());
    let round = Round {
        mb_a_second: mib * 1.048_576 / seconds,
        cpu_a_gib: cpu / (mib / 1024.0),
        load_cpu_a_gib: if server == Pid::this() { f64::NAN } else { load_cpu / (mib / 1024.0) },
        peak_mib: process::family_peak_mib(server),
        bodies,
    };
    (round, done)
}

/// Calls `work` for each body, on one thread per connection. Returns the results in the order of the bodies.
pub fn in_parallel<C: Send, T: Send>(
    connections: Vec<C>,
    bodies: usize,
    work: impl Fn(&mut C, usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let (next, work) = (&next, &work);
                scope.spawn(move || {
                    let mut done = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= bodies {
                            return done;
                        }
                        done.push((number, work(&mut connection, number)));
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|it| it.join().unwrap()).collect()
    });
    done.sort_by_key(|it| it.0);
    done.into_iter().map(|it| it.1).collect()
}

fn print(results: &mut [Rounds]) {
    println!("ingest: {BODIES} bodies of 64 MiB, {PARALLEL} at a time, {ROUNDS} rounds; medians");
    let of = |it: &Rounds, figure: fn(&Round) -> f64| median(&it.rounds.iter().map(figure).collect::<Vec<_>>());
    let nginx = results.iter().find(|it| it.name.starts_with("nginx"));
    let nginx = nginx.map(|it| (of(it, |it| it.mb_a_second), of(it, |it| it.cpu_a_gib)));
    let mut table = Table::new(&[
        "server",
        "MB/s",
        "lowest",
        "highest",
        "of nginx",
        "CPU-s/GiB",
        "of nginx",
        "load's CPU-s/GiB",
        "p50 of a body, ms",
        "p99",
        "peak MiB",
    ]);
    let shown = |figure: f64| if figure.is_nan() { String::new() } else { format!("{figure:.2}") };
    for it in results {
        let (speed, cpu) = (of(it, |it| it.mb_a_second), of(it, |it| it.cpu_a_gib));
        let speeds: Vec<_> = it.rounds.iter().map(|it| it.mb_a_second).collect();
        let peak = it.rounds.iter().map(|it| it.peak_mib).max().unwrap_or_default();
        let load = of(it, |it| it.load_cpu_a_gib);
        let mut bodies = Latencies::default();
        it.rounds.iter_mut().for_each(|it| bodies.add(mem::take(&mut it.bodies)));
        let [p50, p99] = [500, 990]
            .map(|rank| if bodies.is_empty() { String::new() } else { bodies.permille(rank).as_millis().to_string() });
        table.row(
            &it.name,
            &[
                format!("{speed:.0}"),
                format!("{:.0}", speeds.iter().copied().fold(f64::INFINITY, f64::min)),
                format!("{:.0}", speeds.iter().copied().fold(0.0, f64::max)),
                shown(nginx.map_or(f64::NAN, |it| speed / it.0)),
                shown(cpu),
                shown(nginx.map_or(f64::NAN, |it| cpu / it.1)),
                shown(load),
                p50,
                p99,
                if peak == 0 { String::new() } else { peak.to_string() },
            ],
        );
    }
    table.print();
}
