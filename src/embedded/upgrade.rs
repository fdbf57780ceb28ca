//! Moves a cluster to another major version of Postgres: the old server's dump goes into a new cluster, which takes the
//! old one's place once it holds the same rows.
//!
//! Killed at any moment, it leaves either the old cluster in its place (`postgres`), or put aside (`postgres.15`) with
//! none in its place, which is put back when the upgrade runs again, or the new one in its place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{
    Error, Settings, access,
    binaries::{Binaries, Version},
    choose_identity,
    cluster::Cluster,
    guard,
    identity::Identity,
    log::Log,
    poll,
    server::{Server, free_port},
};

/// How long both servers may take to accept connections.
const READY_WITHIN: Duration = Duration::from_mins(10);

/// The tables with rows of ours.
const TABLES: &str = "select format('%I.%I', schemaname, tablename) from pg_tables
    where schemaname not in ('pg_catalog', 'information_schema') order by 1";

/// What an upgrade did.
#[derive(Debug)]
pub enum Upgrade {
    /// The cluster is of that version already.
    Unneeded(Version),
    /// It was moved.
    Done {
        /// The major version that made the old cluster.
        from: u32,
        /// The version that made the new one.
        to: Version,
        /// Where the old cluster is kept.
        kept: PathBuf,
    },
}

/// Moves the cluster of the data directory to the newest Postgres, or to the one of the settings. The programs that made
/// it are in `old_dir`, or are searched for. It blocks, on the thread that the servers' lives are tied to.
///
/// # Errors
/// When another process uses the data directory, a version is missing, or the data could not be moved: the old cluster is
/// then as it was.
pub fn upgrade(settings: &Settings, old_dir: Option<&Path>) -> Result<Upgrade, Error> {
    let cluster = Cluster::open(&settings.data_dir)?;
    let Some(_lock) = cluster.try_lock()? else {
        return Err(Error::InUse(cluster.data_dir().to_owned()));
    };
    access::close(&cluster)?;
    let log = cluster.log_without_server()?;
    put_back(&cluster)?;
    let Some(made_by) = cluster.major()? else {
        return Err(Error::NothingToUpgrade(cluster.data_dir().to_owned()));
    };
    let new = Binaries::find(settings, None)?;
    if new.version().major() == made_by {
        return Ok(Upgrade::Unneeded(new.version()));
    }
    if new.version().major() < made_by {
        let (dir, found) = (new.dir().to_owned(), new.version());
        return Err(Error::Downgrade { cluster: cluster.data_dir().to_owned(), made_by, dir, found });
    }
    let old = Binaries::of_major(made_by, old_dir, settings).ok_or(Error::NoOldBinaries(made_by))?;
    let identity = choose_identity(settings, &cluster, &[&new, &old])?;
    cluster.give_to(identity)?;
    let moving = Moving { settings, cluster: &cluster, log: &log, identity, old, new };
    if let Err(error) = moving.copy() {
        cluster.remove_new().ok();
        return Err(error);
    }
    let kept = cluster.data_dir().join(format!("postgres.{made_by}"));
    rename(&cluster.dir(), &kept)?;
    rename(&cluster.new_dir(), &cluster.dir())?;
    cluster.sync()?;
    Ok(Upgrade::Done { from: made_by, to: moving.new.version(), kept })
}

/// Undoes what an upgrade did that was killed between its two renames.
fn put_back(cluster: &Cluster) -> Result<(), Error> {
    match cluster.put_aside()? {
        Some((_, aside)) if cluster.major()?.is_none() => rename(&cluster.data_dir().join(aside), &cluster.dir()),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::file(from))
}

struct Moving<'a> {
    settings: &'a Settings,
    cluster: &'a Cluster,
    log: &'a Log,
    identity: Identity,
    old: Binaries,
    new: Binaries,
}

impl Moving<'_> {
    /// Fills `postgres.new`, and shows that it holds what the old cluster does.
    fn copy(&self) -> Result<(), Error> {
        let initdb = self.new.initdb_command(&self.settings.guard, self.identity);
        self.cluster.fill_new(self.identity, initdb, self.log)?;
        let (old, old_url) = self.serve(&self.old, &self.cluster.dir())?;
        let (new, new_url) = self.serve(&self.new, &self.cluster.new_dir())?;
        tracing::info!(from = %self.old.version(), to = %self.new.version(), "copying the data");
        self.pipe(&old_url, &new_url)?;
        let (before, after) = (self.count_rows(&old_url)?, self.count_rows(&new_url)?);
        if before != after {
            return Err(Error::UnequalCopy(format!("{before:?}, and not {after:?}")));
        }
        // A new cluster knows nothing yet of what is in its tables.
        self.ask(&new_url, "analyze")?;
        old.stop(self.log)?;
        new.stop(self.log)
    }

    fn serve(&self, binaries: &Binaries, dir: &Path) -> Result<(Server, String), Error> {
        let port = free_port()?;
        let command = guard::command(&self.settings.guard, self.identity, &binaries.postgres());
        let mut server = Server::start(dir, self.log, port, self.settings, command)?;
        let ready = poll(READY_WITHIN, || match server.ended()? {
            Some(status) => Err(server.error(self.log, status)),
            None => Ok(server.is_ready()?.then_some(())),
        })?;
        ready.ok_or_else(|| Error::NotReady(dir.to_owned()))?;
        Ok((server, self.cluster.url(port)?))
    }

    /// All that is in the old database, in one transaction of the new one.
    fn pipe(&self, from: &str, to: &str) -> Result<(), Error> {
        let mut dump = self.client("pg_dump", from);
        dump.stdout(Stdio::piped());
        let mut dump = dump.spawn().map_err(Error::file(&self.new.program("pg_dump")))?;
        let mut restore = self.client("psql", to);
        restore.args([
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set",
            "ON_ERROR_STOP=1",
            "--output=/dev/null",
        ]);
        restore.stdin(dump.stdout.take().map_or_else(Stdio::null, Stdio::from));
        let restored = restore.output().map_err(Error::file(&self.new.program("psql")));
        // It holds the pipe open: without it, a dump that nobody reads any more ends.
        drop(restore);
        // A dump that is cut off looks whole to whoever reads it.
        let dumped = dump.wait_with_output().map_err(Error::system("wait for pg_dump"))?;
        let restored = restored?;
        self.check("psql", restored.status, &restored.stderr)?;
        self.check("pg_dump", dumped.status, &dumped.stderr)
    }

    fn count_rows(&self, url: &str) -> Result<Vec<String>, Error> {
        let tables = self.ask(url, TABLES)?;
        let counts = tables.lines().map(|table| format!("select '{table}', count(*) from {table}"));
        let counts: Vec<_> = counts.collect();
        Ok(self.ask(url, &counts.join(" union all "))?.lines().map(str::to_owned).collect())
    }

    fn ask(&self, url: &str, statement: &str) -> Result<String, Error> {
        let mut psql = self.client("psql", url);
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--command", statement]);
        let answer = psql.output().map_err(Error::file(&self.new.program("psql")))?;
        self.check("psql", answer.status, &answer.stderr)?;
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    /// A program of the new version that connects there. The password is not among its arguments, which anyone can read.
    fn client(&self, name: &str, url: &str) -> Command {
        let mut command = Command::new(self.new.program(name));
        let (before, host) = url.rsplit_once('@').unwrap_or_default();
        let (role, password) = before.rsplit_once(':').unwrap_or_default();
        command.env_clear().env("LC_ALL", "C").env("PGPASSWORD", password).current_dir("/");
        command.arg(format!("--dbname={role}@{host}")).stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn check(&self, name: &str, status: ExitStatus, stderr: &[u8]) -> Result<(), Error> {
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(stderr).trim_end().to_owned();
        Err(Error::Tool { program: self.new.program(name), status, said })
    }
}
