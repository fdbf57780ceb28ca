//! Drives the real program through a case, and holds what it says against the model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::checker::{self, Told, Worlds};
use super::operations::{Answer, Ask, Case, Event, Minutes, Name, Paging, Project, Request, Round};
use super::reference::{FILE_BYTES, PART_BYTES, UPLOAD_BYTES, World};
use super::wire::{self, Wire};
use crate::support::{self, Client, StoreKind, TestApp, eventually, in_the_end, program};

const A_DAY: Minutes = 24 * 60;

/// Everything that can come to its time does.
const LONG: Minutes = 400 * A_DAY;

/// Longer than any request takes.
const HANG: Duration = Duration::from_mins(1);

/// Longer than anything takes that is done after its client has gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a program is set up for cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub store: StoreKind,
    /// Whether it sweeps by itself, all the time.
    pub sweeps: bool,
    /// Up to how many bytes a Part is in the ledger.
    pub ledger_part_bytes: usize,
}

/// A program that is given one case after another. Between cases it has nothing.
pub struct Driver {
    app: TestApp,
    /// One of each project.
    clients: [Client; 2],
    /// How often what was answered with what.
    tally: RefCell<Tally>,
}

/// Counts, by what they are of.
pub type Tally = BTreeMap<String, u64>;

/// A case under way.
struct Run<'a> {
    driver: &'a Driver,
    wire: Wire,
    worlds: Worlds,
    /// The names of all things, from the oldest to the youngest.
    ages: Vec<Name>,
    /// What was asked and told, for a person to read.
    story: String,
}

/// What is not as the model has it.
pub type Checked = Result<(), String>;

impl Driver {
    /// Starts a program; none where what the store needs is not installed.
    pub async fn start(setup: Setup) -> Option<Self> {
        let limits = [PART_BYTES, UPLOAD_BYTES, FILE_BYTES, setup.ledger_part_bytes].map(|it| it.to_string());
        let settings = [
            ("WINDLASS_MAX_PART_BYTES", limits[0].as_str()),
            ("WINDLASS_MAX_UPLOAD_BYTES", &limits[1]),
            ("WINDLASS_MAX_FILE_BYTES", &limits[2]),
            ("WINDLASS_LEDGER_PART_BYTES", &limits[3]),
            ("WINDLASS_SWEEP_INTERVAL", if setup.sweeps { "50ms" } else { "1h" }),
        ];
        let app = TestApp::start(setup.store, &settings).await?;
        let clients = [app.client.alone(), app.stranger().alone()];
        Some(Self { clients, app, tally: RefCell::default() })
    }

    /// How often what was answered with what, so far.
    pub fn tally(self) -> Tally {
        self.tally.into_inner()
    }

    /// Runs a case to its end, where everything has come to its time and nothing is left.
    pub async fn run(&self, case: &Case) -> Checked {
        let mut run = Run {
            driver: self,
            wire: Wire::new(case),
            worlds: Worlds::from([World::default()]),
            ages: Vec::new(),
            story: String::new(),
        };
        match run.whole(case).await {
            Ok(()) => Ok(()),
            Err(reason) => Err(format!("{}{reason}", run.story)),
        }
    }
}

impl Run<'_> {
    async fn whole(&mut self, case: &Case) -> Checked {
        for (number, round) in case.rounds.iter().enumerate() {
            writeln!(self.story, "round {number}").ok();
            self.round(round).await?;
            if round.event.is_some_and(|it| it.0.is_a_fault()) {
                self.look_around(case).await?;
            }
            if round.jump > 0 {
                self.jump(round.jump).await;
            }
        }
        writeln!(self.story, "in the end").ok();
        self.look_around(case).await?;
        self.look_at_each(case).await?;
        self.ledger_and_store_agree().await?;
        self.jump(LONG).await;
        self.look_at_each(case).await?;
        for (file, by) in self.told(case, makes_a_file) {
            self.ask(by, Ask::DeleteFile(file)).await?;
        }
        self.nothing_is_left().await
    }

    async fn round(&mut self, round: &Round) -> Checked {
        let requests = join_all(round.requests.iter().map(|it| self.send(it, head_start(round.event))));
        let (answers, ()) = join(requests, happen(&self.driver.app, round.event)).await;
        match round.event {
            Some((Event::Kill, _)) => self.start_again().await,
            Some((Event::Cut, _)) => self.calm_down().await,
            Some((Event::Sweep | Event::SweepKilled, _)) | None => {}
        }
        let told = round.requests.iter().cloned().zip(answers);
        let told: Vec<_> =
            told.map(|(request, answer)| Told { answer: self.wire.read(&request, answer), request }).collect();
        self.learn_ages().await?;
        self.check(&told, round.event.is_some_and(|it| it.0.is_a_fault()))
    }

    async fn send(&self, request: &Request, after: Duration) -> reqwest::Result<support::Answer> {
        tokio::time::sleep(after).await;
        let client = &self.driver.clients[usize::from(request.by == Project::Other)];
        support::Answer::whole(self.wire.request(client, request).timeout(HANG).send().await?).await
    }

    /// One request by itself, where nothing goes wrong.
    async fn ask(&mut self, by: Project, ask: Ask) -> Checked {
        let request = Request { name: Name::NOTHING, by, ask };
        let answer = self.send(&request, Duration::ZERO).await;
        let answer = self.wire.read(&request, answer);
        self.check(&[Told { request, answer }], false)
    }

    /// Narrows the worlds down to those in which the clients could have been told this.
    fn check(&mut self, told: &[Told], fault: bool) -> Checked {
        for it in told {
            writeln!(self.story, "    {}: {}", it.request, it.answer).ok();
            *self.driver.tally.borrow_mut().entry(it.kind()).or_default() += 1;
        }
        let silent =
            told.iter().find(|it| matches!(it.answer, Answer::Nothing(_)) && !checker::may_be_silent(&it.request));
        if let Some(it) = silent.filter(|_| !fault) {
            return Err(format!("no answer to {}, and nothing went wrong", it.request.name));
        }
        let worlds = checker::after(&self.worlds, told, &self.ages);
        if worlds.is_empty() {
            return Err(checker::explain(&self.worlds, told, &self.ages));
        }
        self.worlds = worlds;
        Ok(())
    }

    /// Lets the database tell which of the things made at once is older. Between rounds, the model knows.
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
                return Err(format!("something new is older than what was there: {names:?}"));
            }
            self.ages.extend(&names[known..]);
        }
        Ok(())
    }

    /// Waits until nothing is done any more for the program that died, and starts another one.
    async fn start_again(&self) {
        let about = "select count(*) from pg_stat_activity where application_name = 'windlass' and datname = current_database()";
        eventually("the dead program's sessions end", async || {
            sqlx::query_scalar::<_, i64>(about).fetch_one(&self.driver.app.pool).await.unwrap() == 0
        })
        .await;
        self.driver.app.restart_with(&[]);
    }

    /// Waits until the program has noticed which of its connections are gone.
    async fn calm_down(&self) {
        let mut in_a_row = 0;
        eventually("the program answers again", async || {
            let answer = self.driver.app.client.get("/v1/files?limit=1").await;
            in_a_row = if answer.status.is_success() { in_a_row + 1 } else { 0 };
            in_a_row > 12
        })
        .await;
    }

    async fn jump(&mut self, minutes: Minutes) {
        writeln!(self.story, "  {minutes} min pass").ok();
        self.worlds = std::mem::take(&mut self.worlds).into_iter().map(|it| it.later(minutes)).collect();
        self.driver.app.let_time_pass(&format!("{minutes} minutes")).await;
        if minutes >= A_DAY {
            self.driver.app.sweep();
        }
    }

    /// Every list there is.
    async fn look_around(&mut self, case: &Case) -> Checked {
        for by in [Project::Own, Project::Other] {
            self.ask(by, Ask::ListUploads(Paging::ALL)).await?;
            self.ask(by, Ask::ListFiles(None, Paging::ALL)).await?;
        }
        for (upload, by) in self.told(case, |ask| matches!(ask, Ask::CreateUpload(_))) {
            self.ask(by, Ask::ListParts(upload, Paging::ALL)).await?;
        }
        Ok(())
    }

    /// Everything there is, by its id.
    async fn look_at_each(&mut self, case: &Case) -> Checked {
        for (name, by) in self.told(case, |ask| matches!(ask, Ask::CreateUpload(_))) {
            self.ask(by, Ask::GetUpload(name)).await?;
        }
        for (name, by) in self.told(case, makes_a_file) {
            self.ask(by, Ask::Download(name, None)).await?;
        }
        Ok(())
    }

    /// The things of some kind whose ids are known.
    fn told(&self, case: &Case, kind: impl Fn(&Ask) -> bool) -> Vec<(Name, Project)> {
        let made = case.requests().filter(|it| kind(&it.ask) && self.wire.knows(it.name));
        made.map(|it| (it.name, it.by)).collect()
    }

    /// Every stored row has its object, every object a row.
    async fn ledger_and_store_agree(&self) -> Checked {
        let app = &self.driver.app;
        let agree = async || {
            let (stored, rows) =
                (app.objects_in_the_ledger("state = 'stored'").await, app.objects_in_the_ledger("true").await);
            let objects = app.store.list().await;
            stored.iter().all(|it| objects.contains(it))
                && objects.iter().all(|it| rows.iter().any(|row| row.0 == it.0))
        };
        // Somebody who went away may still be on the way in.
        if in_the_end(agree, PATIENCE).await { Ok(()) } else { Err("the store and the ledger do not agree".to_owned()) }
    }

    async fn nothing_is_left(&self) -> Checked {
        let app = &self.driver.app;
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

/// A sweep is a process, which takes a while to begin.
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
