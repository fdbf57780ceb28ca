//! The drill of docs/operations.md, Failover: the primary is killed under load, and its standby is promoted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::Executor as _;
use tokio::task::JoinHandle;

use super::failover::{Cluster, address, is_unavailable};
use crate::support::client::id;
use crate::support::standby::Standby;
use crate::support::tcp_proxy::{Mode, TcpProxy};
use crate::support::{Client, eventually};

/// A primary under load, and a standby that replicates from it through a proxy.
struct Drill {
    cluster: Cluster,
    standby: Standby,
    replication: TcpProxy,
    stop: Arc<AtomicBool>,
    load: Vec<JoinHandle<Vec<Acknowledged>>>,
}

/// A file whose creation was acknowledged.
struct Acknowledged {
    file: String,
    bytes: String,
}

/// Creates files one after another until it is stopped; those that are refused get a retryable error.
async fn create_files(client: Client, worker: usize, stop: Arc<AtomicBool>) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let bytes = format!("file {n} of worker {worker}");
        let made = client.create_file("user_data", bytes.as_str()).await;
        if made.status == 200 {
            acknowledged.push(Acknowledged { file: id(&made.json()), bytes });
        } else {
            is_unavailable(&made);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    acknowledged
}

impl Drill {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let replication = TcpProxy::to(address(&cluster.primary)).await;
        let mut source = cluster.primary.clone();
        source.set_port(Some(replication.address.port())).unwrap();
        let standby = Standby::of(&source, &cluster.app.pool).await;
        Self { cluster, standby, replication, stop: Arc::default(), load: Vec::new() }
    }

    fn client(&self) -> &Client {
        &self.cluster.app.client
    }

    /// Makes commits wait for the standby; other clients of the server choose not to by default.
    async fn replicate_synchronously(&self) {
        for statement in [
            "alter system set synchronous_commit = local",
            "alter system set synchronous_standby_names = '*'",
            "select pg_reload_conf()",
        ] {
            self.cluster.app.pool.execute(statement).await.unwrap();
        }
        self.standby_is("sync_state = 'sync'").await;
        // Far enough behind that a commit that does not wait for the standby would be lost.
        self.replication.set(Mode::Late(Duration::from_millis(50)));
    }

    async fn standby_is(&self, condition: &str) {
        let query = format!("select count(*) from pg_stat_replication where {condition}");
        eventually("the standby follows", async || {
            let query = sqlx::AssertSqlSafe(query.clone());
            sqlx::query_scalar::<_, i64>(query).fetch_one(&self.cluster.app.pool).await.unwrap() == 1
        })
        .await;
    }

    /// From now on, the standby receives nothing.
    fn disconnect_standby(&self) {
        self.replication.set(Mode::Refused);
        self.replication.cut();
    }

    fn begin_load(&mut self) {
        for worker in 0..4 {
            self.load.push(tokio::spawn(create_files(self.client().clone(), worker, Arc::clone(&self.stop))));
        }
    }

    async fn end_load(&mut self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for worker in self.load.drain(..) {
            acknowledged.extend(worker.await.unwrap());
        }
        acknowledged
    }

    /// Kills the primary, which the service cannot reach any more, although its supervisor restarts it. Clients then get
    /// a retryable error, and the service is not ready.
    async fn kill_primary(&self) {
        let file = sqlx::query_scalar::<_, String>("select pg_read_file('postmaster.pid')");
        let file = file.fetch_one(&self.cluster.app.pool).await.unwrap();
        let postmaster: i32 = file.lines().next().unwrap().parse().unwrap();
        kill(Pid::from_raw(postmaster), Signal::SIGKILL).unwrap();
        // What it has sent, and the standby has not received, is lost as well.
        self.disconnect_standby();
        self.cluster.proxy.set(Mode::Refused);
        self.cluster.proxy.cut();
        eventually("it is not ready", async || {
            let answer = self.client().get("/readyz").await;
            answer.status == 503 && answer.json()["causes"][0]["code"] == "database_unavailable"
        })
        .await;
        is_unavailable(&self.client().begin_upload(5).await);
    }

    /// Promotes the standby with what it has; the same process of the service then writes to it.
    async fn fail_over(&mut self) {
        tokio::task::block_in_place(|| self.standby.promote_as_it_is());
        self.cluster.redirect_to(&self.standby).await;
        self.cluster.proxy.set(Mode::Pass);
        self.cluster.writes_again().await;
    }

    /// Runs `windlass fsck`. Returns its exit status and its report.
    fn fsck(&self, more: &[&str]) -> (Option<i32>, String) {
        let checked = self.cluster.app.run(&[&["fsck", "--deep"], more].concat());
        (checked.status.code(), String::from_utf8(checked.stdout).unwrap())
    }

    /// Deletes the objects that have no row, and checks that everything agrees afterwards.
    async fn clean_up(&self) {
        self.cluster.app.expire_everything().await;
        let repair = ["--repair", "--older-than=0s", "--max-deleted-share=100"];
        let (status, report) = self.fsck(&repair);
        assert_eq!(status, Some(0), "{report}");
        self.cluster.app.nothing_is_lost_and_nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_asynchronous_standby_had_not_received_is_lost_and_its_objects_are_kept() {
    let mut drill = Drill::start().await;
    let client = drill.client().clone();
    let kept = client.file("kept").await;
    let deleted = client.file("deleted").await;
    let upload = client.upload(5).await;
    let part = client.part(&upload, "bytes").await;
    drill.standby_is("replay_lsn = pg_current_wal_lsn()").await;

    drill.disconnect_standby();
    drill.begin_load();
    let completed = id(&client.complete(&upload, &[&part]).await.ok()["file"]);
    client.delete(&format!("/v1/files/{deleted}")).await.ok();
    let lost_upload = client.upload(4).await;
    client.part(&lost_upload, "lost").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    drill.kill_primary().await;
    drill.fail_over().await;
    let acknowledged = drill.end_load().await;

    let mut lost = 0;
    for Acknowledged { file, bytes } in &acknowledged {
        let answer = client.get(&format!("/v1/files/{file}/content")).await;
        match answer.status.as_u16() {
            200 => assert_eq!(answer.body, *bytes),
            _ => lost += usize::from(answer.error(404, Some("id")).is_object()),
        }
    }
    println!("{} files were acknowledged, {lost} of them are lost", acknowledged.len());
    assert!(lost > 0);
    assert_eq!(client.download(&kept).await, b"kept");
    assert_eq!(client.download(&deleted).await, b"deleted", "its deletion is lost, its object was kept for the grace");
    client.get(&format!("/v1/files/{completed}")).await.error(404, Some("id"));
    client.add_part(&lost_upload, "lost").await.error(404, Some("upload_id"));

    // The lost files and the lost part: the sweeper does not delete what it does not know.
    drill.cluster.app.sweep();
    let (status, report) = drill.fsck(&[]);
    assert_eq!(status, Some(3), "{report}");
    let findings = report.lines().filter(|it| !it.starts_with("objects: "));
    assert!(findings.clone().all(|it| it.starts_with("unknown: ")), "{report}");
    assert!(findings.count() > lost, "{report}");
    // A completion that was lost can be repeated.
    let again = id(&client.complete(&upload, &[&part]).await.ok()["file"]);
    assert_eq!((client.download(&again).await, again), (b"bytes".to_vec(), completed));

    // The old primary comes back: it is locked out by a new link.
    assert!(drill.cluster.app.link(&[]).0);
    let old = [("DATABASE_URL", drill.cluster.primary.as_str())];
    let refused = drill.cluster.app.run_with(&old, &["sweep"]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && message.contains("belongs to another database"), "{message}");
    eventually("it is ready", async || client.get("/readyz").await.status == 200).await;
    drill.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_a_synchronous_standby() {
    let mut drill = Drill::start().await;
    drill.replicate_synchronously().await;
    drill.begin_load();
    tokio::time::sleep(Duration::from_secs(2)).await;
    drill.kill_primary().await;
    drill.fail_over().await;
    let acknowledged = drill.end_load().await;
    println!("{} files were acknowledged", acknowledged.len());
    assert!(!acknowledged.is_empty());
    for Acknowledged { file, bytes } in acknowledged {
        assert_eq!(drill.client().download(&file).await, bytes.as_bytes());
    }
    drill.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_while_a_synchronous_standby_is_unreachable() {
    let mut drill = Drill::start().await;
    drill.replicate_synchronously().await;
    let client = drill.client().clone();
    let kept = client.file("kept").await;
    let upload = client.upload(5).await;
    let part = client.part(&upload, "bytes").await;
    drill.disconnect_standby();
    // The transaction is complete on the primary, and waits: repeating it must not find that.
    for _ in 0..3 {
        let answer = client.complete(&upload, &[&part]).await;
        assert_eq!(answer.status, 503, "{answer:?}: {}", drill.cluster.app.log());
        is_unavailable(&answer);
    }
    is_unavailable(&client.create_file("user_data", "bytes").await);
    assert_eq!(client.download(&kept).await, b"kept");
    drill.kill_primary().await;
    drill.fail_over().await;
    let file = id(&client.complete(&upload, &[&part]).await.ok()["file"]);
    assert_eq!(client.download(&file).await, b"bytes");
    drill.clean_up().await;
}
