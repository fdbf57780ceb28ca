//! Load of 1, 2, 4 and 8 times what the service carries, with the bound on the wait for a turn and without it.
//!
//! Visits begin at fixed rates, whether or not earlier ones have ended. A visit creates an Upload, adds a Part of 1 KiB,
//! completes it, retrieves the File and lists Files; it ends at the first request that does not succeed. Three projects
//! begin a sixteenth each of what the service carries, at every load; a fourth one begins all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::load::Latencies;
use crate::support::{Client, StoreKind};
use crate::table::Table;
use crate::windlass::{KEY, Windlass};

const LOADS: [u32; 4] = [1, 2, 4, 8];
const DURATION: Duration = Duration::from_secs(10);
/// The clients that measure what the service carries, each one visit at a time.
const CLIENTS: usize = 32;
const QUIET: [&str; 3] = ["quiet-1", "quiet-2", "quiet-3"];
/// The share of what the service carries that each quiet project begins is 1 divided by this.
const QUIET_DIVISOR: u32 = 16;
/// A response counts towards goodput if it arrives within this time, and before the load ends.
const IN_TIME: Duration = Duration::from_secs(2);
/// The maximum number of visits at once; further ones are not begun, and count as failed.
const AT_ONCE: usize = 4000;
/// How long to wait for the visits that are under way when the load ends.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the requests of one run have led to.
struct Tally {
    /// When the load ends.
    until: Instant,
    succeeded: Latencies,
    refused: Latencies,
    in_time: AtomicU64,
    failed: AtomicU64,
    quiet_begun: AtomicU64,
    quiet_done: AtomicU64,
}

/// The clients of one server.
struct Clients {
    loud: Client,
    quiet: Vec<Client>,
}

/// Runs this part and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let more = [("WINDLASS_SWEEP_INTERVAL", "1h"), ("WINDLASS_MAX_QUEUE_WAIT", "1s")];
    let windlass = runtime.block_on(Windlass::start(StoreKind::Directory, &more)).unwrap();
    let without = windlass.another(&[("WINDLASS_MAX_QUEUE_WAIT", "1h")]);
    let keys = QUIET.map(|project| windlass.key_of(project));
    let clients = |address: &str| Clients {
        loud: Client::new(address, KEY),
        quiet: keys.iter().map(|key| Client::new(address, key)).collect(),
    };
    let servers = [("1 s", clients(windlass.address())), ("none", clients(&without.address))];

    runtime.block_on(carried(&servers[0].1));
    let carried = runtime.block_on(carried(&servers[0].1));
    println!("overload: {carried} visits of 5 requests per second are carried; {} s for each load", DURATION.as_secs());
    let columns = [
        "load | bound",
        "visits begun/s",
        "goodput, requests/s",
        "refused/s",
        "failed/s",
        "p50, ms",
        "p99, ms",
        "p99 of refusals, ms",
        "quiet projects' visits done in time",
    ];
    let mut table = Table::new(&columns);
    for load in LOADS {
        for (bound, clients) in &servers {
            let (tally, begun) = runtime.block_on(load_of(clients, carried, load));
            table.row(&format!("{load} × | {bound}"), &tally.figures(begun));
        }
    }
    table.print();
}

/// How many visits per second a few clients make that wait for each response.
async fn carried(clients: &Clients) -> u32 {
    let (tally, done) = (Tally::new(), AtomicU64::new(0));
    let all: Vec<_> = clients.quiet.iter().chain([&clients.loud]).collect();
    let work = (0..CLIENTS).map(async |number| {
        while Instant::now() < tally.until {
            let is_done = visit(all[number % all.len()], &tally).await;
            done.fetch_add(u64::from(is_done), Ordering::Relaxed);
        }
    });
    futures_util::future::join_all(work).await;
    u32::try_from(done.into_inner() / DURATION.as_secs()).unwrap()
}

/// Begins `load` times as many visits per second as the service carries. Returns how many were begun.
async fn load_of(clients: &Clients, carried: u32, load: u32) -> (Tally, u64) {
    let tally = Arc::new(Tally::new());
    let (slots, begun) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(AtomicU64::new(0)));
    let quiet_rate = (carried / QUIET_DIVISOR).max(1);
    let loud_rate = load * carried - quiet_rate * u32::try_from(QUIET.len()).unwrap();
    let mut generators = JoinSet::new();
    let all = clients.quiet.iter().map(|it| (it, quiet_rate, true)).chain([(&clients.loud, loud_rate, false)]);
    for (client, rate, is_quiet) in all {
        let (client, tally, slots, begun) =
            (client.clone(), Arc::clone(&tally), Arc::clone(&slots), Arc::clone(&begun));
        generators.spawn(async move {
            let mut due = interval(Duration::from_secs(1) / rate);
            let mut visits = JoinSet::new();
            while Instant::now() < tally.until {
                due.tick().await;
                begun.fetch_add(1, Ordering::Relaxed);
                tally.quiet_begun.fetch_add(u64::from(is_quiet), Ordering::Relaxed);
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    tally.failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let (client, tally) = (client.clone(), Arc::clone(&tally));
                visits.spawn(async move {
                    let is_done = visit(&client, &tally).await;
                    tally.quiet_done.fetch_add(u64::from(is_done && is_quiet), Ordering::Relaxed);
                    drop(slot);
                });
                while visits.try_join_next().is_some() {}
            }
            timeout(PATIENCE, visits.join_all()).await.ok();
        });
    }
    generators.join_all().await;
    let begun = begun.load(Ordering::Relaxed);
    (Arc::into_inner(tally).unwrap(), begun)
}

/// Returns whether every request succeeded in time.
async fn visit(client: &Client, tally: &Tally) -> bool {
    all_requests(client, tally).await.is_some_and(|is_in_time| is_in_time)
}

async fn all_requests(client: &Client, tally: &Tally) -> Option<bool> {
    let new = json!({"filename": "a", "purpose": "user_data", "bytes": 1024, "mime_type": "text/plain"});
    let post = |path: &str| client.request(Method::POST, path);
    let (upload, first) = tally.send(post("/v1/uploads").json(&new)).await?;
    let path = format!("/v1/uploads/{}", upload["id"].as_str()?);
    let form = Form::new().part("data", Part::bytes(vec![7; 1024]).file_name("upload"));
    let (part, second) = tally.send(post(&format!("{path}/parts")).multipart(form)).await?;
    let completion = json!({ "part_ids": [part["id"]] });
    let (completed, third) = tally.send(post(&format!("{path}/complete")).json(&completion)).await?;
    let file = completed["file"]["id"].as_str()?;
    let (_, fourth) = tally.send(client.request(Method::GET, &format!("/v1/files/{file}"))).await?;
    let (_, fifth) = tally.send(client.request(Method::GET, "/v1/files?limit=5")).await?;
    Some(first && second && third && fourth && fifth)
}

impl Tally {
    fn new() -> Self {
        Self {
            until: Instant::now() + DURATION,
            succeeded: Latencies::default(),
            refused: Latencies::default(),
            in_time: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            quiet_begun: AtomicU64::new(0),
            quiet_done: AtomicU64::new(0),
        }
    }

    /// Sends a request. Returns the response and whether it arrived in time, if it succeeded.
    async fn send(&self, request: RequestBuilder) -> Option<(Value, bool)> {
        let began = Instant::now();
        let answer = async {
            let answer = request.send().await?;
            reqwest::Result::Ok((answer.status(), answer.bytes().await?))
        };
        let (status, body) = answer.await.inspect_err(|_| self.fail()).ok()?;
        let took = began.elapsed();
        match status {
            StatusCode::OK => {
                let is_in_time = took <= IN_TIME;
                self.succeeded.push_shared(took);
                let is_good = is_in_time && Instant::now() <= self.until;
                self.in_time.fetch_add(u64::from(is_good), Ordering::Relaxed);
                Some((serde_json::from_slice(&body).unwrap(), is_in_time))
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                self.refused.push_shared(took);
                None
            }
            other => panic!("{other}: {}", String::from_utf8_lossy(&body)),
        }
    }

    fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn figures(&self, begun: u64) -> [String; 8] {
        let seconds = DURATION.as_secs();
        let milliseconds = |of: &Latencies, rank| {
            if of.is_empty() { String::new() } else { format!("{:.0}", of.permille(rank).as_secs_f64() * 1e3) }
        };
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        [
            (begun / seconds).to_string(),
            (count(&self.in_time) / seconds).to_string(),
            (self.refused.count() / seconds).to_string(),
            (count(&self.failed) / seconds).to_string(),
            milliseconds(&self.succeeded, 500),
            milliseconds(&self.succeeded, 990),
            milliseconds(&self.refused, 990),
            format!("{} %", 100 * count(&self.quiet_done) / count(&self.quiet_begun)),
        ]
    }
}
