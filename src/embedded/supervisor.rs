//! Supervises the server: starts it, follows its log, and restarts it after a failure if that can help.

use std::{
    convert::Infallible,
    fs::File,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use windlass_types::ErrorChain;

use super::{
    Error, POLL_EVERY, Settings, access,
    binaries::Binaries,
    cluster::Cluster,
    exec_wrapper,
    failures::{Cause, Failures},
    log::Log,
    reserve::Reserve,
    run_as::RunAs,
    server::{Server, free_port},
};

/// The maximum age at which a cause found in the log explains the server's exit: after a crash, it exits with a delay.
const MAX_CAUSE_AGE: Duration = Duration::from_secs(15);

/// The interval between two polls of a server that accepts connections.
const POLL_READY_EVERY: Duration = Duration::from_millis(250);
/// The interval between log lines while the server is not ready: recovery after a crash can take long.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// The number of ports to try, since another process can bind a free port before the server does.
const PORTS_TO_TRY: u32 = 5;

/// Everything needed to restart the server.
pub struct Supervisor {
    pub settings: Settings,
    pub cluster: Cluster,
    pub binaries: Binaries,
    pub run_as: RunAs,
    pub reserve: Reserve,
    /// Whether the first start waits for disk space, too, instead of failing.
    pub waits_for_space: bool,
    /// The lock that keeps other windlass processes from starting a server.
    pub _lock: File,
}

/// An exit of the server that was not requested.
struct End {
    error: Error,
    cause: Cause,
    /// How long the server had accepted connections.
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
    /// Runs the server, with restarts, until the sender of `stop` is dropped. Sends the port to `ready` once the server
    /// first accepts connections; it stays the same after that. Blocks. The kernel stops the server if the calling
    /// thread exits.
    ///
    /// # Errors
    /// When a restart would not help. Before the port has been sent, the server is restarted only if another process
    /// took its port, or to wait for disk space.
    pub fn run(mut self, log: Log, ready: &Sender<u16>, stop: &Receiver<Infallible>) -> Result<(), Error> {
        let mut failures = Failures::default();
        let (mut log, mut port, mut ports, mut was_ready) = (Some(log), free_port()?, 1, false);
        loop {
            let mut on_ready = || was_ready |= ready.send(port).is_ok();
            let End { error, cause, served, has_space } = match self.serve(log.take(), port, &mut on_ready, stop) {
                Ok(()) => return Ok(()),
                Err(end) => end,
            };
            report_up(false);
            if !was_ready && cause == Cause::PortTaken && ports < PORTS_TO_TRY {
                (port, ports) = (free_port()?, ports + 1);
                continue;
            }
            let may_help = was_ready || (self.waits_for_space && cause == Cause::NoSpace);
            if !may_help {
                return Err(error);
            }
            metrics::counter!("windlass_postgres_restarts_total").increment(1);
            let Some(pause) = failures.pause_after(cause, served) else {
                tracing::error!(
                    error = %ErrorChain(&error),
                    "the embedded PostgreSQL keeps failing and will not be restarted"
                );
                return Err(error);
            };
            let pause = if has_space { Duration::ZERO } else { pause };
            tracing::error!(
                error = %ErrorChain(&error),
                ?cause,
                pause = %format_args!("{:.1} s", pause.as_secs_f32()),
                "the embedded PostgreSQL has exited; restarting it after a pause"
            );
            if stop_requested(stop, pause) {
                return Ok(());
            }
            if self.cluster.major()?.is_none() {
                return Err(Error::ClusterGone(self.cluster.data_dir().to_owned()));
            }
        }
    }

    /// Runs one server until it exits. Returns `Ok` if a stop was requested.
    fn serve(
        &mut self,
        log: Option<Log>,
        port: u16,
        on_ready: &mut dyn FnMut(),
        stop: &Receiver<Infallible>,
    ) -> Result<(), End> {
        // The lock of the log guarantees that no process of the previous server is left.
        let log = match log {
            Some(log) => log,
            None => self.cluster.log_without_server()?,
        };
        access::close(&self.cluster)?;
        self.keep_reserve();
        let command = exec_wrapper::command(&self.settings.guard, self.run_as, &self.binaries.postgres());
        let mut position = log.end()?;
        let mut server = Server::start(&self.cluster.dir(), &log, port, &self.settings, command)?;
        let (mut ready, mut seen) = (None::<Instant>, None::<(Cause, Instant)>);
        let mut logged_at = Instant::now();
        loop {
            let pause = if ready.is_some() { POLL_READY_EVERY } else { POLL_EVERY };
            if stop_requested(stop, pause) {
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
                let recent = seen.filter(|(_, at)| at.elapsed() < MAX_CAUSE_AGE).map(|(cause, _)| cause);
                let (error, mut cause) = (server.error(&log, status), recent.unwrap_or_default().or_of(status));
                // On a completely full disk, the server cannot log that it is full.
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
                report_up(true);
                on_ready();
            }
            if ready.is_none() && logged_at.elapsed() > LOG_EVERY {
                logged_at = Instant::now();
                let log = log.tail(0).unwrap_or_default();
                tracing::warn!(log = log.lines().last(), "waiting for the embedded PostgreSQL to accept connections");
            }
            match log.rotate() {
                Ok(true) => position = 0,
                Ok(false) => {}
                Err(error) => tracing::debug!(error = %ErrorChain(&error), "the log was not rotated"),
            }
            // The server survived running out of space; a retry of the failed statement then succeeds.
            if cause == Some(Cause::NoSpace) {
                self.reserve.release_in_turn().ok();
            }
            self.keep_reserve();
        }
    }

    fn keep_reserve(&mut self) {
        if let Err(error) = self.reserve.keep() {
            tracing::debug!(error = %ErrorChain(&error), "the reserve could not be maintained");
        }
    }

    /// Frees disk space after the server ran out of it. Returns whether any was freed.
    fn make_space(&mut self, log: &Log) -> bool {
        self.reserve.release().unwrap_or(false) || log.shed().unwrap_or(false)
    }
}

/// Sets the gauge that says whether the server accepts connections.
fn report_up(is_up: bool) {
    metrics::gauge!("windlass_postgres_up").set(u8::from(is_up));
}

/// Copies the server's new log lines to the service's log, with their severity. Returns the last cause of failure among
/// them.
fn follow(log: &Log, position: &mut u64) -> Option<Cause> {
    let mut last = None;
    for line in log.lines_after(position).unwrap_or_default() {
        let cause = Cause::of_line(&line);
        if line.contains("PANIC:  ") {
            tracing::error!(line, "PostgreSQL log");
        } else if cause.is_some() || line.contains("WARNING:  ") {
            tracing::warn!(line, "PostgreSQL log");
        } else {
            tracing::debug!(line, "PostgreSQL log");
        }
        last = cause.or(last);
    }
    last
}

/// Waits up to `within` for a stop request. Returns whether there was one.
fn stop_requested(stop: &Receiver<Infallible>, within: Duration) -> bool {
    matches!(stop.recv_timeout(within), Err(RecvTimeoutError::Disconnected))
}
