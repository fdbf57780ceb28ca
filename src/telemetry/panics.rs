//! The panic hook: logs every panic, which ends either its task or the process.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::thread;

/// The exit status of a process ended by a panic; the same as Rust's for a panic of the main thread.
const STATUS: i32 = 101;

/// Name prefixes of the threads that survive a panic: Tokio and Actix catch it, and awaiting the task returns an error.
/// Every other thread has a duty that no other thread can take over.
const CONTAINED: [&str; 2] = ["tokio-", "actix-server worker"];

/// Installs a hook that logs panics, instead of writing them to standard error, where a write can block or fail.
pub(super) fn install() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        log(panic, name);
        if ends_the_process(name) {
            super::flush();
            process::exit(STATUS);
        }
    }));
}

fn ends_the_process(thread: &str) -> bool {
    !CONTAINED.iter().any(|it| thread.starts_with(it))
}

fn log(panic: &PanicHookInfo<'_>, thread: &str) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    // Captured only if RUST_BACKTRACE enables it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(thread, place, backtrace = backtrace.map(tracing::field::display), "panicked: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `crash::panics` tests that these are the threads of the running service.
    #[test]
    fn a_panic_ends_the_process_where_nobody_takes_over_the_threads_duty() {
        for thread in ["tokio-rt-worker", "actix-server worker 0", "actix-server worker 17"] {
            assert!(!ends_the_process(thread), "{thread}");
        }
        for thread in ["main", "actix-server acceptor", "log", "ignored signals", "announcement", "unnamed"] {
            assert!(ends_the_process(thread), "{thread}");
        }
    }
}
