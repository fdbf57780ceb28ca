//! Signal handling: signals that stop the service, and signals that must not end it.

use std::io;
use std::process;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// Signals that end a process by default, but that a service receives for other reasons: its terminal was closed, or a
/// log is to be reopened. They are logged and otherwise ignored.
const IGNORED: [Signal; 3] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Makes a write beyond the file size limit (`ulimit -f`) fail like one to a full disk; by default, it ends the
/// process. Must be called while the process has a single thread: the others inherit the signal mask.
///
/// # Errors
/// When the signal mask cannot be set.
pub fn survive_file_size_limit() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGXFSZ).thread_block()?)
}

/// From now on, ignores and logs the signals that would end a service by accident. Must be called while the process has
/// a single thread: the others inherit the signal mask.
///
/// # Errors
/// When the signal mask cannot be set, or a thread cannot be spawned.
pub fn ignore_accidental() -> io::Result<()> {
    let ignored: SigSet = IGNORED.into_iter().collect();
    ignored.thread_block()?;
    // A log line must not suspend the process when its terminal belongs to another job.
    SigSet::from(Signal::SIGTTOU).thread_block()?;
    let log = move || {
        while let Ok(signal) = ignored.wait() {
            tracing::info!(%signal, "ignored: there is nothing to reload, and nothing to reopen");
        }
    };
    thread::Builder::new().name("ignored signals".to_owned()).spawn(log)?;
    Ok(())
}

/// Returns a token that SIGINT or SIGTERM cancels, so that open requests can finish. A second signal exits at once.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn stop() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = stop.clone();
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
            tracing::info!("stopping; a second signal stops at once");
            told.cancel();
        }
    });
    Ok(stop)
}
