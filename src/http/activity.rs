//! What a client's connection is doing: the phases of its life, and the bounds on each.
//!
//! The socket, the requests on it and the worker's watchdog share one [`Activity`]. It is used by one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::connections::ConnectionLimits;
use super::error::ApiError;
use super::refusal;

/// The longest request head.
pub const HEAD_BYTES: usize = 32 * 1024;

/// How much of a body is read and discarded after a response that did not wait for it: a part and its form.
pub const LINGER_BYTES: u64 = 80 * 1024 * 1024;

/// How long such a body is read for, so that the client sees the response and not a broken pipe.
pub const LINGER: Duration = Duration::from_secs(5);

/// What chunked framing may have beside the content: chunks of one byte have five bytes each.
const FRAMING_FACTOR: u64 = 8;
/// The same for any body, which also covers what was read ahead.
const FRAMING_BYTES: u64 = 1024 * 1024;

/// How much of a request is read ahead of its handler: what a handler that waits for memory leaves to the client's kernel.
const READ_AHEAD: usize = 64 * 1024;

/// Heads shorter than this are not counted in [`ConnectionLimits::heads_bytes`].
const SHORT_HEAD: usize = 4096;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte of a request has arrived.
    Idle,
    /// A request's head is arriving. `is_parsed` is set once a full buffer has been given to the parser.
    Head { bytes: usize, is_parsed: bool },
    /// A request is being handled: bytes read from the socket since, and bytes of its body.
    Request { read: u64, body: u64 },
    /// A response was given before the end of the body, which is discarded. The connection closes afterwards.
    Discarding { left: u64 },
}

/// Why a connection is closed by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It was idle for longer than the keep-alive timeout.
    Idle,
    /// The request head took too long.
    HeadTimeout,
    /// The request head was too large.
    HeadTooLarge,
    /// The chunked framing was much larger than its content.
    Framing,
    /// The body went on for too long after the response.
    Discarded,
    /// The client did not read the response, or too slowly.
    NotReading,
    /// It made room for another connection.
    Evicted,
}

impl Cut {
    /// The value of the label in metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::HeadTimeout => "head_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::Framing => "framing",
            Self::Discarded => "discarded",
            Self::NotReading => "not_reading",
            Self::Evicted => "evicted",
        }
    }
}

/// Whether to read from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Yes.
    Go,
    /// Not before the parser has seen what there is.
    Pause,
    /// Not before the handler has taken what there is, which wakes the connection.
    Wait,
    /// Never again: the connection ends.
    Stop,
}

/// What has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// More responses may follow.
    Some,
    /// The last response on this connection.
    Last,
}

/// The state of one connection.
pub struct Activity {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// Whether the response has been produced to its end; its last bytes may still have to be written.
    is_answered: Cell<bool>,
    /// Whether a request with a valid key has arrived.
    is_trusted: Cell<bool>,
    cut: Cell<Option<Cut>>,
    /// What is written before anything else: `100 Continue`, or a response that no handler has made.
    ahead: RefCell<Bytes>,
    is_refused: Cell<bool>,
    /// Whether the HTTP library is about to write `100 Continue`.
    announces_continue: Cell<bool>,
    /// Memory of long heads, on all connections of this worker, and this one's share of it.
    heads: Rc<Cell<usize>>,
    head: Cell<usize>,
    /// Bytes read from the socket since the handler last found nothing to take, and whether reading waits for it.
    unread: Cell<usize>,
    awaits_handler: Cell<bool>,
    sent: Cell<u64>,
    is_blocked: Cell<bool>,
    progress: Cell<Progress>,
    waker: RefCell<Option<Waker>>,
}

/// What the watchdog saw of a response that the client has yet to read.
#[derive(Clone, Copy)]
struct Progress {
    sent: u64,
    at: Instant,
    window_sent: u64,
    window_at: Instant,
}

impl Activity {
    /// A connection that was just accepted. `heads` is the memory of long heads on all connections of this worker.
    pub fn new(heads: Rc<Cell<usize>>) -> Self {
        let now = Instant::now();
        Self {
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            is_answered: Cell::new(false),
            is_trusted: Cell::new(false),
            cut: Cell::new(None),
            ahead: RefCell::default(),
            is_refused: Cell::new(false),
            announces_continue: Cell::new(false),
            heads,
            head: Cell::new(0),
            unread: Cell::new(0),
            awaits_handler: Cell::new(false),
            sent: Cell::new(0),
            is_blocked: Cell::new(false),
            progress: Cell::new(Progress { sent: 0, at: now, window_sent: 0, window_at: now }),
            waker: RefCell::default(),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
        self.hold_head(0);
        self.taken(usize::MAX);
    }

    /// Some of what was read ahead has been taken.
    fn taken(&self, bytes: usize) {
        self.unread.set(self.unread.get().saturating_sub(bytes));
        if self.unread.get() < READ_AHEAD && self.awaits_handler.take() {
            self.wake();
        }
    }

    /// Counts the memory of a head that is longer than [`SHORT_HEAD`].
    fn hold_head(&self, bytes: usize) {
        let held = bytes.saturating_sub(SHORT_HEAD);
        let before = self.head.replace(held);
        self.heads.set(self.heads.get() + held - before);
    }

    // The socket.

    /// Remembers which task to wake when the connection is cut.
    pub fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|it| !it.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Decides whether the socket is read.
    pub fn reading(&self) -> Reading {
        if self.cut.get().is_some() {
            return Reading::Stop;
        }
        match self.phase.get() {
            Phase::Head { bytes, is_parsed: false } if bytes >= HEAD_BYTES => {
                self.phase.set(Phase::Head { bytes, is_parsed: true });
                Reading::Pause
            }
            Phase::Head { bytes, is_parsed: true } if bytes >= HEAD_BYTES => {
                self.refuse(Cut::HeadTooLarge, &ApiError::head_too_large(HEAD_BYTES));
                Reading::Stop
            }
            Phase::Request { read, body } if read > FRAMING_BYTES + FRAMING_FACTOR * body => {
                self.cut.set(Some(Cut::Framing));
                Reading::Stop
            }
            Phase::Request { .. } if self.unread.get() >= READ_AHEAD => {
                self.awaits_handler.set(true);
                Reading::Wait
            }
            Phase::Discarding { left: 0 } => {
                self.cut.set(Some(Cut::Discarded));
                Reading::Stop
            }
            Phase::Idle | Phase::Head { .. } | Phase::Request { .. } | Phase::Discarding { .. } => Reading::Go,
        }
    }

    /// Counts bytes that were read from the socket.
    pub fn received(&self, bytes: usize) {
        let count = bytes as u64;
        match self.phase.get() {
            Phase::Idle if bytes > 0 => self.enter(Phase::Head { bytes, is_parsed: false }),
            Phase::Idle => {}
            Phase::Head { bytes: before, is_parsed } => {
                self.phase.set(Phase::Head { bytes: before + bytes, is_parsed });
                self.hold_head(before + bytes);
            }
            Phase::Request { read, body } => {
                self.phase.set(Phase::Request { read: read + count, body });
                self.unread.set(self.unread.get() + bytes);
            }
            Phase::Discarding { left } => self.phase.set(Phase::Discarding { left: left.saturating_sub(count) }),
        }
    }

    /// Counts bytes that the socket took, and whether it would take more.
    pub fn sent(&self, bytes: u64, is_blocked: bool) {
        self.sent.set(self.sent.get() + bytes);
        self.is_blocked.set(is_blocked);
    }

    /// Everything written so far has gone to the socket.
    pub fn flushed(&self) -> Flushed {
        self.is_blocked.set(false);
        match self.phase.get() {
            Phase::Request { .. } if self.is_answered.take() => {
                self.enter(Phase::Idle);
                Flushed::Some
            }
            Phase::Discarding { .. } if self.is_answered.take() => Flushed::Last,
            Phase::Idle | Phase::Head { .. } | Phase::Request { .. } | Phase::Discarding { .. } => Flushed::Some,
        }
    }

    /// What is to be written before anything else.
    pub fn ahead(&self) -> &RefCell<Bytes> {
        &self.ahead
    }

    /// Takes what the HTTP library writes by itself: it announces `100 Continue` before a handler has decided whether it
    /// wants the body, and it answers a malformed head without a body. Returns how many of the bytes were taken.
    pub fn intercept(&self, bytes: &[u8]) -> usize {
        if self.announces_continue.take() && bytes.starts_with(CONTINUE) {
            return CONTINUE.len();
        }
        match self.phase.get() {
            Phase::Request { .. } | Phase::Discarding { .. } => 0,
            Phase::Idle | Phase::Head { .. } => {
                let status = bytes.get(9..12).and_then(|it| std::str::from_utf8(it).ok()?.parse().ok());
                let error = if status == Some(431) {
                    ApiError::head_too_large(HEAD_BYTES)
                } else {
                    ApiError::malformed("The request is not valid HTTP/1.1.")
                };
                self.answer(&error);
                bytes.len()
            }
        }
    }

    /// Whether a response was given to a request that no handler has seen; the client may still be sending it.
    pub fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    // The requests.

    /// A request's head has been parsed.
    pub fn begin(&self) {
        self.is_answered.set(false);
        self.enter(Phase::Request { read: 0, body: 0 });
    }

    /// The request's client waits for `100 Continue`, which the HTTP library writes next, and which
    /// [`Activity::send_continue`] writes once the body is wanted.
    pub fn delay_continue(&self) {
        self.announces_continue.set(true);
    }

    /// The request has a valid key.
    pub fn trust(&self) {
        self.is_trusted.set(true);
    }

    /// Counts bytes of the request's body.
    pub fn delivered(&self, bytes: usize) {
        if let Phase::Request { read, body } = self.phase.get() {
            self.phase.set(Phase::Request { read, body: body + bytes as u64 });
            self.taken(bytes);
        }
    }

    /// The handler has taken all of the request's body that was read.
    pub fn has_caught_up(&self) {
        self.taken(usize::MAX);
    }

    /// Tells a client that waits for it to send its body.
    pub fn send_continue(&self) {
        self.ahead.replace(Bytes::from_static(CONTINUE));
    }

    /// The handler has given its response before the end of the body.
    pub fn discard_body(&self) {
        self.enter(Phase::Discarding { left: LINGER_BYTES });
    }

    /// The response has been produced to its end.
    pub fn answered(&self) {
        self.is_answered.set(true);
    }

    // The watchdog.

    /// Cuts the connection if it has exceeded a bound.
    pub fn check(&self, now: Instant, limits: &ConnectionLimits) {
        if self.cut.get().is_some() {
            return;
        }
        let lasted = now - self.since.get();
        match self.phase.get() {
            Phase::Idle if lasted >= limits.keep_alive => self.cut(Cut::Idle),
            Phase::Head { .. } if lasted >= limits.head_timeout => {
                self.refuse(Cut::HeadTimeout, &ApiError::head_timeout(limits.head_timeout));
                self.wake();
            }
            Phase::Idle | Phase::Head { .. } | Phase::Request { .. } | Phase::Discarding { .. } => {
                if !self.is_being_read(now, limits) {
                    self.cut(Cut::NotReading);
                }
            }
        }
    }

    /// Whether the client reads what it is sent, at the least rate at least.
    fn is_being_read(&self, now: Instant, limits: &ConnectionLimits) -> bool {
        let (sent, last) = (self.sent.get(), self.progress.get());
        if !self.is_blocked.get() {
            self.progress.set(Progress { sent, at: now, window_sent: sent, window_at: now });
            return true;
        }
        let at = if sent == last.sent { last.at } else { now };
        let window = now - last.window_at;
        let is_over = window >= 2 * limits.send_timeout;
        let (window_sent, window_at) = if is_over { (sent, now) } else { (last.window_sent, last.window_at) };
        self.progress.set(Progress { sent, at, window_sent, window_at });
        let is_slow = is_over && sent - last.window_sent < limits.min_rate.saturating_mul(window.as_secs());
        now - at < limits.send_timeout && !is_slow
    }

    /// Closes the connection as soon as its task has run.
    pub fn cut(&self, why: Cut) {
        if self.cut.replace(Some(why)).is_none() {
            metrics::counter!("windlass_connections_cut_total", "reason" => why.reason()).increment(1);
        }
        self.wake();
    }

    /// Why the connection is being closed, if it is.
    pub fn why_cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn refuse(&self, why: Cut, error: &ApiError) {
        self.answer(error);
        self.cut(why);
    }

    fn answer(&self, error: &ApiError) {
        self.is_refused.set(true);
        self.ahead.replace(refusal::response(error));
    }

    /// Whether a long head is arriving.
    pub fn holds_long_head(&self) -> bool {
        self.head.get() > 0
    }

    /// How readily the connection is closed to make room for another, if at all: the least goes first.
    pub fn eviction_order(&self) -> Option<(bool, Instant)> {
        let may_go = match self.phase.get() {
            Phase::Idle | Phase::Head { .. } | Phase::Discarding { .. } => true,
            Phase::Request { .. } => !self.is_trusted.get(),
        };
        (may_go && self.cut.get().is_none()).then(|| (self.is_trusted.get(), self.since.get()))
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.hold_head(0);
    }
}
