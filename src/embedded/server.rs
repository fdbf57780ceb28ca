//! The server process: starts it, waits until it is ready, and stops it.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};

use super::{Error, cluster::Cluster, log::Log, poll};

const READY_WITHIN: Duration = Duration::from_mins(1);
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
/// How many ports to try, in case somebody takes the free one we found before the server does.
const PORTS_TO_TRY: u32 = 5;
/// Connections for commands of the program beside the service, and for whoever looks on.
const CONNECTIONS_BESIDE: u32 = 48;
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";

/// A server that is ours to stop.
pub struct Server {
    process: Child,
    port: u16,
    log: Log,
    /// Keeps other windlass processes from starting one.
    _lock: File,
}

impl Server {
    /// Starts what `postgres` makes, and waits until it accepts connections.
    pub fn start(
        cluster: &Cluster,
        lock: File,
        log: Log,
        connections: u32,
        postgres: impl Fn() -> Command,
    ) -> Result<Self, Error> {
        let mut tries_left = PORTS_TO_TRY;
        loop {
            tries_left -= 1;
            match run(cluster, &log, connections, postgres()) {
                Err(Error::Ended { tail, .. }) if tail.contains(PORT_TAKEN) && tries_left > 0 => {}
                Err(error) => return Err(error),
                Ok((process, port)) => {
                    return Ok(Self { process, port, log, _lock: lock });
                }
            }
        }
    }

    /// Where it listens, on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the sessions and waits for the last checkpoint.
    pub fn stop(mut self) -> Result<(), Error> {
        let from = self.log.end()?;
        // Postgres's "fast shutdown".
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGINT).map_err(Error::system("stop postgres"))?;
        match poll(STOPPED_WITHIN, || status(&mut self.process))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.log.ended("postgres", status, from)),
            None => Err(self.log.too_slow("stopped", STOPPED_WITHIN, from)),
        }
    }
}

fn run(cluster: &Cluster, log: &Log, connections: u32, mut postgres: Command) -> Result<(Child, u16), Error> {
    let port = free_port().map_err(Error::system("find a free port"))?;
    let from = log.end()?;
    postgres.arg("-D").arg(cluster.dir());
    postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")]);
    // Distributions put the socket where only their own postgres user may write.
    postgres.args(["-c", "unix_socket_directories="]);
    postgres.args(["-c", &format!("max_connections={}", connections.saturating_add(CONNECTIONS_BESIDE))]);
    postgres.args(["-c", &format!("shared_buffers={}MB", shared_buffers_mib())]);
    // The log is a lock: the server has to write it itself.
    postgres.args(["-c", "log_destination=stderr", "-c", "logging_collector=off"]);
    log.hand_to(&mut postgres)?;
    let mut process = postgres.spawn().map_err(Error::system("run windlass itself"))?;

    let ready = poll(READY_WITHIN, || {
        if let Some(status) = status(&mut process)? {
            return Err(log.ended("postgres", status, from));
        }
        let pid = process.id().cast_signed();
        Ok(cluster.pid_file()?.filter(|it| it.ready && it.pid == pid))
    })?;
    // A server that is late is left to itself: it ends with us.
    ready.ok_or_else(|| log.too_slow("ready", READY_WITHIN, from))?;
    Ok((process, port))
}

/// An eighth of the machine's memory, from PostgreSQL's own default to 1 GiB: with less, a deletion takes
/// half as long again where there are ten million files.
fn shared_buffers_mib() -> i64 {
    let of_system = |it| sysconf(it).ok().flatten();
    let memory = of_system(SysconfVar::_PHYS_PAGES).zip(of_system(SysconfVar::PAGE_SIZE));
    memory.map_or(0, |(pages, bytes)| pages.saturating_mul(bytes) >> 23).clamp(128, 1024)
}

fn status(process: &mut Child) -> Result<Option<ExitStatus>, Error> {
    process.try_wait().map_err(Error::system("wait for postgres"))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
