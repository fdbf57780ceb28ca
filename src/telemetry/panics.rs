//! The panic hook: logs every panic, and exits the process unless the panic is contained in a task.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::thread;

/// The exit status after a panic; the same as Rust's for a panic of the main thread.
const STATUS: i32 = 101;

/// Name prefixes of the threads where a panic is contained: Tokio and Actix catch it, and awaiting the task returns an
/// error. Every other thread does work that no other thread would take over.
const CONTAINED: [&str; 2] = ["tokio-", "actix-server worker"];

/// Installs the hook. It replaces the default one, which writes to standard error and so can block or fail.
pub(super) fn install() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        log(panic, name);
        if exits_the_process(name) {
            super::flush();
            process::exit(STATUS);
        }
    }));
}

fn exits_the_process(thread: &str) -> bool {
    !CONTAINED.iter().any(|it| thread.starts_with(it))
}

fn log(panic: &PanicHookInfo<'_>, thread: &str) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    // Captured only if `RUST_BACKTRACE` is set.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(thread, place, panic = message, backtrace = backtrace.map(tracing::field::display), "panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `crash::panics` tests this with the threads of a running service.
    #[test]
    fn a_panic_that_is_not_contained_exits_the_process() {
        for thread in ["tokio-rt-worker", "actix-server worker 0", "actix-server worker 17"] {
            assert!(!exits_the_process(thread), "{thread}");
        }
        for thread in ["main", "actix-server acceptor", "log", "ignored signals", "announcement", "unnamed"] {
            assert!(exits_the_process(thread), "{thread}");
        }
    }
}
