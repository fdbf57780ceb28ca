//! `PgBouncer` between the program and Postgres.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::unistd::geteuid;
use tempfile::TempDir;
use url::Url;

use super::{eventually, tools};

/// A running `PgBouncer`.
pub struct Pooler {
    child: Child,
    folder: TempDir,
    /// The database's URL through the pooler.
    pub url: String,
}

/// The versions that `./dev` installs: one without support for prepared statements, and one with it.
pub fn programs() -> Vec<PathBuf> {
    let all = [
        tools::tool("pgbouncer/run"),
        tools::dev_dir().join("pgbouncer-new/run").exists().then(|| tools::dev_dir().join("pgbouncer-new/run")),
    ];
    all.into_iter().flatten().collect()
}

impl Pooler {
    /// Starts a pooler in front of a database, in this mode and with additional lines of configuration.
    pub async fn start(program: &PathBuf, database_url: &str, mode: &str, more: &str) -> Self {
        let mut url: Url = database_url.parse().unwrap();
        let (host, server_port) = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        fs::write(&users, format!("\"{}\" \"{}\"\n", url.username(), url.password().unwrap_or_default())).unwrap();
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\nmax_client_conn = 200\n{more}\n",
            users.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if geteuid().is_root() {
            // PgBouncer refuses to run as root.
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
            for path in [folder.path(), &users, &config] {
                nix::unistd::chown(path, Some(65534.into()), None).unwrap();
            }
        }
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child =
            command.arg(program).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        url.set_port(Some(port)).unwrap();
        let mut pooler = Self { child, folder, url: url.into() };
        eventually("the pooler listens", async || {
            assert!(pooler.child.try_wait().unwrap().is_none(), "{}", pooler.log());
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        pooler
    }

    /// The pooler's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
