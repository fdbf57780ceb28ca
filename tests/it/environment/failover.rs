//! Failover: the database stops accepting writes, and a promoted standby takes over under the same name.

use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sqlx::Executor as _;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use url::Url;
use windlass::embedded::Postgres;

use crate::support::client::id;
use crate::support::cluster::{self, Database};
use crate::support::standby::Standby;
use crate::support::store::Store;
use crate::support::tcp_proxy::{Mode, TcpProxy};
use crate::support::{Answer, StoreKind, TestApp, eventually, program};

/// A Postgres for one test, and a Windlass that connects to it through a proxy, whose target can be changed.
pub(super) struct Cluster {
    pub primary: Url,
    pub proxy: TcpProxy,
    pub app: TestApp,
    _data_dir: TempDir,
}

/// Starts a server that runs until this process exits.
fn start_primary(data_dir: &TempDir) -> Url {
    let settings = cluster::server_settings(data_dir.path().join("data"), 50);
    let postgres = tokio::task::block_in_place(|| Postgres::start_or_attach(&settings)).unwrap();
    let url = postgres.url().parse().unwrap();
    mem::forget(postgres);
    url
}

pub(super) fn address(url: &Url) -> SocketAddr {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap()
}

impl Cluster {
    pub async fn start() -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let primary = start_primary(&data_dir);
        let proxy = TcpProxy::to(address(&primary)).await;
        let mut url = primary.clone();
        url.set_port(Some(proxy.address.port())).unwrap();
        let pool = PgPoolOptions::new().max_connections(4).connect(primary.as_str()).await.unwrap();
        let database = Database { url: url.into(), pool };
        let settings = [("WINDLASS_LEDGER_PATIENCE", "3s"), ("WINDLASS_LEDGER_PART_BYTES", "0")];
        let app = TestApp::on(Store::new(StoreKind::Directory).unwrap(), database, &settings);
        Self { primary, proxy, app, _data_dir: data_dir }
    }

    /// Promotes the standby and redirects new connections of the program to it.
    async fn fail_over_to(&mut self, standby: &Standby) {
        standby.promote(&self.app.pool).await;
        self.redirect_to(standby).await;
    }

    /// Redirects new connections of the program to a standby that has been promoted.
    pub async fn redirect_to(&mut self, standby: &Standby) {
        self.proxy.lead_to(standby.address);
        self.app.pool = PgPoolOptions::new().max_connections(4).connect(&standby.url).await.unwrap();
    }

    /// Waits until files can be created again; until then, clients must get a retryable error.
    pub async fn writes_again(&self) {
        let began = Instant::now();
        eventually("writes reach the new primary", async || {
            let made = self.app.client.create_file("user_data", "bytes").await;
            if made.status.as_u16() != 200 {
                is_unavailable(&made);
            }
            made.status.as_u16() == 200
        })
        .await;
        println!("writes reach the new primary after {} ms", began.elapsed().as_millis());
        eventually("it is ready", async || self.app.client.get("/readyz").await.status.as_u16() == 200).await;
    }
}

#[track_caller]
pub(super) fn is_unavailable(answer: &Answer) {
    answer.error(503, None);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_under_the_same_name_writes_reach_the_new_primary() {
    let mut cluster = Cluster::start().await;
    let standby = Standby::of(&cluster.primary, &cluster.app.pool).await;
    let client = cluster.app.client.clone();
    let file = client.file("before").await;
    let upload = client.upload(5).await;
    // Fill the connection pool with connections to the old primary, which stay open.
    futures_util::future::join_all((0..24).map(|_| client.file("bytes"))).await;
    for read_only in ["alter system set default_transaction_read_only = on", "select pg_reload_conf()"] {
        cluster.app.pool.execute(read_only).await.unwrap();
    }
    eventually("writes are refused", async || {
        let made = client.create_file("user_data", "bytes").await;
        if made.status.as_u16() != 200 {
            is_unavailable(&made);
        }
        made.status.as_u16() == 503
    })
    .await;
    eventually("it is not ready", async || client.get("/readyz").await.status == 503).await;
    let path = format!("/v1/files/{file}");
    let answers = tokio::join!(
        client.begin_upload(5),
        client.add_part(&upload, "bytes"),
        client.delete(&path),
        client.cancel(&upload),
    );
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        is_unavailable(&answer);
    }
    cluster.fail_over_to(&standby).await;
    cluster.writes_again().await;
    assert_eq!(client.download(&file).await, b"before");
    let part = client.part(&upload, "bytes").await;
    id(&client.complete(&upload, &[&part]).await.ok()["file"]);
    cluster.app.expire_everything().await;
    cluster.app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_from_an_unresponsive_primary_writes_reach_the_new_one() {
    let mut cluster = Cluster::start().await;
    let standby = Standby::of(&cluster.primary, &cluster.app.pool).await;
    let client = cluster.app.client.clone();
    let file = client.file("before").await;
    futures_util::future::join_all((0..24).map(|_| client.file("bytes"))).await;
    // Existing connections stay open but never receive anything again.
    cluster.proxy.set(Mode::Silent);
    cluster.proxy.hush();
    cluster.fail_over_to(&standby).await;
    cluster.proxy.set(Mode::Pass);
    cluster.writes_again().await;
    assert_eq!(client.download(&file).await, b"before");
    cluster.app.expire_everything().await;
    cluster.app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_starts_on_a_standby_waits_until_it_is_promoted() {
    let cluster = Cluster::start().await;
    let standby = Standby::of(&cluster.primary, &cluster.app.pool).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let settings = cluster.app.with(&[("DATABASE_URL", &standby.url)]);
    let file = std::fs::File::create(&log).unwrap();
    let mut creating = program::command(&settings).args(["keys", "create"]).stderr(file).spawn().unwrap();
    let text = || std::fs::read_to_string(&log).unwrap();
    eventually("the reason for waiting is logged", async || {
        let text = text();
        text.contains("waiting for the database") && text.contains("read-only")
    })
    .await;
    assert!(creating.try_wait().unwrap().is_none(), "{}", text());
    tokio::time::sleep(Duration::from_millis(300)).await;
    standby.promote(&cluster.app.pool).await;
    eventually("the command finishes", async || creating.try_wait().unwrap().is_some()).await;
    assert!(creating.wait().unwrap().success(), "{}", text());
}
