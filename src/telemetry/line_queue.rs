//! A bounded queue of lines for an output that may block or fail. Pushing a line never blocks: a background thread
//! writes the lines, and a line that does not fit into the queue or cannot be written is dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The maximum number of queued bytes, and so the memory that a blocked output uses.
const MAX_BYTES: usize = 1024 * 1024;

/// The pause before a retry if the output is in non-blocking mode and full.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A bounded queue of lines, written by a background thread.
pub(super) struct LineQueue(Arc<Shared>);

struct Shared {
    on_drop: OnDrop,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Box<[u8]>>,
    waiting_bytes: usize,
    /// Whether the thread is writing the line that it last removed from the queue.
    is_writing: bool,
    /// Whether the thread is asleep. Waking it requires a system call, which a push avoids if it is awake.
    is_asleep: bool,
    /// The number of threads that are waiting in `flush`.
    flushing: usize,
    /// The number of lines dropped since the last report.
    unreported: u64,
}

/// Callbacks for dropped lines.
#[derive(Clone, Copy)]
pub(super) struct OnDrop {
    /// Called once per dropped line.
    pub count: fn(),
    /// Called by the background thread with the number of dropped lines, once the queue has been written.
    pub report: fn(u64),
}

impl LineQueue {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// When the thread cannot be spawned.
    pub fn start(name: &str, output: impl Write + Send + 'static, on_drop: OnDrop) -> io::Result<Self> {
        let shared = Arc::new(Shared { on_drop, state: Mutex::default(), changed: Condvar::new() });
        let queue = Self(Arc::clone(&shared));
        let writer = Writer { output, is_torn: false };
        thread::Builder::new().name(name.to_owned()).spawn(move || shared.write_all(writer))?;
        Ok(queue)
    }

    /// Queues a line, which must end with a line feed.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.waiting_bytes + line.len() <= MAX_BYTES {
            state.waiting_bytes += line.len();
            state.waiting.push_back(line.into());
            if mem::take(&mut state.is_asleep) {
                self.0.changed.notify_all();
            }
        } else {
            state.unreported += 1;
            drop(state);
            (self.0.on_drop.count)();
        }
    }

    /// Blocks until every queued line is written, for at most `within`.
    pub fn flush(&self, within: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let mut state = self.0.lock();
        state.flushing += 1;
        let waited = self.0.changed.wait_timeout_while(state, within, is_busy);
        waited.unwrap_or_else(PoisonError::into_inner).0.flushing -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut writer: Writer<impl Write>) -> ! {
        loop {
            let written = writer.write(&self.next());
            let mut state = self.lock();
            if written.is_err() {
                state.unreported += 1;
            }
            // Not reported until the queue is empty, because a full queue would drop more lines, including the report.
            let is_over = written.is_ok() && state.waiting.is_empty();
            let lost = if is_over { mem::take(&mut state.unreported) } else { 0 };
            drop(state);
            if written.is_err() {
                (self.on_drop.count)();
            }
            if lost > 0 {
                (self.on_drop.report)(lost);
            }
        }
    }

    /// Marks the previous line as done, and waits for the next one.
    fn next(&self) -> Box<[u8]> {
        let mut state = self.lock();
        state.is_writing = false;
        if state.flushing > 0 {
            self.changed.notify_all();
        }
        loop {
            if let Some(line) = state.waiting.pop_front() {
                state.waiting_bytes -= line.len();
                state.is_writing = true;
                return line;
            }
            state.is_asleep = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Writer<W> {
    output: W,
    /// Whether the output ends in a partially written line.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_bytes(b"\n")?;
            self.is_torn = false;
        }
        self.write_bytes(line)
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            match self.output.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    left = &left[written..];
                    self.is_torn = !left.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the pipe or the terminal may have set it to non-blocking mode.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// An output that accepts a scripted number of bytes per write, or fails with a scripted error.
    struct Scripted {
        script: mpsc::Receiver<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.script.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            self.written.lock().unwrap().extend_from_slice(&bytes[..most]);
            Ok(most)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const TEST_TIMEOUT: Duration = Duration::from_mins(1);

    type Script = mpsc::Sender<io::Result<usize>>;

    fn scripted(on_drop: OnDrop) -> (LineQueue, Script, Arc<Mutex<Vec<u8>>>) {
        let (outcomes, script) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let output = Scripted { script, written: Arc::clone(&written) };
        (LineQueue::start("test", output, on_drop).unwrap(), outcomes, written)
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_once_writing_works_again() {
        static COUNTED: AtomicU64 = AtomicU64::new(0);
        static REPORTED: AtomicU64 = AtomicU64::new(0);
        let on_drop = OnDrop {
            count: || COUNTED.store(COUNTED.load(Ordering::Relaxed) + 1, Ordering::Relaxed),
            report: |lost| REPORTED.store(lost, Ordering::Relaxed),
        };
        let (queue, outcomes, written) = scripted(on_drop);
        let full = || Err(ErrorKind::StorageFull.into());
        for outcome in [Ok(3), full(), full(), Err(ErrorKind::WouldBlock.into()), Ok(usize::MAX), Ok(usize::MAX)] {
            outcomes.send(outcome).unwrap();
        }
        for line in ["begun\n", "lost\n", "kept\n"] {
            queue.push(line.as_bytes());
        }
        queue.flush(TEST_TIMEOUT);
        assert_eq!(String::from_utf8_lossy(&written.lock().unwrap()), "beg\nkept\n", "a torn line is terminated");
        assert_eq!((COUNTED.load(Ordering::Relaxed), REPORTED.load(Ordering::Relaxed)), (2, 2));
    }

    #[test]
    fn a_blocked_output_uses_bounded_memory_and_blocks_no_caller() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        let count = || DROPPED.store(DROPPED.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let (queue, outcomes, written) = scripted(OnDrop { count, report: |_| () });
        let line = [b'x'; 1000];
        (0..3000).for_each(|_| queue.push(&line));
        let accepted = 3000 - DROPPED.load(Ordering::Relaxed);
        assert!((1048..=1049).contains(&accepted), "{accepted} lines are queued");
        queue.flush(Duration::from_millis(10));
        drop(outcomes);
        queue.flush(TEST_TIMEOUT);
        assert_eq!(written.lock().unwrap().len(), accepted * line.len(), "every accepted line is written");
    }
}
