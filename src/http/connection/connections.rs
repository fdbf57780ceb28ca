//! The connections of one worker: their maximum number, the eviction policy, the watchdog that enforces timeouts, and
//! the reasons for closing a connection.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use actix_web::rt;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};

use super::Reading;
use super::activity::Activity;
use super::unread::Held;

/// The interval between checks of the timeouts.
const TICK: Duration = Duration::from_secs(1);

/// The number of connections that a worker accepts beyond its maximum, so that it can evict others.
const MARGIN: usize = 64;

/// The minimum number of connections per worker: with fewer, there are fewer workers.
const MIN_PER_WORKER: usize = 512;

/// The limits on connections, in addition to those on requests.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The maximum number of connections; if not set, as many as the file descriptor limit allows.
    pub max: Option<usize>,
    /// The timeout for receiving a request head, from its first byte.
    pub head_timeout: Duration,
    /// The maximum idle time of a connection.
    pub keep_alive: Duration,
    /// How long a client may stop reading a response.
    pub send_timeout: Duration,
    /// The minimum average rate at which a response must be read, in bytes per second.
    pub min_rate: u64,
    /// The memory for long heads that are still arriving, in bytes.
    pub heads_bytes: usize,
    /// The memory for bytes of bodies that are read ahead of their handlers, beyond a few kilobytes per body, in bytes.
    pub read_ahead_bytes: usize,
}

impl ConnectionLimits {
    /// The share of one worker.
    #[must_use]
    pub fn for_worker(&self, workers: usize) -> Self {
        let share = |it: usize| it.div_ceil(workers.max(1));
        Self {
            max: self.max.map(share),
            heads_bytes: share(self.heads_bytes),
            read_ahead_bytes: share(self.read_ahead_bytes),
            ..self.clone()
        }
    }

    /// The number of workers: at most one per processor, and at most one per 512 connections.
    pub fn workers(&self, processors: usize) -> usize {
        processors.min(self.max() / MIN_PER_WORKER).max(1)
    }

    fn max(&self) -> usize {
        self.max.unwrap_or(usize::MAX / 2)
    }

    /// The number of connections at which the HTTP server stops accepting.
    pub fn accepted(&self) -> usize {
        self.max() + MARGIN
    }
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
    /// After an early response, too much of the body followed.
    Discarded,
    /// The client did not read the response, or read it too slowly.
    NotReading,
    /// The connection was evicted in favour of another.
    Evicted,
    /// There were too many connections, and none could be evicted.
    Refused,
}

impl Cut {
    const ALL: [Self; 8] = [
        Self::Idle,
        Self::HeadTimeout,
        Self::HeadTooLarge,
        Self::Framing,
        Self::Discarded,
        Self::NotReading,
        Self::Evicted,
        Self::Refused,
    ];

    /// Exports all reasons, so that their first increase is visible.
    fn export() {
        for reason in Self::ALL {
            reason.add(0);
        }
    }

    /// Counts a connection that is closed for this reason.
    pub fn count(self) {
        self.add(1);
    }

    fn add(self, connections: u64) {
        let reason = match self {
            Self::Idle => "idle",
            Self::HeadTimeout => "head_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::Framing => "framing",
            Self::Discarded => "discarded",
            Self::NotReading => "not_reading",
            Self::Evicted => "evicted",
            Self::Refused => "refused",
        };
        metrics::counter!("windlass_connections_cut_total", "reason" => reason).increment(connections);
    }
}

/// The open connections of a worker.
pub struct Connections {
    limits: ConnectionLimits,
    open: RefCell<BTreeMap<u64, Open>>,
    held: Rc<Held>,
    next: Cell<u64>,
    is_watched: Cell<bool>,
}

/// An open connection. Eviction takes the socket out and so closes it immediately: in a burst of new connections, many
/// are admitted before the tasks of the evicted ones run.
#[derive(Clone)]
struct Open {
    activity: Rc<Activity>,
    socket: Rc<RefCell<Option<TcpStream>>>,
}

/// The registration of an open connection; ends on drop.
pub struct Place {
    connections: Rc<Connections>,
    open: Open,
    id: u64,
}

impl Connections {
    pub fn new(limits: ConnectionLimits) -> Rc<Self> {
        Cut::export();
        Rc::new(Self {
            limits,
            open: RefCell::default(),
            held: Rc::default(),
            next: Cell::new(0),
            is_watched: Cell::new(false),
        })
    }

    /// Admits a connection. If the maximum is reached, one is evicted: the oldest one without a valid key if more than
    /// half have none, so that these cannot displace the others; otherwise the one that has been idle longest, so that
    /// new connections can present a key. `None` if no connection can be evicted.
    pub fn admit(self: &Rc<Self>, socket: TcpStream) -> Option<Place> {
        if !self.is_watched.replace(true) {
            rt::spawn(self.clone().watch());
        }
        if self.open.borrow().len() >= self.limits.max() && !self.evict(|_| true, self.are_mostly_untrusted()) {
            Cut::Refused.count();
            return None;
        }
        let id = self.next.replace(self.next.get() + 1);
        let activity = Rc::new(Activity::new(self.held.clone()));
        let open = Open { activity, socket: Rc::new(RefCell::new(Some(socket))) };
        self.open.borrow_mut().insert(id, open.clone());
        metrics::gauge!("windlass_connections").increment(1);
        Some(Place { connections: self.clone(), open, id })
    }

    fn are_mostly_untrusted(&self) -> bool {
        let open = self.open.borrow();
        open.values().filter(|it| !it.activity.is_trusted()).count() * 2 > open.len()
    }

    /// Closes the first evictable connection; those without a valid key come first or last. Returns whether there was
    /// one.
    fn evict(&self, may_go: impl Fn(&Activity) -> bool, untrusted_first: bool) -> bool {
        let mut all = self.open.borrow_mut();
        let candidates = all.iter().filter(|(_, it)| may_go(&it.activity));
        let ordered = candidates.filter_map(|(id, it)| {
            let from = it.activity.evictable_from()?;
            Some((it.activity.is_trusted() == untrusted_first, from, *id))
        });
        let Some(evicted) = ordered.min().and_then(|(.., id)| all.remove(&id)) else { return false };
        evicted.activity.cut(Cut::Evicted);
        evicted.socket.take();
        true
    }

    async fn watch(self: Rc<Self>) {
        let mut ticks = interval(TICK.min(self.limits.head_timeout / 4));
        loop {
            ticks.tick().await;
            let now = Instant::now();
            for open in self.open.borrow().values() {
                open.activity.check(now, &self.limits);
            }
        }
    }
}

impl Place {
    /// Decides whether to read from the socket.
    pub fn reading(&self) -> Reading {
        self.open.activity.reading(&self.connections.limits)
    }

    /// The state of the connection.
    pub fn activity(&self) -> &Rc<Activity> {
        &self.open.activity
    }

    /// The socket.
    ///
    /// # Errors
    /// `NotConnected` when the connection was evicted.
    pub fn socket(&self) -> io::Result<RefMut<'_, TcpStream>> {
        let socket = RefMut::filter_map(self.open.socket.borrow_mut(), Option::as_mut);
        socket.map_err(|_| io::ErrorKind::NotConnected.into())
    }

    /// Evicts a connection with a long head that is still arriving, if such heads exceed their memory.
    pub fn shed_heads(&self) {
        if self.connections.held.heads() > self.connections.limits.heads_bytes {
            self.connections.evict(Activity::holds_long_head, true);
        }
    }
}

impl Deref for Place {
    type Target = Activity;

    fn deref(&self) -> &Activity {
        &self.open.activity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.id);
        metrics::gauge!("windlass_connections").decrement(1);
    }
}
