//! Races between concurrent requests and sweepers: each has one winner, every loser gets an error of the contract, and
//! the final state agrees with all responses.
//!
//! A race is run `WINDLASS_ROUNDS` times, and prints how often it ended which way (`--show-output`).

mod deleting;
mod ending;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::audit::move_clock;
use crate::support::program::Program;
use crate::support::{Answer, Client, TestApp, tools};

/// Number of concurrent rounds, which contend for connection pools and sweepers.
const LANES: usize = 3;

/// What a race runs on: clients of one process, or of several.
struct Course<'a> {
    app: &'a TestApp,
    clients: &'a [Client],
}

/// Another process on the same ledger and store, which sweeps continuously.
struct Replica {
    program: Program,
    log: PathBuf,
    client: Client,
}

/// Runs a race with all requests to one process, and then with the requests spread over three processes that share
/// ledger and store. Two sweepers are always running. `round` returns how it ended, for the printed tally.
async fn race(app: &TestApp, round: impl AsyncFn(&Course<'_>) -> &'static str) {
    let replicas = [Replica::start(app, "second"), Replica::start(app, "third")];
    let clients = [&app.client, &replicas[0].client, &replicas[1].client].map(Client::clone);
    let rounds = if app.store.directory().is_some() { tools::rounds() } else { tools::rounds().div_ceil(4) };
    for clients in [&clients[..1], &clients[..]] {
        let course = Course { app, clients };
        let ends: Vec<_> = stream::iter(0..rounds).map(|_| round(&course)).buffer_unordered(LANES).collect().await;
        let mut tally = BTreeMap::<_, usize>::new();
        for end in ends {
            *tally.entry(end).or_default() += 1;
        }
        println!("{rounds} rounds, processes: {}, ends: {tally:?}", clients.len());
    }
    replicas.into_iter().for_each(Replica::stop);
    has_no_warnings(&app.log());
}

impl Course<'_> {
    /// A client of a random process.
    fn client(&self) -> &Client {
        &self.clients[fastrand::usize(..self.clients.len())]
    }

    /// A pending Upload of two bytes, and the Parts `a` and `b`.
    async fn upload_of_two_parts(&self) -> (String, [String; 2]) {
        let upload = self.client().upload(2).await;
        let parts = [self.client().part(&upload, "a").await, self.client().part(&upload, "b").await];
        (upload, parts)
    }

    async fn complete(&self, upload: &str, [first, second]: &[String; 2]) -> Answer {
        after_a_moment(self.client().complete(upload, &[first, second])).await
    }

    /// Completes with the MD5 of `ab`, for which the Parts are read back before any row is locked.
    async fn complete_with_md5(&self, upload: &str, part_ids: &[String; 2]) -> Answer {
        let body = json!({"part_ids": part_ids, "md5": "187ef4436122d1cc2f40dc2b92f0eba0"});
        after_a_moment(self.client().post(&format!("/v1/uploads/{upload}/complete"), &body)).await
    }

    async fn cancel(&self, upload: &str) -> Answer {
        after_a_moment(self.client().cancel(upload)).await
    }

    async fn delete(&self, file: &str) -> Answer {
        after_a_moment(self.client().delete(&format!("/v1/files/{file}"))).await
    }

    /// The status of an Upload after the race. Asserts that all processes and the ledger agree on it.
    async fn status(&self, upload: &str) -> String {
        let mut shown = Vec::new();
        for client in self.clients {
            shown.push(client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"].as_str().unwrap().to_owned());
        }
        let (status, files): (String, i64) = sqlx::query_as(
            "select case when status = 'pending' and expires_at <= now() then 'expired' else status end,
                    (select count(*) from file where file.id = upload.id)
             from upload where id = $1::uuid",
        )
        .bind(upload.replace("upload_", ""))
        .fetch_one(&self.app.pool)
        .await
        .unwrap();
        assert!(shown.iter().all(|it| *it == status), "{shown:?}, but in the ledger it is {status}");
        assert_eq!(files == 1, status == "completed", "{files} files of an upload that is {status}");
        status
    }

    /// Ends the grace period of an Upload's garbage, which no request reads or writes any more.
    async fn grace_is_over(&self, upload_or_file: &str) {
        let id = upload_or_file.replace("upload_", "").replace("file-", "");
        let statement = format!(
            "update part set not_before = not_before - interval '2 hours' where state = 'garbage' and upload_id = '{id}'"
        );
        move_clock(&self.app.pool, &statement).await;
    }
}

impl Replica {
    fn start(app: &TestApp, name: &str) -> Self {
        let mut settings = app.settings.clone();
        settings.push(("WINDLASS_SWEEP_INTERVAL".to_owned(), "10ms".to_owned()));
        let log = app.data_dir.path().join(format!("log-of-the-{name}"));
        let program = Program::serve(&settings, &log, false);
        let client = Client::new(&program.address, &app.client.key);
        Self { program, log, client }
    }

    fn stop(mut self) {
        self.program.signal(Signal::SIGTERM);
        assert!(self.program.wait().success());
        has_no_warnings(&fs::read_to_string(&self.log).unwrap());
    }
}

/// Asserts that no errors or warnings were logged, such as a deadlock, a violated constraint or a failed sweep. Losing
/// a race is none of these.
fn has_no_warnings(log: &str) {
    // The service warns about the tests' Postgres, which does not sync.
    let lines = log.lines().filter(|it| !it.contains("fsync = off"));
    let wrong: Vec<_> = lines.filter(|it| it.contains("ERROR") || it.contains("WARN")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Delays half of the requests by up to three milliseconds, so that concurrent ones are interleaved in every order.
async fn after_a_moment<T>(request: impl Future<Output = T>) -> T {
    let (began, moment) = (Instant::now(), Duration::from_micros(fastrand::u64(0..3000)));
    if fastrand::bool() {
        // A timer would round the delay up to whole milliseconds.
        while began.elapsed() < moment {
            tokio::task::yield_now().await;
        }
    }
    request.await
}

/// The number of successful responses.
fn winners(answers: &[Answer]) -> usize {
    answers.iter().filter(|it| it.status == 200).count()
}
