//! The server process: starts it, reports its state, and stops it.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Error, Settings, log::Log, pid_file::PidFile, poll, reserve::Disk};

/// The timeout for a shutdown, including its checkpoint.
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
/// The timeout on drop, where the exit status is not reported.
const DROPPED_WITHIN: Duration = Duration::from_secs(10);
/// Connections for other windlass commands and for operators, in addition to the service's pool.
const EXTRA_CONNECTIONS: u32 = 48;

const MIB: u64 = 1024 * 1024;
/// The dynamic shared memory that PostgreSQL needs, with a margin.
const SHARED_MEMORY: u64 = 16 * MIB;

/// A running server process.
pub struct Server {
    process: Child,
    cluster: PathBuf,
    /// Where this server's output begins in the log.
    from: u64,
}

impl Server {
    /// Starts a server on the cluster in the directory `cluster`, by the command `postgres`.
    pub fn start(
        cluster: &Path,
        log: &Log,
        port: u16,
        settings: &Settings,
        mut postgres: Command,
    ) -> Result<Self, Error> {
        let from = log.end()?;
        postgres.arg("-D").arg(cluster);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")]);
        // No Unix socket: the default directory of distributions is writable only by their own postgres user.
        postgres.args(["-c", "unix_socket_directories="]);
        postgres.args(["-c", &format!("max_connections={}", settings.connections.saturating_add(EXTRA_CONNECTIONS))]);
        for setting in of_memory(settings.memory).into_iter().chain(of_disk(Disk::of(cluster).ok())) {
            postgres.arg("-c").arg(setting);
        }
        if let Some(setting) = of_shared_memory() {
            postgres.arg("-c").arg(setting);
        }
        // The log is also a lock, so the server has to write to it directly.
        postgres.args(["-c", "log_destination=stderr", "-c", "logging_collector=off"]);
        log.hand_to(&mut postgres)?;
        let process = postgres.spawn().map_err(Error::system("run windlass itself"))?;
        Ok(Self { process, cluster: cluster.to_owned(), from })
    }

    /// Whether the server accepts connections.
    pub fn is_ready(&self) -> Result<bool, Error> {
        let pid = self.process.id().cast_signed();
        Ok(PidFile::read(&self.cluster)?.is_some_and(|it| it.ready && it.pid == pid))
    }

    /// The exit status, if the server has exited.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.process.try_wait().map_err(Error::system("wait for postgres"))
    }

    /// The error for an exit with `status`, quoting what the server logged.
    pub fn error(&self, log: &Log, status: ExitStatus) -> Error {
        log.ended("postgres", status, self.from)
    }

    /// Terminates the sessions and waits for the shutdown checkpoint.
    ///
    /// # Errors
    /// When the server exits with an error, or not within [`STOPPED_WITHIN`].
    pub fn stop(mut self, log: &Log) -> Result<(), Error> {
        let from = log.end()?;
        let pid = Pid::from_raw(self.process.id().cast_signed());
        // PostgreSQL's "fast shutdown".
        kill(pid, Signal::SIGINT).map_err(Error::system("stop postgres"))?;
        // A suspended process would not react to the first signal.
        kill(pid, Signal::SIGCONT).map_err(Error::system("stop postgres"))?;
        match poll(STOPPED_WITHIN, || self.ended())? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(log.ended("postgres", status, from)),
            None => Err(log.too_slow(STOPPED_WITHIN, from)),
        }
    }
}

/// Stops a server that is no longer supervised.
impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let _may_be_gone = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGINT);
            poll(DROPPED_WITHIN, || self.ended()).ok();
        }
    }
}

/// A port on the loopback interface that is currently free.
pub fn free_port() -> Result<u16, Error> {
    let bound = || -> io::Result<u16> { Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()) };
    bound().map_err(Error::system("find a free port"))
}

/// PostgreSQL's memory settings, given the memory that it shares with the service. `shared_buffers` is an eighth of it,
/// from 16 MiB to 1 GiB. Measured: with PostgreSQL's default of 128 MiB, deletions among ten million files take 50 %
/// longer; with 1 GiB, a container of 300 MiB is killed.
fn of_memory(bytes: u64) -> Vec<String> {
    let shared_buffers = (bytes / 8 / MIB).clamp(16, 1024);
    // Up to three autovacuum workers use `maintenance_work_mem` at the same time, and each sort or hash of a statement
    // uses `work_mem`.
    let maintenance = (bytes / 32 / MIB).clamp(4, 64);
    let work = (bytes / 256 / MIB).clamp(1, 4);
    vec![
        format!("shared_buffers={shared_buffers}MB"),
        format!("maintenance_work_mem={maintenance}MB"),
        format!("work_mem={work}MB"),
        // If the machine has huge pages but the container may not use them, touching one raises SIGBUS.
        "huge_pages=off".to_owned(),
    ]
}

/// Uses files in the cluster for dynamic shared memory if `/dev/shm` is too small, as in some containers.
pub fn of_shared_memory() -> Option<&'static str> {
    let available = Disk::of(Path::new("/dev/shm")).map_or(0, |it| it.available);
    (cfg!(target_os = "linux") && available < SHARED_MEMORY).then_some("dynamic_shared_memory_type=mmap")
}

/// The amount of WAL that PostgreSQL keeps between checkpoints: its default of 1 GB, or a sixteenth of a small disk.
fn of_disk(disk: Option<Disk>) -> Vec<String> {
    let most = disk.map_or(1024, |it| (it.bytes / 16 / MIB).clamp(64, 1024));
    vec![format!("max_wal_size={most}MB"), format!("min_wal_size={}MB", most.min(80))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_settings_scale_with_the_memory_limit() {
        let shared = |mib: u64| of_memory(mib * MIB)[0].clone();
        assert_eq!(shared(300), "shared_buffers=37MB");
        assert_eq!(shared(16), "shared_buffers=16MB");
        assert_eq!(shared(4096), "shared_buffers=512MB");
        assert_eq!(of_memory(u64::MAX)[..3], ["shared_buffers=1024MB", "maintenance_work_mem=64MB", "work_mem=4MB"]);
    }

    #[test]
    fn the_wal_limit_scales_with_the_disk() {
        let of = |mib| of_disk(Some(Disk { bytes: mib * MIB, available: 0 }));
        assert_eq!(of(400), ["max_wal_size=64MB", "min_wal_size=64MB"]);
        assert_eq!(of(100 * 1024), ["max_wal_size=1024MB", "min_wal_size=80MB"]);
    }
}
