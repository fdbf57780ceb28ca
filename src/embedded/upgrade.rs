//! Upgrades a cluster to a newer major version of PostgreSQL: a dump of the old server is restored into a new cluster,
//! which replaces the old one once the row counts of all tables are equal.
//!
//! If the upgrade is killed, one of three states remains: the old cluster is in place (`postgres`); it is put aside
//! (`postgres.15`) without a replacement, which the next run of the upgrade undoes; or the new cluster is in place.

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
    exec_wrapper,
    log::Log,
    poll,
    run_as::RunAs,
    server::{Server, free_port},
};

/// The timeout for each server to accept connections.
const READY_WITHIN: Duration = Duration::from_mins(10);

/// Lists all user tables.
const TABLES: &str = "select format('%I.%I', schemaname, tablename) from pg_tables
    where schemaname not in ('pg_catalog', 'information_schema') order by 1";

/// The outcome of an upgrade.
#[derive(Debug)]
pub enum Upgrade {
    /// The cluster already has this major version.
    Unneeded(Version),
    /// The cluster was upgraded.
    Done {
        /// The major version that created the old cluster.
        from: u32,
        /// The version that created the new one.
        to: Version,
        /// The directory of the old cluster.
        kept: PathBuf,
    },
}

/// Upgrades the cluster of the data directory to the newest installed PostgreSQL, or to the one in `settings`. The
/// programs of the old version are in `old_dir`, or are searched for. Blocks. The kernel stops the servers if the
/// calling thread exits.
///
/// # Errors
/// When another process uses the data directory, a version is missing, or the data could not be copied. The old cluster
/// is then unchanged.
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
    let run_as = choose_identity(settings, &cluster, &[&new, &old])?;
    cluster.give_to(run_as)?;
    let moving = Moving { settings, cluster: &cluster, log: &log, run_as, old, new };
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

/// Undoes an upgrade that was killed between its two renames.
fn put_back(cluster: &Cluster) -> Result<(), Error> {
    match cluster.put_aside()? {
        Some((_, aside)) if cluster.major()?.is_none() => rename(&cluster.data_dir().join(aside), &cluster.dir()),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::file(from))
}

/// An upgrade in progress.
struct Moving<'a> {
    settings: &'a Settings,
    cluster: &'a Cluster,
    log: &'a Log,
    run_as: RunAs,
    old: Binaries,
    new: Binaries,
}

impl Moving<'_> {
    /// Creates `postgres.new`, copies the data to it, and verifies that the row counts are equal.
    fn copy(&self) -> Result<(), Error> {
        let initdb = self.new.initdb_command(&self.settings.guard, self.run_as);
        self.cluster.fill_new(self.run_as, initdb, self.log)?;
        let (old, old_url) = self.serve(&self.old, &self.cluster.dir())?;
        let (new, new_url) = self.serve(&self.new, &self.cluster.new_dir())?;
        tracing::info!(from = %self.old.version(), to = %self.new.version(), "copying the data");
        self.pipe(&old_url, &new_url)?;
        let (before, after) = (self.count_rows(&old_url)?, self.count_rows(&new_url)?);
        if before != after {
            return Err(Error::UnequalCopy(format!("{before:?} before, {after:?} after")));
        }
        // A new cluster has no planner statistics yet.
        self.query(&new_url, "analyze")?;
        old.stop(self.log)?;
        new.stop(self.log)
    }

    /// Starts a server and waits until it accepts connections. Returns it with its URL.
    fn serve(&self, binaries: &Binaries, dir: &Path) -> Result<(Server, String), Error> {
        let port = free_port()?;
        let command = exec_wrapper::command(&self.settings.guard, self.run_as, &binaries.postgres());
        let mut server = Server::start(dir, self.log, port, self.settings, command)?;
        let ready = poll(READY_WITHIN, || match server.ended()? {
            Some(status) => Err(server.error(self.log, status)),
            None => Ok(server.is_ready()?.then_some(())),
        })?;
        ready.ok_or_else(|| Error::NotReady(dir.to_owned()))?;
        Ok((server, self.cluster.url(port)?))
    }

    /// Copies the whole old database to the new one, in a single transaction.
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
        // Closes the read end of the pipe, so that pg_dump exits if psql no longer reads from it.
        drop(restore);
        // psql cannot distinguish a truncated dump from a complete one, so pg_dump must have succeeded, too.
        let dumped = dump.wait_with_output().map_err(Error::system("wait for pg_dump"))?;
        let restored = restored?;
        self.check("psql", restored.status, &restored.stderr)?;
        self.check("pg_dump", dumped.status, &dumped.stderr)
    }

    /// Returns a line with the name and the row count of each table.
    fn count_rows(&self, url: &str) -> Result<Vec<String>, Error> {
        let tables = self.query(url, TABLES)?;
        let counts = tables.lines().map(|table| format!("select '{table}', count(*) from {table}"));
        let counts: Vec<_> = counts.collect();
        Ok(self.query(url, &counts.join(" union all "))?.lines().map(str::to_owned).collect())
    }

    fn query(&self, url: &str, statement: &str) -> Result<String, Error> {
        let mut psql = self.client("psql", url);
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--command", statement]);
        let output = psql.output().map_err(Error::file(&self.new.program("psql")))?;
        self.check("psql", output.status, &output.stderr)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A client program of the new version that connects to `url`. The password is passed in the environment, since
    /// every user of the machine can read the arguments.
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
