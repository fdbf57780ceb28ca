//! Restart policy of the server: whether it is restarted after an exit, and after which backoff.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;

/// The backoff before the first restart; it doubles with each consecutive failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The maximum backoff.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Failures are reset once the server has accepted connections for this long.
const STEADY: Duration = Duration::from_mins(1);

/// The number of consecutive unexplained failures after which restarts stop.
const MOST_UNEXPLAINED: u32 = 5;
/// The number of consecutive failures to bind the port after which restarts stop: about two minutes.
const MOST_PORT_TAKEN: u32 = 16;

/// PostgreSQL's message when it cannot bind its address.
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";

/// The cause of the server's exit, which determines the restart policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// The disk is full. Restarted without limit.
    NoSpace,
    /// Memory ran out, or the server was killed by SIGKILL, as by the OOM killer. Restarted without limit.
    NoMemory,
    /// Another process uses the port.
    PortTaken,
    /// No external cause is known.
    #[default]
    Unexplained,
}

impl Cause {
    /// The cause that a line of the server's log indicates, if any.
    pub fn of_line(line: &str) -> Option<Self> {
        // Shared memory is not on a disk; Docker limits its size separately.
        let is_disk = !line.contains("shared memory");
        let has = |text: &str| line.contains(text);
        if is_disk && (has("No space left on device") || has("Disk quota exceeded")) {
            Some(Self::NoSpace)
        } else if has("out of memory") || has("Cannot allocate memory") {
            Some(Self::NoMemory)
        } else if has(PORT_TAKEN) {
            Some(Self::PortTaken)
        } else {
            None
        }
    }

    /// Refines `self`, the cause found in the log, with the exit status: an unexplained SIGKILL counts as `NoMemory`.
    pub fn or_of(self, status: ExitStatus) -> Self {
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        if self == Self::Unexplained && killed { Self::NoMemory } else { self }
    }
}

/// The failures since the server was last stable for [`STEADY`].
#[derive(Debug, Default)]
pub struct Failures {
    in_a_row: u32,
    last: Cause,
    /// The number of consecutive failures whose cause is `last`.
    with_last_cause: u32,
}

impl Failures {
    /// Records a failure of a server that had accepted connections for `served`. Returns the backoff before the next
    /// start, or `None` once the limit for this cause is reached.
    pub fn pause_after(&mut self, cause: Cause, served: Duration) -> Option<Duration> {
        if served > STEADY {
            *self = Self::default();
        }
        self.with_last_cause = if self.last == cause { self.with_last_cause + 1 } else { 1 };
        self.last = cause;
        let most = match cause {
            Cause::NoSpace | Cause::NoMemory => u32::MAX,
            Cause::PortTaken => MOST_PORT_TAKEN,
            Cause::Unexplained => MOST_UNEXPLAINED,
        };
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.in_a_row.min(10));
        self.in_a_row += 1;
        (self.with_last_cause < most).then_some(pause.min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_in_the_log() {
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
    fn an_unexplained_sigkill_counts_as_out_of_memory() {
        let (killed, ended) = (ExitStatus::from_raw(9), ExitStatus::from_raw(256));
        assert_eq!(Cause::default().or_of(killed), Cause::NoMemory);
        assert_eq!(Cause::default().or_of(ended), Cause::Unexplained);
        assert_eq!(Cause::NoSpace.or_of(killed), Cause::NoSpace);
    }

    #[test]
    fn the_backoff_grows_and_a_full_disk_is_retried_without_limit() {
        let mut failures = Failures::default();
        let pauses: Vec<_> =
            (0..20).map(|_| failures.pause_after(Cause::NoSpace, Duration::ZERO).unwrap().as_millis()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[19], 10_000);
    }

    #[test]
    fn unexplained_failures_are_retried_a_few_times() {
        let mut failures = Failures::default();
        let mut tries =
            |served| (0..9).take_while(|_| failures.pause_after(Cause::Unexplained, served).is_some()).count();
        assert_eq!(tries(Duration::ZERO), 4);
        assert_eq!(tries(Duration::from_mins(2)), 9, "a long run resets the count");
    }
}
