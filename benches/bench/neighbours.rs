//! The latency of a client's requests while other clients hold scarce resources, compared with that of the client
//! alone.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;

use crate::ingest::in_parallel;
use crate::load::Latencies;
use crate::support::StoreKind;
use crate::table::Table;
use crate::windlass::{BOUNDARY, Client, KEY, Windlass};

const VISITS: usize = 500;
const SLOW_PARTS: usize = 200;
const MANY_PARTS: usize = 10_000;
const COMPLETIONS: usize = 60;
const READ_BACKS: usize = 40;
const READ_BODIES: usize = 8;

/// Runs this part and prints its table.
pub fn run(runtime: &Runtime, body: &[u8]) {
    println!("the latency of creating a file of one part of 1 MiB, {VISITS} times, alone and under other load");
    let mut table = Table::new(&["store", "load of the other project", "p50, ms", "of alone", "p99, ms", "of alone"]);
    for (name, kind) in [("directory", StoreKind::Directory), ("SeaweedFS", StoreKind::Bucket)] {
        let Some(windlass) = runtime.block_on(Windlass::start(kind, &[])) else { continue };
        let key = windlass.key_of("neighbour");
        let files = |until: &dyn Fn() -> bool| files(&mut windlass.client_with(&key), body, until);
        files(&|| false);
        let mut alone = files(&|| false);
        row(&mut table, name, "none", &mut alone, None);

        let slow = AtomicBool::new(true);
        let mut loaded = thread::scope(|scope| {
            let parts = begin_slow_parts(&windlass);
            scope.spawn(|| trickle(parts, &slow));
            let loaded = files(&|| false);
            slow.store(false, Ordering::Relaxed);
            loaded
        });
        row(&mut table, name, &format!("{SLOW_PARTS} parts at 1 byte/s"), &mut loaded, Some(&mut alone));

        if kind == StoreKind::Directory {
            let mut loaded = during_failing_completions(&windlass, &files);
            let what = format!("{COMPLETIONS} completions at once of {} of {MANY_PARTS} parts", MANY_PARTS - 1);
            row(&mut table, name, &what, &mut loaded, Some(&mut alone));
            let mut loaded = during_wrong_md5s(&windlass, body, &files);
            row(&mut table, name, &format!("{READ_BACKS} wrong md5s of 512 MiB"), &mut loaded, Some(&mut alone));
        }
    }
    table.print();
}

fn row(table: &mut Table, store: &str, load: &str, times: &mut Latencies, alone: Option<&mut Latencies>) {
    let milliseconds = |times: &mut Latencies, rank| times.permille(rank).as_secs_f64() * 1e3;
    let own = [500, 990].map(|rank| milliseconds(times, rank));
    let ratios = alone.map(|it| [500, 990].map(|rank| milliseconds(it, rank)));
    let ratio = |at: usize| ratios.map_or_else(String::new, |it| format!("{:.2}", own[at] / it[at]));
    let figures = [format!("{:.2}", own[0]), ratio(0), format!("{:.2}", own[1]), ratio(1)];
    table.row(&format!("{store} | {load}"), &figures);
}

/// Creates files one after another, until there are enough or the other clients have finished, and times each.
fn files(client: &mut Client, body: &[u8], is_over: &dyn Fn() -> bool) -> Latencies {
    let times = Latencies::default();
    for _ in 0..VISITS {
        times.of_work(|| {
            let upload = client.upload(1 << 20);
            let part = client.part(&upload, &body[..1 << 20]);
            client.complete(&upload, &[part], None)
        });
        if is_over() {
            break;
        }
    }
    times
}

fn begin_slow_parts(windlass: &Windlass) -> Vec<TcpStream> {
    let upload = windlass.client().upload(1 << 30);
    let (host, bytes) = (windlass.address().trim_start_matches("http://"), 64 << 20);
    let begin = |_| {
        let mut socket = TcpStream::connect(host).unwrap();
        write!(
            socket,
            "POST /v1/uploads/{upload}/parts HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\n\
             content-length: {bytes}\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n\
             --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"slow\"\r\n\r\n"
        )
        .unwrap();
        socket
    };
    (0..SLOW_PARTS).map(begin).collect()
}

/// Sends one byte per second on each connection, ignoring errors, until `go_on` is unset.
fn trickle(mut parts: Vec<TcpStream>, go_on: &AtomicBool) {
    let began = Instant::now();
    for second in 1.. {
        for part in &mut parts {
            part.write_all(b"x").ok();
        }
        while began.elapsed() < Duration::from_secs(second) {
            if !go_on.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn during_failing_completions(windlass: &Windlass, files: &dyn Fn(&dyn Fn() -> bool) -> Latencies) -> Latencies {
    let upload = windlass.client().upload(16 * MANY_PARTS);
    let clients: Vec<_> = (0..8).map(|_| windlass.client()).collect();
    let parts = in_parallel(clients, MANY_PARTS, |client: &mut Client, _| client.part(&upload, b"sixteen bytes at"));
    let start = format!("POST /v1/uploads/{upload}/complete");
    let wrong = json!({ "part_ids": &parts[1..] }).to_string();
    let go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..COMPLETIONS {
            scope.spawn(|| {
                let mut client = windlass.client();
                while go_on.load(Ordering::Relaxed) {
                    assert_ne!(client.ask(&start, &wrong).status, 200);
                }
            });
        }
        thread::sleep(Duration::from_millis(100));
        let loaded = files(&|| false);
        go_on.store(false, Ordering::Relaxed);
        loaded
    })
}

fn during_wrong_md5s(windlass: &Windlass, body: &[u8], files: &dyn Fn(&dyn Fn() -> bool) -> Latencies) -> Latencies {
    let upload = windlass.client().upload(READ_BODIES * body.len());
    let clients: Vec<_> = (0..READ_BODIES).map(|_| windlass.client()).collect();
    let parts = in_parallel(clients, READ_BODIES, |client: &mut Client, _| client.part(&upload, body));
    let start = format!("POST /v1/uploads/{upload}/complete");
    let wrong = json!({ "part_ids": parts, "md5": "0".repeat(32) }).to_string();
    thread::scope(|scope| {
        let reading: Vec<_> = (0..READ_BACKS)
            .map(|_| scope.spawn(|| assert_ne!(windlass.client().ask(&start, &wrong).status, 200)))
            .collect();
        thread::sleep(Duration::from_millis(100));
        files(&|| reading.iter().all(thread::ScopedJoinHandle::is_finished))
    })
}
