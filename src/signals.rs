//! Signal handling: signals that shut the service down, and signals that are ignored.

use std::io;
use std::process;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// Signals that terminate a process by default, but are sent to a service when its terminal is closed or to make it
/// reopen its log files. They are logged and otherwise ignored.
const IGNORED: [Signal; 3] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Blocks SIGXFSZ, so that a write beyond the file size limit (`ulimit -f`) fails with an error instead of terminating
/// the process. Must be called while the process has a single thread: later threads inherit the signal mask.
///
/// # Errors
/// When the signal mask cannot be set.
pub fn survive_file_size_limit() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGXFSZ).thread_block()?)
}

/// Ignores and logs SIGHUP, SIGUSR1 and SIGUSR2, and blocks SIGTTOU. Must be called while the process has a single
/// thread: later threads inherit the signal mask.
///
/// # Errors
/// When the signal mask cannot be set, or a thread cannot be spawned.
pub fn ignore_accidental() -> io::Result<()> {
    let ignored: SigSet = IGNORED.into_iter().collect();
    ignored.thread_block()?;
    // Writing a log line to the terminal from a background job must not suspend the process.
    SigSet::from(Signal::SIGTTOU).thread_block()?;
    let log = move || {
        while let Ok(signal) = ignored.wait() {
            tracing::info!(%signal, "signal ignored: there is no configuration to reload and no log file to reopen");
        }
    };
    thread::Builder::new().name("ignored signals".to_owned()).spawn(log)?;
    Ok(())
}

/// Returns a token that the first SIGINT or SIGTERM cancels, for a graceful shutdown. A second one exits immediately,
/// with the status 130. Must be called in a Tokio runtime.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn stop() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = stop.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if last {
                telemetry::flush();
                process::exit(130);
            }
            tracing::info!("shutting down; a second signal exits immediately");
            token.cancel();
        }
    });
    Ok(stop)
}
