//! The audit trail: events of requests are recorded before their responses, those of commands in their transactions.
//!
//! Concurrent events are inserted by one statement, with one commit, as new Uploads are (`create_batcher.rs`).

use std::slice;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::unistd::{Uid, User};
use uuid::Uuid;
use windlass_types::{ErrorChain, KeyId, ProjectName};

use crate::db::{self, Db, Tx, audit};
use crate::error::{Error, Result};
use crate::model::{
    AuditAction, AuditActor, AuditEntry, AuditEvent, AuditFilter, AuditObject, AuditOrigin, AuditOutcome, AuditProject,
};
use crate::resources::batch_queue::Waiting;
use crate::retry::retry;
use crate::service::Service;

/// The number of events that are read at once.
const PAGE: u16 = 2000;

/// The longest names of the user and of the host that are recorded, in bytes.
const MAX_USER_BYTES: usize = 64;
const MAX_HOST_BYTES: usize = 255;

/// The events of a request. They are recorded together.
pub(crate) type Events = Vec<AuditEvent>;

impl Service {
    /// Whether there is an audit trail.
    pub fn is_audited(&self) -> bool {
        self.limits.audit_retention.is_some()
    }

    /// Records the events of a request, and returns when they are committed.
    ///
    /// # Errors
    /// [`Error::Unaudited`] if they could not be recorded: then the request must not succeed.
    pub async fn record_audit(&self, events: Vec<AuditEvent>) -> Result<()> {
        let count = events.len();
        let (recorded, guard) = self.audit_queue.add(events).map_err(|error| {
            lost(count, &error);
            Error::Unaudited
        })?;
        if let Some(mut guard) = guard {
            let this = self.clone();
            let drain = async move {
                while let Some(batch) = guard.take_all() {
                    this.insert_events(batch).await;
                }
            };
            // Without the span of this request, since it records the events of others, too.
            self.tasks.spawn_on(drain, &self.runtime);
        }
        let recorded = self.with_db_timeout(async { recorded.await.map_err(|_| Error::Unaudited) });
        recorded.await.map_err(|_| Error::Unaudited)
    }

    /// Records events without waiting, for a request whose client has disconnected.
    pub fn record_audit_in_background(&self, events: Vec<AuditEvent>) {
        let this = self.clone();
        self.spawn(async move { this.record_audit(events).await.ok() });
    }

    async fn insert_events(&self, batch: Vec<Waiting<Events, ()>>) {
        let (events, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|it| (it.item, it.reply)).unzip();
        let events = events.concat();
        let insert = async || Ok::<_, Error>(audit::insert(&self.db, &events).await?);
        let inserted = async { retry!(self, insert()) };
        match self.with_db_timeout(inserted).await {
            Ok(()) => {
                for reply in replies {
                    // Fails if the client has disconnected, which drops the receiver.
                    reply.send(()).ok();
                }
            }
            Err(error) => lost(events.len(), &error),
        }
    }
}

/// Counts and logs events that could not be added.
fn lost(events: usize, error: &Error) {
    metrics::counter!("windlass_audit_events_lost_total").increment(events as u64);
    tracing::error!(error = %ErrorChain(error), events, "the audit trail is incomplete");
}

/// Records an act of the operator, in its transaction, and commits it.
///
/// # Errors
/// When the ledger fails.
pub(crate) async fn commit_act(mut tx: Tx, is_audited: bool, acts: &[Act<'_>]) -> Result<()> {
    if is_audited {
        for act in acts {
            audit::insert(&mut tx, slice::from_ref(&act.event())).await?;
        }
    }
    Ok(db::commit(tx).await?)
}

/// An act of the operator.
pub(crate) struct Act<'a> {
    pub(crate) action: AuditAction,
    pub(crate) project: Option<&'a ProjectName>,
    pub(crate) key: Option<KeyId>,
}

impl Act<'_> {
    fn event(&self) -> AuditEvent {
        AuditEvent {
            id: Uuid::now_v7(),
            action: self.action,
            outcome: AuditOutcome::Ok,
            status: None,
            actor: AuditActor::Operator(operator()),
            project: self.project.cloned().map(AuditProject::Name),
            object: self.key.map(AuditObject::Key),
            origin: AuditOrigin::default(),
        }
    }
}

/// The user that this process runs as, and the name of the machine.
fn operator() -> String {
    let uid = Uid::effective();
    let mut user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |it| it.name);
    user.truncate(user.floor_char_boundary(MAX_USER_BYTES));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{user}@{}", &host[..host.floor_char_boundary(MAX_HOST_BYTES)])
}

/// A time that is given to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At this time.
    At(DateTime<Utc>),
    /// This long before now, by the database's clock.
    Ago(Duration),
}

impl Moment {
    fn from(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Ago(age) => {
                now.checked_sub_signed(chrono::Duration::from_std(age).unwrap_or_default()).unwrap_or(now)
            }
        }
    }
}

/// An export of the audit trail, oldest events first. It holds one page in memory.
#[derive(Debug)]
pub struct AuditExport {
    db: Db,
    next: Option<db::Position>,
    until: DateTime<Utc>,
    filter: AuditFilter,
}

impl AuditExport {
    /// Begins an export of the events from `since` until before `until`; by default, of all up to now.
    ///
    /// # Errors
    /// [`Error::NoTime`] if there is no time between the two, or when the ledger fails.
    pub async fn begin(db: Db, since: Option<Moment>, until: Option<Moment>, filter: AuditFilter) -> Result<Self> {
        let now = audit::now(&db).await?;
        let until = until.map_or(now, |it| it.from(now));
        let since = since.map_or(DateTime::UNIX_EPOCH, |it| it.from(now));
        if since >= until {
            return Err(Error::NoTime { since, until });
        }
        Ok(Self { db, next: Some(audit::from(since)), until, filter })
    }

    /// The next events, none of which may match the filter; `None` after the last one.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn next(&mut self) -> Result<Option<Vec<AuditEntry>>> {
        let Some(after) = self.next else { return Ok(None) };
        let audit::Page { entries, next } = audit::page(&self.db, after, self.until, &self.filter, PAGE).await?;
        self.next = next;
        Ok(next.is_some().then_some(entries))
    }
}
