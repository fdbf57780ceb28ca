//! A standby of a Postgres server, which can be promoted.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::unistd::geteuid;
use sqlx::PgPool;
use tempfile::TempDir;
use url::Url;

use super::eventually;

/// A server that replicates another one.
pub struct Standby {
    bin: PathBuf,
    child: Child,
    folder: TempDir,
    pub address: SocketAddr,
    /// The standby's URL, with the primary's role.
    pub url: String,
}

/// A Postgres command that does not run as root and ends with the thread that started it.
fn command(program: PathBuf) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if geteuid().is_root() {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    command.arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Standby {
    /// Starts a standby of the server at this address.
    pub async fn of(primary: &Url, pool: &PgPool) -> Self {
        let bin: String =
            sqlx::query_scalar("select setting from pg_config where name = 'BINDIR'").fetch_one(pool).await.unwrap();
        let bin = PathBuf::from(bin);
        let folder = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            nix::unistd::chown(folder.path(), Some(65534.into()), None).unwrap();
        }
        let data = folder.path().join("data");
        let mut copy = command(bin.join("pg_basebackup"));
        copy.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "--dbname",
            primary.as_str(),
            "--pgdata",
        ]);
        let copied = tokio::task::block_in_place(|| copy.arg(&data).output()).unwrap();
        assert!(copied.status.success(), "{copied:?}");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = command(bin.join("postgres"));
        server.arg("-D").arg(&data).args(["-c", &format!("port={port}"), "-c", "listen_addresses=127.0.0.1"]);
        server.args(["-c", "unix_socket_directories=", "-c", "shared_buffers=32MB", "-c", "max_connections=100"]);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = server.stderr(log).spawn().unwrap();
        let mut url = primary.clone();
        url.set_port(Some(port)).unwrap();
        let standby = Self { bin, child, folder, address: SocketAddr::from(([127, 0, 0, 1], port)), url: url.into() };
        eventually("the standby is streaming", async || {
            let following = "select count(*) from pg_stat_replication where state = 'streaming'";
            sqlx::query_scalar::<_, i64>(following).fetch_one(pool).await.unwrap() > 0
        })
        .await;
        standby
    }

    /// Waits until the standby has replayed all of the primary's changes, then promotes it.
    pub async fn promote(&self, primary: &PgPool) {
        eventually("the standby has replayed everything", async || {
            let behind = "select count(*) from pg_stat_replication where replay_lsn < pg_current_wal_lsn()";
            sqlx::query_scalar::<_, i64>(behind).fetch_one(primary).await.unwrap() == 0
        })
        .await;
        self.promote_as_it_is();
    }

    /// Promotes the standby with what it has received so far.
    pub fn promote_as_it_is(&self) {
        let mut promote = command(self.bin.join("pg_ctl"));
        promote.args(["promote", "-D"]).arg(self.folder.path().join("data"));
        let promoted = tokio::task::block_in_place(|| promote.output()).unwrap();
        assert!(promoted.status.success(), "{promoted:?}");
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
