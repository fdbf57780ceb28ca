//! Postgres is stopped or killed and restarted while clients keep sending requests.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::Executor as _;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use url::Url;
use windlass::embedded::{Postgres, Settings};

use crate::support::client::id;
use crate::support::cluster::{self, Database};
use crate::support::store::Store;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::{Answer, StoreKind, TestApp, eventually};

/// How Postgres is terminated.
#[derive(Debug, Clone, Copy)]
enum End {
    /// By a shutdown, which closes every session.
    Stopped,
    /// By SIGKILL, which loses everything that is not written to disk.
    Killed,
}

/// A Postgres for this test, behind a proxy.
struct Server {
    proxy: TcpProxy,
    /// Its URL through the proxy.
    url: Url,
    ends: mpsc::Sender<End>,
    starts: mpsc::Receiver<Url>,
    _data_dir: TempDir,
}

impl Server {
    async fn start() -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let settings = cluster::server_settings(data_dir.path().join("data"), 50);
        let (ends, orders) = mpsc::channel();
        let (started, starts) = mpsc::channel();
        thread::spawn(move || {
            loop {
                let postgres = run(&settings);
                if started.send(postgres.url().parse().unwrap()).is_err() {
                    return;
                }
                match orders.recv() {
                    Ok(End::Stopped) => postgres.stop().unwrap(),
                    Ok(End::Killed) => {
                        let about = fs::read_to_string(settings.data_dir.join("postgres/postmaster.pid")).unwrap();
                        kill(Pid::from_raw(about.lines().next().unwrap().parse().unwrap()), Signal::SIGKILL).unwrap();
                    }
                    Err(_) => return,
                }
            }
        });
        let mut url = starts.recv().unwrap();
        let proxy = TcpProxy::to(address(&url)).await;
        url.set_port(Some(proxy.address.port())).unwrap();
        Self { proxy, url, ends, starts, _data_dir: data_dir }
    }

    /// Ends the server and starts it again on the same data directory, at another port.
    fn restart(&self, end: End) {
        self.ends.send(end).unwrap();
        let url = tokio::task::block_in_place(|| self.starts.recv()).unwrap();
        self.proxy.lead_to(address(&url));
    }
}

/// Starts a server, once the last process of a killed predecessor has ended.
fn run(settings: &Settings) -> Postgres {
    let began = Instant::now();
    loop {
        match Postgres::start(settings, || false, || ()) {
            Ok(postgres) => return postgres.unwrap(),
            Err(error) => assert!(began.elapsed() < Duration::from_mins(1), "{error}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn address(url: &Url) -> SocketAddr {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap()
}

/// Repeats a request for as long as the response is a 503, which must have `Retry-After`. Returns the last response.
async fn retry_while_503(mut request: impl AsyncFnMut() -> Answer, refused: &mut u32) -> Answer {
    loop {
        let answer = request().await;
        if answer.status.as_u16() != 503 {
            return answer;
        }
        answer.error(503, None);
        assert!(answer.header("retry-after").is_some());
        *refused += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stores Parts of up to three bytes in the ledger: those of the forms fit, those of the Uploads are one byte larger.
const IN_LEDGER: (&str, &str) = ("WINDLASS_LEDGER_PART_BYTES", "3");

/// Creates files until `stop` is set. Returns the acknowledged files, and the number of 503s.
async fn make_files(app: &TestApp, name: u8, stop: &AtomicBool) -> (Vec<(String, Vec<u8>)>, u32) {
    let (mut files, mut refused) = (Vec::new(), 0);
    for round in 0_u8.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let bytes = vec![name, round, 7];
        let form =
            retry_while_503(async || app.client.create_file("user_data", bytes.clone()).await, &mut refused).await;
        files.push((id(&form.ok()), bytes.clone()));
        let bytes = vec![name, round, 7, 7];
        let upload = retry_while_503(async || app.client.begin_upload(4).await, &mut refused).await;
        let upload = id(&upload.ok());
        let part =
            id(&retry_while_503(async || app.client.add_part(&upload, bytes.clone()).await, &mut refused).await.ok());
        let completed = retry_while_503(async || app.client.complete(&upload, &[&part]).await, &mut refused).await;
        files.push((id(&completed.ok()["file"]), bytes));
    }
    (files, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_or_crash_of_postgres_loses_no_acknowledged_byte() {
    let server = Server::start().await;
    let pool = PgPoolOptions::new().connect_lazy(server.url.as_str()).unwrap();
    let database = Database { url: server.url.to_string(), pool };
    let app = TestApp::on(Store::new(StoreKind::Directory).unwrap(), database, &[IN_LEDGER]);
    // Whatever the server's setting, the service must not acknowledge what is not on disk.
    for hasty in ["alter system set synchronous_commit = off", "select pg_reload_conf()"] {
        app.pool.execute(hasty).await.unwrap();
    }
    app.kill_and_restart();
    let stop = AtomicBool::new(false);
    let (made, ()) =
        tokio::join!(futures_util::future::join_all((0..4).map(|name| make_files(&app, name, &stop))), async {
            for end in [End::Killed, End::Stopped, End::Killed] {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(200..500))).await;
                server.restart(end);
                let began = Instant::now();
                eventually("the service works again", async || {
                    app.client.get("/v1/files?limit=1").await.status.is_success()
                })
                .await;
                println!("{end:?}: serving again {} ms after Postgres", began.elapsed().as_millis());
            }
            stop.store(true, Ordering::Relaxed);
        });
    let refused: u32 = made.iter().map(|it| it.1).sum();
    let files: Vec<_> = made.into_iter().flat_map(|it| it.0).collect();
    println!("{} files acknowledged, {refused} requests refused", files.len());
    let in_ledger: i64 =
        sqlx::query_scalar("select count(*) from part where content is not null").fetch_one(&app.pool).await.unwrap();
    assert!(in_ledger > 0 && !app.store.list().await.is_empty());
    for (file, bytes) in files {
        assert_eq!(app.client.download(&file).await, bytes);
    }
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}
