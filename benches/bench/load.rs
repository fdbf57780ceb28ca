//! A light, steady load: visits start at fixed intervals, whether or not earlier ones have finished.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::Client;
use crate::support::client::id;

/// The latencies of requests.
#[derive(Debug, Default)]
pub struct Latencies(Mutex<Vec<Duration>>);

impl Latencies {
    /// Whether there are no latencies.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    /// The latency within which `rank` of a thousand requests were answered.
    pub fn permille(&self, rank: usize) -> Duration {
        let mut all = self.0.lock().unwrap();
        all.sort_unstable();
        all[(all.len() * rank / 1000).min(all.len() - 1)]
    }

    /// Adds a latency.
    pub fn push(&mut self, took: Duration) {
        self.0.get_mut().unwrap().push(took);
    }

    /// Adds a latency, while others may add some.
    pub fn push_shared(&self, took: Duration) {
        self.0.lock().unwrap().push(took);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    /// Adds the latencies of another measurement.
    pub fn add(&mut self, other: Self) {
        self.0.get_mut().unwrap().extend(other.0.into_inner().unwrap());
    }

    /// Runs `work` and adds its duration.
    pub fn of_work<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.0.lock().unwrap().push(began.elapsed());
        done
    }

    async fn of<T>(&self, request: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = request.await;
        self.0.lock().unwrap().push(began.elapsed());
        answer
    }
}

/// Makes visits at a fixed rate while a future runs. A visit creates a File of one Part of 1 KiB, retrieves it,
/// downloads it and deletes it: six requests.
pub async fn visits_during<T>(meanwhile: impl Future<Output = T>, client: &Client, a_second: u32) -> (Latencies, T) {
    let latencies = Arc::new(Latencies::default());
    let mut due = tokio::time::interval(Duration::from_secs(1) / a_second);
    let mut in_flight = JoinSet::new();
    let mut meanwhile = pin!(meanwhile);
    let outcome = loop {
        tokio::select! {
            outcome = &mut meanwhile => break outcome,
            _ = due.tick() => {}
        }
        let (client, latencies) = (client.clone(), Arc::clone(&latencies));
        in_flight.spawn(async move { visit(&client, &latencies).await });
        while let Some(visited) = in_flight.try_join_next() {
            visited.unwrap();
        }
    };
    in_flight.join_all().await;
    (Arc::into_inner(latencies).unwrap(), outcome)
}

async fn visit(client: &Client, latencies: &Latencies) {
    let upload = latencies.of(client.upload(1024)).await;
    let part = latencies.of(client.part(&upload, [7; 1024])).await;
    let file = id(&latencies.of(client.complete(&upload, &[&part])).await.ok()["file"]);
    latencies.of(client.get(&format!("/v1/files/{file}"))).await.ok();
    assert_eq!(latencies.of(client.download(&file)).await, [7; 1024]);
    latencies.of(client.delete(&format!("/v1/files/{file}"))).await.ok();
}
