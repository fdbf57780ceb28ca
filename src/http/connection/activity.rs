//! The state of a client connection: its current phase, and the limits on each phase.
//!
//! The socket, the requests on it and the worker's watchdog share one [`Activity`]. It is used by one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::connections::{ConnectionLimits, Cut};
use super::early_response;
use super::output::Output;
use super::pipeline::Pipeline;
use super::unread::{Held, Unread};
use super::{Flushed, Reading};
use crate::http::error::ApiError;

/// The maximum size of a request head.
pub const HEAD_BYTES: usize = 32 * 1024;

/// The maximum read size where heads are expected: a buffer full of pipelined requests would be parsed as a whole.
const HEAD_STEP: usize = 4096;

/// The maximum number of bytes of a body discarded after an early response: the largest part and the rest of its form.
pub const LINGER_BYTES: u64 = 80 * 1024 * 1024;

/// The maximum time for discarding such a body, so that the client receives the response instead of a broken pipe.
pub const LINGER: Duration = Duration::from_secs(5);

/// The maximum ratio of bytes read to bytes of the body: a chunk of one byte has five bytes of framing.
const FRAMING_FACTOR: u64 = 8;
/// Allowed in addition, to cover what was read ahead.
const FRAMING_BYTES: u64 = 1024 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte of a request has arrived.
    Idle,
    /// A request's head is arriving. If `is_parsed` is unset, the bytes so far are parsed before more are read.
    Head { bytes: usize, is_parsed: bool },
    /// A request is being handled: bytes read from the socket since its head, bytes of its body, and whether the body
    /// has more.
    Request { read: u64, body: u64, is_open: bool },
    /// After an early response, the rest of the body is discarded, up to `left` bytes. Then the connection closes.
    Discarding { left: u64 },
}

/// The state of one connection.
pub struct Activity {
    accepted: Instant,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// Whether the response has been produced completely.
    is_answered: Cell<bool>,
    /// Whether a request with a valid key has arrived.
    is_trusted: Cell<bool>,
    cut: Cell<Option<Cut>>,
    /// Written before anything else: `100 Continue`, or a response that does not come from a handler.
    ahead: RefCell<Bytes>,
    lingers: Cell<bool>,
    /// Whether the client has closed its side of the connection.
    has_ended: Cell<bool>,
    /// The number of bytes sent before the request began.
    sent_before: Cell<u64>,
    /// Whether the HTTP library is about to write `100 Continue`.
    announces_continue: Cell<bool>,
    unread: Unread,
    pipeline: Pipeline,
    /// The number of bytes after which the body of the request may end.
    may_end_after: Cell<u64>,
    /// Whether reading is paused until the handler consumes bytes of the body.
    awaits_handler: Cell<bool>,
    output: Output,
    waker: RefCell<Option<Waker>>,
}

impl Activity {
    /// The state of a newly accepted connection. `held` is shared by all connections of this worker.
    pub fn new(held: Rc<Held>) -> Self {
        let now = Instant::now();
        Self {
            accepted: now,
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            is_answered: Cell::new(false),
            is_trusted: Cell::new(false),
            cut: Cell::new(None),
            ahead: RefCell::default(),
            lingers: Cell::new(false),
            has_ended: Cell::new(false),
            sent_before: Cell::new(0),
            announces_continue: Cell::new(false),
            unread: Unread::new(held),
            pipeline: Pipeline::default(),
            may_end_after: Cell::new(0),
            awaits_handler: Cell::new(false),
            output: Output::new(now),
            waker: RefCell::default(),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
        self.unread.restart();
        self.taken(0);
    }

    /// Records that the handler has consumed bytes that were read ahead.
    fn taken(&self, bytes: usize) {
        self.unread.take_body(bytes);
        if self.awaits_handler.take() {
            self.wake();
        }
    }

    /// Registers the task to wake when the connection is cut.
    pub fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|it| !it.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Decides whether to read from the socket.
    pub fn reading(&self, limits: &ConnectionLimits) -> Reading {
        if self.cut.get().is_some() {
            return Reading::Stop;
        }
        if self.pipeline.is_cut() {
            return Reading::Pause;
        }
        match self.phase.get() {
            Phase::Head { bytes, is_parsed: false } => {
                self.phase.set(Phase::Head { bytes, is_parsed: true });
                Reading::Pause
            }
            Phase::Head { bytes, is_parsed: true } if bytes >= HEAD_BYTES => {
                self.refuse(Cut::HeadTooLarge, &ApiError::head_too_large(HEAD_BYTES));
                Reading::Stop
            }
            Phase::Request { read, body, .. } if read > FRAMING_BYTES + FRAMING_FACTOR * body => {
                self.cut(Cut::Framing);
                Reading::Stop
            }
            // Part of the next request is read, which also detects a client that resets the connection.
            Phase::Request { is_open, .. } if self.unread.is_ahead(limits) || (!is_open && self.pipeline.is_full()) => {
                self.awaits_handler.set(true);
                Reading::Wait
            }
            Phase::Discarding { left: 0 } => {
                self.cut(Cut::Discarded);
                Reading::Stop
            }
            Phase::Discarding { .. } => Reading::Discard,
            Phase::Idle | Phase::Head { .. } | Phase::Request { .. } => Reading::Go,
        }
    }

    /// The maximum number of bytes per read.
    pub fn read_step(&self) -> usize {
        match self.phase.get() {
            Phase::Idle | Phase::Head { .. } | Phase::Request { is_open: false, .. } => HEAD_STEP,
            Phase::Request { is_open: true, .. } | Phase::Discarding { .. } => usize::MAX,
        }
    }

    /// How many of the bytes that were read may be parsed now. The others have to be passed again.
    pub fn admit(&self, read: &[u8]) -> usize {
        match self.phase.get() {
            Phase::Request { read: before, is_open: true, .. } => {
                let may_end = before + read.len() as u64 > self.may_end_after.get();
                if may_end { self.pipeline.admit(read, true) } else { read.len() }
            }
            Phase::Idle | Phase::Head { .. } | Phase::Request { .. } | Phase::Discarding { .. } => {
                self.pipeline.admit(read, false)
            }
        }
    }

    /// Counts bytes that were read from the socket; 0 means that the client has closed its side.
    pub fn received(&self, bytes: usize) {
        let count = bytes as u64;
        self.has_ended.set(self.has_ended.get() || bytes == 0);
        match self.phase.get() {
            Phase::Idle if bytes > 0 => self.enter(Phase::Head { bytes, is_parsed: bytes < HEAD_STEP }),
            Phase::Idle => {}
            Phase::Head { bytes: before, .. } => {
                let all = before + bytes;
                self.phase.set(Phase::Head { bytes: all, is_parsed: bytes < HEAD_STEP && all < HEAD_BYTES });
                self.unread.set_head(all);
            }
            Phase::Request { read, body, is_open } => {
                self.phase.set(Phase::Request { read: read + count, body, is_open });
                self.unread.add_body(bytes);
            }
            Phase::Discarding { left } => self.phase.set(Phase::Discarding { left: left.saturating_sub(count) }),
        }
    }

    /// Counts bytes written to the socket, and records whether it is full.
    pub fn sent(&self, bytes: u64, is_blocked: bool) {
        self.output.sent(bytes, is_blocked);
    }

    /// Records that everything written so far has been passed to the socket.
    pub fn flushed(&self) -> Flushed {
        self.output.sent(0, false);
        match self.phase.get() {
            Phase::Request { .. } if self.is_answered.take() => {
                self.pipeline.flushed();
                self.enter(Phase::Idle);
                Flushed::Some
            }
            Phase::Discarding { .. } if self.is_answered.take() => Flushed::Last,
            Phase::Idle | Phase::Head { .. } | Phase::Request { .. } | Phase::Discarding { .. } => Flushed::Some,
        }
    }

    /// The bytes to write before anything else.
    pub fn ahead(&self) -> &RefCell<Bytes> {
        &self.ahead
    }

    /// Intercepts what the HTTP library writes by itself: it sends `100 Continue` before a handler reads the body, and
    /// its response to a malformed head has no error body. Returns the number of intercepted bytes.
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

    /// Called when the HTTP library drops the connection. Returns whether the client may still be sending.
    pub fn dropped(&self) -> bool {
        if self.has_ended.get() || self.cut.get().is_some() {
            return self.lingers.get();
        }
        let (is_cut_short, may_be_sending) = match self.phase.get() {
            Phase::Idle | Phase::Head { .. } => (false, false),
            Phase::Request { is_open, .. } => (is_open || self.lingers.get(), false),
            Phase::Discarding { .. } => (true, self.since.get().elapsed() < LINGER),
        };
        // The library treats malformed chunks like a lost connection, and drops the handler or the response.
        if is_cut_short && self.output.total() == self.sent_before.get() {
            self.answer(&ApiError::malformed("The body's chunks are malformed (RFC 9112, section 7.1)."));
        }
        may_be_sending || self.lingers.get()
    }

    /// Records that a request's head has been parsed. `length` is the declared length of its body.
    pub fn begin(&self, has_body: bool, length: Option<u64>) {
        // The phase does not count the bytes of the body that were read together with the head.
        self.may_end_after.set(length.map_or(0, |it| it.saturating_sub(HEAD_STEP as u64)));
        self.is_answered.set(false);
        self.sent_before.set(self.output.total());
        self.enter(Phase::Request { read: 0, body: 0, is_open: has_body });
    }

    /// The client expects `100 Continue`. The HTTP library writes it next, which is intercepted;
    /// [`Activity::send_continue`] writes it once the body is read.
    pub fn delay_continue(&self) {
        self.announces_continue.set(true);
    }

    /// Records that a request has a valid key.
    pub fn trust(&self) {
        self.is_trusted.set(true);
    }

    /// Counts bytes of the request's body that were passed to the handler.
    pub fn delivered(&self, bytes: usize) {
        if let Phase::Request { read, body, is_open } = self.phase.get() {
            self.phase.set(Phase::Request { read, body: body + bytes as u64, is_open });
            self.taken(bytes);
        }
    }

    /// Records that the request's body is complete.
    pub fn has_read_body(&self) {
        if let Phase::Request { read, body, .. } = self.phase.get() {
            self.phase.set(Phase::Request { read, body, is_open: false });
        }
    }

    /// Records that the request's body is malformed or truncated: the HTTP library then closes the connection.
    pub fn has_broken_body(&self) {
        self.lingers.set(true);
    }

    /// Records that the handler has consumed all bytes that were read ahead.
    pub fn has_caught_up(&self) {
        self.taken(usize::MAX);
    }

    /// Sends `100 Continue` before anything else.
    pub fn send_continue(&self) {
        self.ahead.replace(Bytes::from_static(CONTINUE));
    }

    /// Records that the handler has responded before the end of the body.
    pub fn discard_body(&self) {
        self.enter(Phase::Discarding { left: LINGER_BYTES });
    }

    /// Records that the response has been produced completely.
    pub fn answered(&self) {
        self.is_answered.set(true);
    }

    /// Switches to discarding what the client still sends. The connection may be evicted meanwhile.
    pub fn linger(&self) {
        self.cut.set(None);
        self.enter(Phase::Discarding { left: LINGER_BYTES });
    }

    /// Cuts the connection if it has exceeded a limit. Called regularly.
    pub fn check(&self, now: Instant, limits: &ConnectionLimits) {
        let lasted = now - self.since.get();
        match self.phase.get() {
            // Already cut, but the error response may not have been sent yet.
            _ if self.cut.get().is_some() => {}
            Phase::Idle if lasted >= limits.keep_alive => self.cut(Cut::Idle),
            Phase::Head { .. } if lasted >= limits.head_timeout => {
                self.refuse(Cut::HeadTimeout, &ApiError::head_timeout(limits.head_timeout));
                self.wake();
            }
            Phase::Idle | Phase::Head { .. } | Phase::Request { .. } | Phase::Discarding { .. } => {}
        }
        if !self.output.is_being_read(now, limits) {
            self.cut(Cut::NotReading);
        }
    }

    /// Makes the task of the connection close it. Only the first reason is counted.
    pub fn cut(&self, why: Cut) {
        if self.cut.replace(Some(why)).is_none() {
            why.count();
        }
        self.wake();
    }

    /// Whether pending output is discarded.
    pub fn is_abandoned(&self) -> bool {
        matches!(self.cut.get(), Some(Cut::NotReading | Cut::Evicted))
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
        self.lingers.set(true);
        self.ahead.replace(early_response::response(error));
    }

    /// Whether a long head is arriving.
    pub fn holds_long_head(&self) -> bool {
        self.unread.has_long_head()
    }

    /// Whether a request with a valid key has arrived.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted.get()
    }

    /// The eviction order: when it was accepted or, with a valid key, when its phase began. `None` if not evictable.
    pub fn evictable_from(&self) -> Option<Instant> {
        let may_go = match self.phase.get() {
            Phase::Idle | Phase::Head { .. } | Phase::Discarding { .. } => true,
            Phase::Request { .. } => !self.is_trusted.get(),
        };
        let from = if self.is_trusted.get() { self.since.get() } else { self.accepted };
        (may_go && !self.is_abandoned()).then_some(from)
    }
}
