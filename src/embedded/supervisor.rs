//! Keeps the server running: starts it, follows its log, and starts it again when it has died, for as long as that can
//! help.

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

/// How long before its end a server tells what ends it: a crash takes a while.
const CAUSE_OF_AN_END: Duration = Duration::from_secs(15);

/// How often a server that accepts connections is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it is said that a server has not become ready: after a crash it has much to read.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// How many ports to try, in case somebody takes the free one we found before the server does.
const PORTS_TO_TRY: u32 = 5;

/// Everything that another start of the server takes.
pub struct Supervisor {
    pub settings: Settings,
    pub cluster: Cluster,
    pub binaries: Binaries,
    pub identity: Identity,
    pub reserve: Reserve,
    /// Whether even the first start waits for space; else it fails.
    pub waits_for_space: bool,
    /// Keeps other windlass processes from starting a server.
    pub _lock: File,
}

/// How a server that nobody stopped came to its end.
struct End {
    error: Error,
    cause: Cause,
    /// How long it had accepted connections.
    served: Duration,
    /// Whether space was made for the next one.
    has_space: bool,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        let cause = if matches!(error, Error::DiskFull { .. }) { Cause::NoSpace } else { Cause::Unexplained };
        Self { error, cause, served: Duration::ZERO, has_space: false }
    }
}

impl Supervisor {
    /// Runs servers until the other end of `orders` is dropped. The port, which stays the same, is told once the first
    /// one accepts connections. It blocks, on the thread that the server's life is tied to.
    ///
    /// # Errors
    /// When another start would not help. A server that failed before its port was told is only started again where
    /// its port was taken, or to wait for space.
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
                "the embedded PostgreSQL has stopped; it is started again after a pause"
            );
            if is_told_to_stop(orders, pause) {
                return Ok(());
            }
            if self.cluster.major()?.is_none() {
                return Err(Error::ClusterGone(self.cluster.data_dir().to_owned()));
            }
        }
    }

    /// Runs one server to its end: well where it was told to stop.
    fn serve(
        &mut self,
        log: Option<Log>,
        port: u16,
        on_ready: &mut dyn FnMut(),
        orders: &Receiver<Infallible>,
    ) -> Result<(), End> {
        // The lock on the log tells that nothing is left of the server before.
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
                // One that was still starting may end as it likes.
                return if ready.is_some() { Ok(stopped?) } else { Ok(()) };
            }
            // Before its log is read: then the last of it is there.
            let ended = server.ended()?;
            let cause = follow(&log, &mut position);
            if let Some(cause) = cause {
                seen = Some((cause, Instant::now()));
            }
            if let Some(status) = ended {
                let recent = seen.filter(|(_, at)| at.elapsed() < CAUSE_OF_AN_END).map(|(cause, _)| cause);
                let (error, mut cause) = (server.error(&log, status), recent.unwrap_or_default().or_of(status));
                // A disk without a byte has no room for the line that tells it either.
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
            // A statement that found no space will be tried again, if that was not the server's end.
            if cause == Some(Cause::NoSpace) {
                self.reserve.release_in_turn().ok();
            }
            self.keep_reserve();
        }
    }

    fn keep_reserve(&mut self) {
        if let Err(error) = self.reserve.keep() {
            tracing::debug!(error = &error as &dyn std::error::Error, "the reserve was not allocated");
        }
    }

    /// Makes space for a server that found none. Whether there was something to make it from.
    fn make_space(&mut self, log: &Log) -> bool {
        self.reserve.release().unwrap_or(false) || log.shed().unwrap_or(false)
    }
}

/// Tells in our own log what the server wrote into its log, if it is of some weight, and gives what it says of an end.
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

/// Waits for an order to stop.
fn is_told_to_stop(orders: &Receiver<Infallible>, within: Duration) -> bool {
    matches!(orders.recv_timeout(within), Err(RecvTimeoutError::Disconnected))
}
