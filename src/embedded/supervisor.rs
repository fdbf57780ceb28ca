//! Keeps the server running: starts it, follows its log, and restarts it after a failure, for as long as that can help.

use std::{
    convert::Infallible,
    fs::File,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use super::{
    Error, POLL_EVERY, Settings, access,
    binaries::Binaries,
    cluster::Cluster,
    failures::{Cause, Failures},
    guard,
    identity::Identity,
    log::Log,
    reserve::Reserve,
    server::{Server, free_port},
};

/// How recent a cause found in the log must be to explain the server's exit: a crash takes a while.
const CAUSE_OF_AN_END: Duration = Duration::from_secs(15);

/// How often to poll a server that accepts connections.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often to log that the server is not ready yet: recovery after a crash can take long.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// How many ports to try, in case another process takes the free port before the server binds it.
const PORTS_TO_TRY: u32 = 5;

/// Everything needed to restart the server.
pub struct Supervisor {
    pub settings: Settings,
    pub cluster: Cluster,
    pub binaries: Binaries,
    pub identity: Identity,
    pub reserve: Reserve,
    /// Whether even the first start waits for disk space, instead of failing.
    pub waits_for_space: bool,
    /// The lock that keeps other windlass processes from starting a server.
    pub _lock: File,
}

/// An exit of the server that was not requested.
struct End {
    error: Error,
    cause: Cause,
    /// How long it had been accepting connections.
    served: Duration,
    /// Whether disk space was freed for the next start.
    has_space: bool,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        let cause = if matches!(error, Error::DiskFull { .. }) { Cause::NoSpace } else { Cause::Unexplained };
        Self { error, cause, served: Duration::ZERO, has_space: false }
    }
}

impl Supervisor {
    /// Runs the server, with restarts, until the sender of `orders` is dropped. Its port, which stays the same, is sent
    /// to `ready` once it first accepts connections. Blocks; the server's life is tied to the calling thread.
    ///
    /// # Errors
    /// When a restart would not help. Before the port has been sent, the server is restarted only if another process
    /// took its port, or to wait for disk space.
    pub fn run(mut self, log: Log, ready: &Sender<u16>, orders: &Receiver<Infallible>) -> Result<(), Error> {
        let mut failures = Failures::default();
        let (mut log, mut port, mut ports, mut told) = (Some(log), free_port()?, 1, false);
        loop {
            let mut on_ready = || told |= ready.send(port).is_ok();
            let End { error, cause, served, has_space } = match self.serve(log.take(), port, &mut on_ready, orders) {
                Ok(()) => return Ok(()),
                Err(end) => end,
            };
            if !told && cause == Cause::PortTaken && ports < PORTS_TO_TRY {
                (port, ports) = (free_port()?, ports + 1);
                continue;
            }
            let may_help = told || (self.waits_for_space && cause == Cause::NoSpace);
            if !may_help {
                return Err(error);
            }
            metrics::counter!("windlass_postgres_restarts_total").increment(1);
            let Some(pause) = failures.pause_after(cause, served) else {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "PostgreSQL keeps failing and is not started again"
                );
                return Err(error);
            };
            let pause = if has_space { Duration::ZERO } else { pause };
            tracing::error!(
                error = &error as &dyn std::error::Error,
                ?cause,
                pause = %format_args!("{:.1} s", pause.as_secs_f32()),
                "the embedded PostgreSQL has exited; restarting it after a pause"
            );
            if is_told_to_stop(orders, pause) {
                return Ok(());
            }
            if self.cluster.major()?.is_none() {
                return Err(Error::ClusterGone(self.cluster.data_dir().to_owned()));
            }
        }
    }

    /// Runs one server until it exits. Returns `Ok` if it was told to stop.
    fn serve(
        &mut self,
        log: Option<Log>,
        port: u16,
        on_ready: &mut dyn FnMut(),
        orders: &Receiver<Infallible>,
    ) -> Result<(), End> {
        // Holding the log's lock means that no process of the previous server is left.
        let log = match log {
            Some(log) => log,
            None => self.cluster.log_without_server()?,
        };
        access::close(&self.cluster)?;
        self.keep_reserve();
        let command = guard::command(&self.settings.guard, self.identity, &self.binaries.postgres());
        let mut position = log.end()?;
        let mut server = Server::start(&self.cluster.dir(), &log, port, &self.settings, command)?;
        let (mut ready, mut seen) = (None::<Instant>, None::<(Cause, Instant)>);
        let mut said = Instant::now();
        loop {
            let pause = if ready.is_some() { LOOK_EVERY } else { POLL_EVERY };
            if is_told_to_stop(orders, pause) {
                let stopped = server.stop(&log);
                // A server that was still starting may exit with any status.
                return if ready.is_some() { Ok(stopped?) } else { Ok(()) };
            }
            // Checked before the log is read, so that its last lines are included.
            let ended = server.ended()?;
            let cause = follow(&log, &mut position);
            if let Some(cause) = cause {
                seen = Some((cause, Instant::now()));
            }
            if let Some(status) = ended {
                let recent = seen.filter(|(_, at)| at.elapsed() < CAUSE_OF_AN_END).map(|(cause, _)| cause);
                let (error, mut cause) = (server.error(&log, status), recent.unwrap_or_default().or_of(status));
                // A completely full disk has no room for the log line that would report it, either.
                if cause == Cause::Unexplained && self.reserve.is_disk_full() {
                    cause = Cause::NoSpace;
                }
                let served = ready.map_or(Duration::ZERO, |it| it.elapsed());
                let has_space = cause == Cause::NoSpace && self.make_space(&log);
                return Err(End { error, cause, served, has_space });
            }
            if ready.is_none() && server.is_ready().unwrap_or(false) {
                ready = Some(Instant::now());
                let version = self.binaries.version();
                tracing::info!(postgres.version = %version, postgres.port = port, "the embedded PostgreSQL is ready");
                on_ready();
            }
            if ready.is_none() && said.elapsed() > SAY_EVERY {
                said = Instant::now();
                let log = log.tail(0).unwrap_or_default();
                tracing::warn!(log = log.lines().last(), "waiting for PostgreSQL to accept connections");
            }
            match log.rotate() {
                Ok(true) => position = 0,
                Ok(false) => {}
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "the log was not rotated"),
            }
            // If the server survived running out of space, the failed statement will be retried.
            if cause == Some(Cause::NoSpace) {
                self.reserve.release_in_turn().ok();
            }
            self.keep_reserve();
        }
    }

    fn keep_reserve(&mut self) {
        if let Err(error) = self.reserve.keep() {
            tracing::debug!(error = &error as &dyn std::error::Error, "the reserve could not be maintained");
        }
    }

    /// Frees space after the server ran out of it. Returns whether any was freed.
    fn make_space(&mut self, log: &Log) -> bool {
        self.reserve.release().unwrap_or(false) || log.shed().unwrap_or(false)
    }
}

/// Copies the server's new log lines to our own log, by severity, and returns the last cause of failure among them.
fn follow(log: &Log, position: &mut u64) -> Option<Cause> {
    let mut said = None;
    for line in log.lines_after(position).unwrap_or_default() {
        let cause = Cause::of_line(&line);
        if line.contains("PANIC:  ") {
            tracing::error!(line, "PostgreSQL log");
        } else if cause.is_some() || line.contains("WARNING:  ") {
            tracing::warn!(line, "PostgreSQL log");
        } else {
            tracing::debug!(line, "PostgreSQL log");
        }
        said = cause.or(said);
    }
    said
}

/// Waits up to `within` for the order to stop.
fn is_told_to_stop(orders: &Receiver<Infallible>, within: Duration) -> bool {
    matches!(orders.recv_timeout(within), Err(RecvTimeoutError::Disconnected))
}
