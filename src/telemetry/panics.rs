//! What a panic does: it is logged, and it either ends the task in which it happened, or the process.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::thread;

/// The exit status of a process that a panic has ended; what Rust itself gives a panic of the main thread.
const STATUS: i32 = 101;

/// The threads that go on after a panic, by how their names begin. Tokio and Actix catch it, and whoever waits for the
/// task's result gets an error. Every other thread has a duty that nobody takes over.
const CONTAINED: [&str; 2] = ["tokio-", "actix-server worker"];

/// Logs panics from now on, instead of writing them to standard error, where a write can block or fail.
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
    // Where RUST_BACKTRACE asks for one.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(thread, place, backtrace = backtrace.map(tracing::field::display), "panicked: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `crash::panics` holds that these are the threads of the running service.
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
