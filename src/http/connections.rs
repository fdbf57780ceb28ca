//! The connections of one worker: how many there may be, which one makes room for another, and the watchdog that
//! enforces their timeouts.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use actix_web::rt;
use tokio::time::{Instant, interval};

use super::activity::{Activity, Cut};

/// How often the timeouts are checked.
const TICK: Duration = Duration::from_secs(1);

/// How many connections there may be beyond the maximum, while those that were evicted close.
const MARGIN: usize = 64;

/// The bounds on connections, before and beside those on requests.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// How many there may be in all; if not set, as many as file descriptors allow.
    pub max: Option<usize>,
    /// How long a request's head may take, from its first byte.
    pub head_timeout: Duration,
    /// How long a connection may be idle.
    pub keep_alive: Duration,
    /// How long a client may go without reading any of a response.
    pub send_timeout: Duration,
    /// The least average rate at which a response is read, in bytes per second.
    pub min_rate: u64,
    /// Memory for long heads that are still arriving.
    pub heads_bytes: usize,
}

impl ConnectionLimits {
    /// The share of one worker.
    #[must_use]
    pub fn for_worker(&self, workers: usize) -> Self {
        let share = |it: usize| it.div_ceil(workers.max(1));
        Self { max: self.max.map(share), heads_bytes: share(self.heads_bytes), ..self.clone() }
    }

    fn max(&self) -> usize {
        self.max.unwrap_or(usize::MAX - 2 * MARGIN)
    }

    /// How many connections the HTTP server may accept before it pauses.
    pub fn accepted(&self) -> usize {
        self.max() + 2 * MARGIN
    }
}

/// The open connections of a worker.
pub struct Connections {
    limits: ConnectionLimits,
    open: RefCell<BTreeMap<u64, Rc<Activity>>>,
    heads: Rc<Cell<usize>>,
    next: Cell<u64>,
    is_watched: Cell<bool>,
}

/// An open connection's place among the others, for as long as it is held.
pub struct Place {
    connections: Rc<Connections>,
    activity: Rc<Activity>,
    id: u64,
}

impl Connections {
    pub fn new(limits: ConnectionLimits) -> Rc<Self> {
        Rc::new(Self {
            limits,
            open: RefCell::default(),
            heads: Rc::default(),
            next: Cell::new(0),
            is_watched: Cell::new(false),
        })
    }

    /// Admits a connection. If there are too many, the one without a key that has waited longest is closed for it, or
    /// the idle one that has; nothing is returned if all are at work.
    pub fn admit(self: &Rc<Self>) -> Option<Place> {
        if !self.is_watched.replace(true) {
            rt::spawn(self.clone().watch());
        }
        let count = self.open.borrow().len();
        if count >= self.limits.max() && (!self.evict(|_| true) || count >= self.limits.max() + MARGIN) {
            metrics::counter!("windlass_connections_cut_total", "reason" => "refused").increment(1);
            return None;
        }
        let id = self.next.replace(self.next.get() + 1);
        let activity = Rc::new(Activity::new(self.heads.clone()));
        self.open.borrow_mut().insert(id, activity.clone());
        metrics::gauge!("windlass_connections").increment(1);
        Some(Place { connections: self.clone(), activity, id })
    }

    fn evict(&self, may_go: impl Fn(&Activity) -> bool) -> bool {
        let open = self.open.borrow();
        let candidates = open.values().filter(|it| may_go(it)).filter_map(|it| Some((it.eviction_order()?, it)));
        let Some((_, evicted)) = candidates.min_by_key(|it| it.0) else { return false };
        evicted.cut(Cut::Evicted);
        true
    }

    async fn watch(self: Rc<Self>) {
        let mut ticks = interval(TICK.min(self.limits.head_timeout / 4));
        loop {
            ticks.tick().await;
            let now = Instant::now();
            for activity in self.open.borrow().values() {
                activity.check(now, &self.limits);
            }
        }
    }
}

impl Place {
    /// What the connection is doing.
    pub fn activity(&self) -> &Rc<Activity> {
        &self.activity
    }

    /// Closes the connection whose long head has been arriving for longest, if there is no memory for all of them.
    pub fn shed_heads(&self) {
        if self.connections.heads.get() > self.connections.limits.heads_bytes {
            self.connections.evict(Activity::holds_long_head);
        }
    }
}

impl Deref for Place {
    type Target = Activity;

    fn deref(&self) -> &Activity {
        &self.activity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.id);
        metrics::gauge!("windlass_connections").decrement(1);
    }
}
