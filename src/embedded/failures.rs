//! Decides whether the server is restarted after an exit, and after which backoff.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;

/// The backoff before the first restart; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a server must have accepted connections for earlier failures to be forgotten.
const STEADY: Duration = Duration::from_mins(1);

/// How many consecutive unexplained failures end the restarts.
const MOST_UNEXPLAINED: u32 = 5;
/// How many consecutive failures to bind the port end the restarts: about two minutes' worth.
const MOST_PORT_TAKEN: u32 = 16;

/// PostgreSQL's message when it cannot bind its address.
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";

/// Why the server exited, as far as it matters for a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// A disk is full; space may be freed.
    NoSpace,
    /// Memory ran out, or the server was killed by SIGKILL, as the OOM killer does.
    NoMemory,
    /// Another process uses the port.
    PortTaken,
    /// No external cause is known.
    #[default]
    Unexplained,
}

impl Cause {
    /// The cause that a line of the server's log indicates.
    pub fn of_line(line: &str) -> Option<Self> {
        // Shared memory in Docker has a size limit of its own, and is not on a disk.
        let is_disk = !line.contains("shared memory");
        let says = |text: &str| line.contains(text);
        if is_disk && (says("No space left on device") || says("Disk quota exceeded")) {
            Some(Self::NoSpace)
        } else if says("out of memory") || says("Cannot allocate memory") {
            Some(Self::NoMemory)
        } else if says(PORT_TAKEN) {
            Some(Self::PortTaken)
        } else {
            None
        }
    }

    /// The cause, given the exit status and `self`, the cause found in the log.
    pub fn or_of(self, status: ExitStatus) -> Self {
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        if self == Self::Unexplained && killed { Self::NoMemory } else { self }
    }
}

/// The failures since the server last ran for long.
#[derive(Debug, Default)]
pub struct Failures {
    in_a_row: u32,
    last: Cause,
    /// The number of consecutive failures whose cause is `last`.
    of_its_kind: u32,
}

impl Failures {
    /// Records a failure after the server had accepted connections for `served`. Returns the backoff before the next
    /// start, or `None` if a restart would not help.
    pub fn pause_after(&mut self, cause: Cause, served: Duration) -> Option<Duration> {
        if served > STEADY {
            *self = Self::default();
        }
        self.of_its_kind = if self.last == cause { self.of_its_kind + 1 } else { 1 };
        self.last = cause;
        let most = match cause {
            Cause::NoSpace | Cause::NoMemory => u32::MAX,
            Cause::PortTaken => MOST_PORT_TAKEN,
            Cause::Unexplained => MOST_UNEXPLAINED,
        };
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.in_a_row.min(10));
        self.in_a_row += 1;
        (self.of_its_kind < most).then_some(pause.min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_what_was_short() {
        let cause = Cause::of_line;
        assert_eq!(
            cause("FATAL:  could not write lock file \"postmaster.pid\": No space left on device"),
            Some(Cause::NoSpace)
        );
        assert_eq!(cause("PANIC:  could not write to file \"x\": Disk quota exceeded"), Some(Cause::NoSpace));
        assert_eq!(
            cause("FATAL:  could not map anonymous shared memory: Cannot allocate memory"),
            Some(Cause::NoMemory)
        );
        assert_eq!(cause("ERROR:  could not resize shared memory segment: No space left on device"), None);
        assert_eq!(cause("FATAL:  could not create any TCP/IP sockets"), Some(Cause::PortTaken));
        assert_eq!(cause("LOG:  database system is ready to accept connections"), None);
    }

    #[test]
    fn a_killed_server_may_have_been_out_of_memory() {
        let (killed, ended) = (ExitStatus::from_raw(9), ExitStatus::from_raw(256));
        assert_eq!(Cause::default().or_of(killed), Cause::NoMemory);
        assert_eq!(Cause::default().or_of(ended), Cause::Unexplained);
        assert_eq!(Cause::NoSpace.or_of(killed), Cause::NoSpace);
    }

    #[test]
    fn pauses_grow_and_what_is_short_is_waited_for_without_end() {
        let mut failures = Failures::default();
        let pauses: Vec<_> =
            (0..20).map(|_| failures.pause_after(Cause::NoSpace, Duration::ZERO).unwrap().as_millis()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[19], 10_000);
    }

    #[test]
    fn what_nothing_explains_is_tried_a_few_times() {
        let mut failures = Failures::default();
        let mut tries =
            |served| (0..9).take_while(|_| failures.pause_after(Cause::Unexplained, served).is_some()).count();
        assert_eq!(tries(Duration::ZERO), 4);
        assert_eq!(tries(Duration::from_mins(2)), 9, "those that ran for long begin anew");
    }
}
