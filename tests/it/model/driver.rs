//! Runs a case against the real program, and checks its responses with the model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::checker::{self, Exchange, Worlds};
use super::operations::{Answer, Ask, Case, Event, Minutes, Name, Paging, Project, Request, Round};
use super::quotas::QUOTAS;
use super::reference::{FILE_BYTES, PART_BYTES, UPLOAD_BYTES, World};
use super::wire::{self, IdMap};
use crate::support::{self, Client, StoreKind, TestApp, eventually, in_the_end, program};

const A_DAY: Minutes = 24 * 60;

/// Long enough for everything to expire and to be deleted.
const LONG: Minutes = 400 * A_DAY;

/// Timeout of a request; longer than any takes.
const HANG: Duration = Duration::from_mins(1);

/// Longer than the service keeps working for clients that have disconnected.
const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration of the program under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub store: StoreKind,
    /// Whether the service sweeps continuously.
    pub sweeps: bool,
    /// Maximum size of the Parts that are stored in the ledger.
    pub ledger_part_bytes: usize,
}

/// A program that runs one case after another. Between cases its ledger and store are empty.
pub struct Driver {
    app: TestApp,
    /// A client of each project.
    clients: [Client; 2],
    /// The number of responses of each kind to each kind of request.
    tally: RefCell<Tally>,
}

/// Counts by kind.
pub type Tally = BTreeMap<String, u64>;

/// A running case.
struct Run<'a> {
    driver: &'a Driver,
    wire: IdMap,
    worlds: Worlds,
    /// The names of all objects, from the oldest to the newest.
    ages: Vec<Name>,
    /// A readable record of requests and responses.
    record: String,
}

/// `Err` describes a difference from the model.
pub type Checked = Result<(), String>;

impl Driver {
    /// Starts a program; `None` if the store's server is not installed.
    pub async fn start(setup: Setup) -> Option<Self> {
        let limits = [PART_BYTES, UPLOAD_BYTES, FILE_BYTES, setup.ledger_part_bytes].map(|it| it.to_string());
        let quotas = [QUOTAS.bytes, QUOTAS.uploads, QUOTAS.files].map(|it| it.to_string());
        let settings = [
            ("WINDLASS_MAX_PART_BYTES", limits[0].as_str()),
            ("WINDLASS_MAX_UPLOAD_BYTES", &limits[1]),
            ("WINDLASS_MAX_FILE_BYTES", &limits[2]),
            ("WINDLASS_LEDGER_PART_BYTES", &limits[3]),
            ("WINDLASS_PROJECT_MAX_BYTES", &quotas[0]),
            ("WINDLASS_PROJECT_MAX_PENDING_UPLOADS", &quotas[1]),
            ("WINDLASS_PROJECT_MAX_FILES", &quotas[2]),
            ("WINDLASS_SWEEP_INTERVAL", if setup.sweeps { "50ms" } else { "1h" }),
        ];
        let app = TestApp::start(setup.store, &settings).await?;
        let clients = [app.client.alone(), app.stranger().alone()];
        Some(Self { clients, app, tally: RefCell::default() })
    }

    /// The counts of all cases so far.
    pub fn tally(self) -> Tally {
        self.tally.into_inner()
    }

    /// Runs a case to its end, after which everything has expired and nothing is left.
    pub async fn run(&self, case: &Case) -> Checked {
        let mut run = Run {
            driver: self,
            wire: IdMap::new(case),
            worlds: Worlds::from([World::default()]),
            ages: Vec::new(),
            record: String::new(),
        };
        match run.rounds(case).await {
            Ok(()) => Ok(()),
            Err(reason) => Err(format!("{}{reason}", run.record)),
        }
    }
}

impl Run<'_> {
    async fn rounds(&mut self, case: &Case) -> Checked {
        for (number, round) in case.rounds.iter().enumerate() {
            writeln!(self.record, "round {number}").ok();
            self.round(round).await?;
            if round.event.is_some_and(|it| it.0.is_a_fault()) {
                self.check_lists(case).await?;
            }
            if round.jump > 0 {
                self.jump(round.jump).await;
            }
        }
        writeln!(self.record, "after the last round").ok();
        self.check_lists(case).await?;
        self.check_objects(case).await?;
        self.ledger_and_store_agree().await?;
        self.jump(LONG).await;
        self.check_objects(case).await?;
        for (file, by) in self.known_objects(case, makes_a_file) {
            self.ask(by, Ask::DeleteFile(file)).await?;
        }
        self.nothing_is_left().await
    }

    async fn round(&mut self, round: &Round) -> Checked {
        let requests = join_all(round.requests.iter().map(|it| self.send(it, head_start(round.event))));
        let (answers, ()) = join(requests, happen(&self.driver.app, round.event)).await;
        match round.event {
            Some((Event::Kill, _)) => self.start_again().await,
            Some((Event::Cut, _)) => self.await_reconnection().await,
            Some((Event::Sweep | Event::SweepKilled, _)) | None => {}
        }
        let exchanges = round.requests.iter().cloned().zip(answers);
        let exchanges: Vec<_> =
            exchanges.map(|(request, answer)| Exchange { answer: self.wire.read(&request, answer), request }).collect();
        self.learn_ages().await?;
        self.check(&exchanges, round.event.is_some_and(|it| it.0.is_a_fault()))
    }

    async fn send(&self, request: &Request, after: Duration) -> reqwest::Result<support::Answer> {
        tokio::time::sleep(after).await;
        let client = &self.driver.clients[usize::from(request.by == Project::Other)];
        support::Answer::whole(self.wire.request(client, request).timeout(HANG).send().await?).await
    }

    /// Sends one request on its own, without faults.
    async fn ask(&mut self, by: Project, ask: Ask) -> Checked {
        let request = Request { name: Name::NOTHING, by, ask };
        let answer = self.send(&request, Duration::ZERO).await;
        let answer = self.wire.read(&request, answer);
        self.check(&[Exchange { request, answer }], false)
    }

    /// Keeps only the states in which these responses are possible.
    fn check(&mut self, exchanges: &[Exchange], fault: bool) -> Checked {
        for it in exchanges {
            writeln!(self.record, "    {}: {}", it.request, it.answer).ok();
            *self.driver.tally.borrow_mut().entry(it.kind()).or_default() += 1;
        }
        let silent =
            exchanges.iter().find(|it| matches!(it.answer, Answer::Nothing(_)) && !checker::may_be_silent(&it.request));
        if let Some(it) = silent.filter(|_| !fault) {
            return Err(format!("no response to {} although no fault was injected", it.request.name));
        }
        let worlds = checker::after(&self.worlds, exchanges, &self.ages);
        if worlds.is_empty() {
            return Err(checker::explain(&self.worlds, exchanges, &self.ages));
        }
        self.worlds = worlds;
        Ok(())
    }

    /// Reads from the database in which order the objects of a round were created, which the model cannot predict.
    async fn learn_ages(&mut self) -> Checked {
        let pool = &self.driver.app.pool;
        let uploads: Vec<String> =
            sqlx::query_scalar("select filename from upload where filename is not null order by created_at, id")
                .fetch_all(pool)
                .await
                .unwrap();
        let parts: Vec<i64> =
            sqlx::query_scalar("select crc64nvme from part where crc64nvme is not null order by created_at, id")
                .fetch_all(pool)
                .await
                .unwrap();
        let uploads: Vec<_> = uploads.iter().filter_map(|it| wire::named(it)).collect();
        let parts: Vec<_> = parts.iter().filter_map(|it| self.wire.part_with(&format!("{it:016x}"))).collect();
        for names in [uploads, parts] {
            let known = names.iter().take_while(|it| self.ages.contains(it)).count();
            if names[known..].iter().any(|it| self.ages.contains(it)) {
                return Err(format!("a new object is older than one of an earlier round: {names:?}"));
            }
            self.ages.extend(&names[known..]);
        }
        Ok(())
    }

    /// Waits until Postgres has ended the sessions of the killed program, and starts a new one.
    async fn start_again(&self) {
        let about = "select count(*) from pg_stat_activity where application_name = 'windlass' and datname = current_database()";
        eventually("the killed program's sessions end", async || {
            sqlx::query_scalar::<_, i64>(about).fetch_one(&self.driver.app.pool).await.unwrap() == 0
        })
        .await;
        self.driver.app.restart_with(&[]);
    }

    /// Waits until the program has replaced its broken connections.
    async fn await_reconnection(&self) {
        let mut in_a_row = 0;
        eventually("the program serves again", async || {
            let answer = self.driver.app.client.get("/v1/files?limit=1").await;
            in_a_row = if answer.status.is_success() { in_a_row + 1 } else { 0 };
            in_a_row > 12
        })
        .await;
    }

    async fn jump(&mut self, minutes: Minutes) {
        writeln!(self.record, "  {minutes} min pass").ok();
        self.worlds = std::mem::take(&mut self.worlds).into_iter().map(|it| it.later(minutes)).collect();
        self.driver.app.let_time_pass(&format!("{minutes} minutes")).await;
        if minutes >= A_DAY {
            self.driver.app.sweep();
        }
    }

    /// Requests every list.
    async fn check_lists(&mut self, case: &Case) -> Checked {
        for by in [Project::Own, Project::Other] {
            self.ask(by, Ask::ListUploads(Paging::ALL)).await?;
            self.ask(by, Ask::ListFiles(None, Paging::ALL)).await?;
        }
        for (upload, by) in self.known_objects(case, |ask| matches!(ask, Ask::CreateUpload(_))) {
            self.ask(by, Ask::ListParts(upload, Paging::ALL)).await?;
        }
        Ok(())
    }

    /// Requests every object by its id.
    async fn check_objects(&mut self, case: &Case) -> Checked {
        for (name, by) in self.known_objects(case, |ask| matches!(ask, Ask::CreateUpload(_))) {
            self.ask(by, Ask::GetUpload(name)).await?;
        }
        for (name, by) in self.known_objects(case, makes_a_file) {
            self.ask(by, Ask::Download(name, None)).await?;
        }
        Ok(())
    }

    /// The objects of some kind whose ids are known.
    fn known_objects(&self, case: &Case, kind: impl Fn(&Ask) -> bool) -> Vec<(Name, Project)> {
        let made = case.requests().filter(|it| kind(&it.ask) && self.wire.knows(it.name));
        made.map(|it| (it.name, it.by)).collect()
    }

    /// Checks that every stored row has its object and every object a row.
    async fn ledger_and_store_agree(&self) -> Checked {
        let app = &self.driver.app;
        self.usage_is_counted_exactly().await?;
        let agree = async || {
            let (stored, rows) =
                (app.objects_in_the_ledger("state = 'stored'").await, app.objects_in_the_ledger("true").await);
            let objects = app.store.list().await;
            stored.iter().all(|it| objects.contains(it))
                && objects.iter().all(|it| rows.iter().any(|row| row.0 == it.0))
        };
        // The body of a disconnected client may still be being processed.
        if in_the_end(agree, PATIENCE).await { Ok(()) } else { Err("the store and the ledger do not agree".to_owned()) }
    }

    /// Checks that a recount of uploads and files finds what was counted.
    async fn usage_is_counted_exactly(&self) -> Checked {
        let differences: Vec<String> = sqlx::query_scalar("select it::text from usage_difference it")
            .fetch_all(&self.driver.app.pool)
            .await
            .unwrap();
        if differences.is_empty() { Ok(()) } else { Err(format!("a recount finds differences: {differences:?}")) }
    }

    async fn nothing_is_left(&self) -> Checked {
        let app = &self.driver.app;
        self.usage_is_counted_exactly().await?;
        let rows = "select (select count(*) from upload) + (select count(*) from file) + (select count(*) from part)";
        let nothing = async || {
            let rows: i64 = sqlx::query_scalar(rows).fetch_one(&app.pool).await.unwrap();
            if rows == 0 && app.store.list().await.is_empty() && app.store.half_done().await == 0 {
                return true;
            }
            app.let_time_pass(&format!("{LONG} minutes")).await;
            app.sweep();
            false
        };
        if in_the_end(nothing, PATIENCE).await {
            return Ok(());
        }
        Err(format!(
            "left in the store: {:?}, in the ledger: {:?}",
            app.store.list().await,
            app.objects_in_the_ledger("true").await
        ))
    }
}

fn makes_a_file(ask: &Ask) -> bool {
    matches!(ask, Ask::CreateUpload(_) | Ask::CreateFile(_))
}

/// Delay of the requests: a sweep is a process, which takes a while to start.
fn head_start(event: Option<(Event, u64)>) -> Duration {
    match event {
        Some((Event::Sweep | Event::SweepKilled, after)) => Duration::from_millis(6 * after),
        _ => Duration::ZERO,
    }
}

async fn happen(app: &TestApp, event: Option<(Event, u64)>) {
    let Some((event, after)) = event else { return };
    match event {
        Event::Kill => {
            tokio::time::sleep(Duration::from_millis(after)).await;
            app.program(program::Program::kill);
        }
        Event::Cut => {
            tokio::time::sleep(Duration::from_millis(after)).await;
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity
                       where application_name = 'windlass' and datname = current_database()";
            sqlx::query(cut).execute(&app.pool).await.unwrap();
        }
        Event::Sweep | Event::SweepKilled => {
            let mut sweep = program::command(&app.settings)
                .arg("sweep")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if event == Event::SweepKilled {
                tokio::time::sleep(Duration::from_millis(6 * after)).await;
                sweep.kill().ok();
            }
            eventually("the sweep ends", async || sweep.try_wait().unwrap().is_some()).await;
        }
    }
}
