//! Data is synced before it is acknowledged: the order of the real program's system calls, recorded by strace.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{OBJECTS_ONLY, StoreKind, TestApp, eventually, tools};

/// The recorded system calls, in order.
struct Trace(Vec<String>);

impl Trace {
    fn read(app: &TestApp) -> Self {
        let text = fs::read_to_string(app.data_dir.path().join("trace")).unwrap();
        Self(text.lines().map(str::to_owned).collect())
    }

    /// The index of the first line, from `after` on, that contains all of these words.
    ///
    /// # Panics
    /// If there is none.
    fn find(&self, after: usize, words: &[&str]) -> usize {
        let found = self.0.iter().enumerate().skip(after).find(|(_, line)| words.iter().all(|it| line.contains(it)));
        match found {
            Some((at, _)) => at,
            None => panic!("there is no {words:?} after line {after}:\n{}", self.0.join("\n")),
        }
    }

    /// The index of the line at which the call that begins at a line has ended: other threads' calls may be in between.
    fn end(&self, at: usize) -> usize {
        if !self.0[at].contains("<unfinished ...>") {
            return at;
        }
        let thread = self.0[at].split(' ').next().unwrap();
        self.find(at + 1, &[thread, "resumed>"])
    }

    fn holds(&self, words: &[&str]) -> bool {
        self.0.iter().any(|line| words.iter().all(|it| line.contains(it)))
    }
}

/// A strace that is attached to the program; detached on drop.
struct Strace(Child);

impl Strace {
    /// Attaches strace; `None` if it is not installed.
    async fn attach(app: &TestApp, options: &[&str]) -> Option<Self> {
        let strace = tools::program("strace")?;
        let messages = app.data_dir.path().join("strace");
        let child = Command::new(strace)
            .args(["-f", "-yy", "-s", "400", "-o"])
            .arg(app.data_dir.path().join("trace"))
            .args(options)
            .args(["-p", &app.program(|it| it.pid()).to_string()])
            .stderr(fs::File::create(&messages).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("strace is attached", async || fs::read_to_string(&messages).unwrap().contains("attached")).await;
        Some(Self(child))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT).ok();
        self.0.wait().ok();
    }
}

const CALLS: &str = "trace=openat,write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync,unlink,unlinkat,rename";

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_written_then_synced_then_its_directory_then_committed_then_acknowledged() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let upload = app.client.upload(18).await;
    let Some(strace) = Strace::attach(&app, &["-e", CALLS]).await else { return };
    let part = app.client.part(&upload, "the bytes that go in").await;
    drop(strace);

    let trace = Trace::read(&app);
    let (object, directory) = (format!("/{part}>"), format!("/parts/{}>", &part[part.len() - 2..]));
    let row = trace.find(0, &["insert into part"]);
    let created = trace.find(row, &["openat(", "O_CREAT|O_EXCL", &part]);
    let written = trace.find(created, &["write(", &object, "the bytes that go in"]);
    let synced = trace.find(written, &["fsync(", &object]);
    let directory_synced = trace.find(trace.end(synced), &["fsync(", &directory]);
    let committed = trace.find(trace.end(directory_synced), &["update part set state = 'stored'"]);
    let acknowledged = trace.find(committed, &["HTTP/1.1 200 OK"]);
    // Neither happened earlier.
    assert_eq!(trace.find(0, &["update part set state = 'stored'"]), committed);
    assert_eq!(trace.find(0, &["HTTP/1.1 200 OK"]), acknowledged);
    assert!(!trace.holds(&["rename"]), "an object was renamed: the ledger's row makes staging unnecessary");
    app.client.cancel(&upload).await.ok();
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_in_the_ledger_is_one_statement_then_acknowledged() {
    let app = TestApp::start(StoreKind::Directory, &[]).await.unwrap();
    let upload = app.client.upload(18).await;
    let Some(strace) = Strace::attach(&app, &["-e", CALLS]).await else { return };
    app.client.part(&upload, "the bytes that go in").await;
    drop(strace);

    let trace = Trace::read(&app);
    let written = trace.find(0, &["insert into part", "content"]);
    let acknowledged = trace.find(written, &["HTTP/1.1 200 OK"]);
    assert_eq!(trace.find(0, &["HTTP/1.1 200 OK"]), acknowledged);
    assert!(!trace.holds(&["O_CREAT"]) && !trace.holds(&["update part"]), "there was an object or another statement");
    app.client.cancel(&upload).await.ok();
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_removed_then_its_directory_synced_then_its_row_deleted() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let Some(strace) = tools::program("strace") else { return };
    let file = app.client.file("soon gone").await;
    let (object, _) = app.store.list().await.remove(0);
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    app.let_time_pass("2 hours").await;
    let (strace, trace) = (strace.to_str().unwrap(), app.data_dir.path().join("trace"));
    let under = [strace, "-f", "-yy", "-s", "400", "-e", CALLS, "-o", trace.to_str().unwrap()];
    let swept = app.run_under(&under, &["sweep"]);
    assert!(swept.status.success(), "{swept:?}");

    let trace = Trace::read(&app);
    let claimed = trace.find(0, &["update part set attempts = attempts + 1"]);
    let removed = trace.find(claimed, &["unlink", &object]);
    let synced = trace.find(trace.end(removed), &["fsync(", &format!("{}>", &object[.."parts/00".len()])]);
    let forgotten = trace.find(trace.end(synced), &["delete from part where id = any($1)"]);
    assert_eq!(trace.find(0, &["delete from part where id = any($1)"]), forgotten);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_cannot_be_synced_is_not_acknowledged() {
    let app = TestApp::start(StoreKind::Directory, &[OBJECTS_ONLY]).await.unwrap();
    let upload = app.client.upload(4).await;
    let inject = ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1"];
    let Some(strace) = Strace::attach(&app, &inject).await else { return };
    let refused = app.client.add_part(&upload, "lost").await;
    drop(strace);
    refused.error(503, None);
    assert!(refused.header("retry-after").is_some());
    assert!(app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok()["data"].as_array().unwrap().is_empty());
    let part = app.client.part(&upload, "kept").await;
    app.client.complete(&upload, &[&part]).await.ok();
    tokio::time::timeout(Duration::from_mins(1), app.nothing_is_lost_and_nothing_is_left()).await.unwrap();
}
