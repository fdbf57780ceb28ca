//! Signals: those that stop the service, and those that must not end it.

use std::io;
use std::process;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// Signals whose default is to end the process, and that a service gets for other reasons: its terminal has gone, or
/// somebody wants a log reopened. They are logged, and nothing else.
const IGNORED: [Signal; 3] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Makes a write beyond a limit of file size (`ulimit -f`) an error like that of a full disk, where the default is to
/// end the process. To be called while the process has one thread: the others inherit it.
///
/// # Errors
/// When the operating system refuses.
pub fn survive_file_size_limit() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGXFSZ).thread_block()?)
}

/// Ignores from now on what would end a service by accident, and says so in the log. To be called while the process
/// has one thread: the others inherit it.
///
/// # Errors
/// When the operating system refuses.
pub fn ignore_accidental() -> io::Result<()> {
    let ignored: SigSet = IGNORED.into_iter().collect();
    ignored.thread_block()?;
    // A log line to a terminal that is another job's now must not stop the process.
    SigSet::from(Signal::SIGTTOU).thread_block()?;
    let log = move || {
        while let Ok(signal) = ignored.wait() {
            tracing::info!(%signal, "ignored: there is nothing to reload, and nothing to reopen");
        }
    };
    thread::Builder::new().name("ignored signals".to_owned()).spawn(log)?;
    Ok(())
}

/// The first signal lets open requests come to their end; a second one does not wait.
///
/// # Errors
/// When the operating system refuses.
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
