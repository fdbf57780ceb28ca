//! One pass of the sweeper. Each step depends only on the current state of the ledger, processes a bounded batch, and
//! may run any number of times and in any number of processes concurrently. If a step fails, the others still run,
//! unless the ledger is unreachable.
//!
//! | step | when | reason for the time |
//! | --- | --- | --- |
//! | a pending Upload becomes expired, its Parts garbage | at its `expires_at` | the contract's lifetime |
//! | a File becomes deleted, its Parts garbage | at its `expires_at` | set by the client or its purpose |
//! | remaining Parts of ended Uploads and deleted Files become garbage | at once | ending one marks one batch |
//! | a garbage Part's object, if any, is deleted, then its row | at `not_before` | grace for readers and writers |
//! | rows of ended Uploads and deleted Files are deleted | after `tombstone_retention`, without Parts | late retries |
//! | rows of idempotency keys are deleted | 24 hours after their insertion | the contract of the header |
//! | events of the audit trail are deleted | after `audit_retention`, if there is one | set by the operator |
//! | rows of used URLs are deleted | `tombstone_retention` after their expiry | uploads that began before it |
//!
//! While disk space is low, the object of a Part that was stored may be deleted before its `not_before`.

use std::error::Error as _;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use windlass_types::{ErrorChain, FileId, PartId};

use crate::db::garbage::{self, GarbagePolicy};
use crate::db::{self, audit, files, idempotency, signed_urls, uploads};
use crate::error::Result;
use crate::failpoints::CrashPoint;
use crate::service::Service;
use crate::store::{ObjectKey, ObjectToDelete};

/// Bounds the count of objects that could not be deleted, which only feeds a gauge.
const MAX_REFUSING_COUNTED: u32 = 100_000;

/// The timeout of the ping that checks, after a failed step, whether the ledger is reachable.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The result of one or several passes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Uploads that became expired.
    pub uploads_expired: u64,
    /// Files that became deleted.
    pub files_expired: u64,
    /// Remaining Parts of Uploads and Files that ended earlier, which became garbage.
    pub parts_discarded: u64,
    /// Garbage Parts that were deleted: objects with their rows, and rows with the bytes in them.
    pub objects_deleted: u64,
    /// Objects that could not be deleted. Their rows are kept, and the deletion is retried later.
    pub objects_failed: u64,
    /// Ended Uploads, deleted Files, used URLs, idempotency keys and events whose rows were deleted.
    pub rows_forgotten: u64,
    /// Whether a batch of the last pass was full, so that more work is due.
    pub more_to_do: bool,
    /// The steps that failed in the last pass.
    pub failed_steps: Vec<&'static str>,
    /// The duration without the time spent on deletions in the store.
    pub ledger_time: Duration,
}

impl SweepReport {
    /// Whether there was nothing to do.
    pub fn is_idle(&self) -> bool {
        *self == Self { ledger_time: self.ledger_time, ..Self::default() }
    }
}

impl AddAssign for SweepReport {
    fn add_assign(&mut self, other: Self) {
        self.uploads_expired += other.uploads_expired;
        self.files_expired += other.files_expired;
        self.parts_discarded += other.parts_discarded;
        self.objects_deleted += other.objects_deleted;
        self.objects_failed += other.objects_failed;
        self.rows_forgotten += other.rows_forgotten;
        self.more_to_do = other.more_to_do;
        self.failed_steps = other.failed_steps;
        self.ledger_time += other.ledger_time;
    }
}

/// The result of marking a batch of remaining Parts as garbage.
#[derive(Default)]
struct Discarded {
    uploads: u64,
    parts: u64,
}

/// The result of collecting a batch of garbage.
#[derive(Default)]
struct Collected {
    objects_deleted: u64,
    objects_failed: u64,
    store_time: Duration,
}

/// The maximum number of queued Uploads per pass. The query reads all remaining Parts of each, and most have more than
/// one batch.
const QUEUED_AT_ONCE: u16 = 4;

/// The maximum number of events of the audit trail that are deleted per pass. There may be several for each Upload.
const EVENTS_AT_ONCE: u16 = 1000;

/// Runs the steps of a pass and records which of them failed.
struct Pass<'s> {
    service: &'s Service,
    failed: Vec<&'static str>,
    is_ledger_unreachable: bool,
}

impl Pass<'_> {
    /// Runs a step. Once the ledger is unreachable, further steps fail at once instead of each timing out.
    async fn step<T: Default>(&mut self, name: &'static str, step: impl Future<Output = Result<T>>) -> T {
        let failures = metrics::counter!("windlass_sweep_steps_failed_total", "step" => name);
        // Exports it, so that its first increase is visible.
        failures.increment(0);
        if !self.is_ledger_unreachable {
            match step.await {
                Ok(done) => return done,
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::warn!(step = name, %error, "a step of the sweep failed and will be retried");
                }
            }
            let ping = timeout(PING_TIMEOUT, self.service.db.ping()).await;
            self.is_ledger_unreachable = !matches!(ping, Ok(Ok(())));
        }
        failures.increment(1);
        self.failed.push(name);
        T::default()
    }
}

impl Service {
    /// Runs one pass: a batch of each step. Completed steps keep their effect if others fail; failed steps are logged
    /// and listed in the report.
    pub async fn sweep(self) -> SweepReport {
        let began = Instant::now();
        let batch = u64::from(self.limits.sweep_batch);
        let mut pass = Pass { service: &self, failed: Vec::new(), is_ledger_unreachable: false };
        let uploads_expired = pass.step("expire uploads", self.with_db_timeout(self.expire_uploads())).await;
        let files_expired = pass.step("expire files", self.with_db_timeout(self.expire_files())).await;
        let discarded = pass.step("discard parts", self.with_db_timeout(self.continue_discards())).await;
        let Collected { objects_deleted, objects_failed, store_time } =
            pass.step("collect garbage", self.collect_garbage()).await;
        let uploads_forgotten = pass.step("forget uploads", self.with_db_timeout(self.forget_uploads())).await;
        let files_forgotten = pass.step("forget files", self.with_db_timeout(self.forget_files())).await;
        let urls_forgotten = pass.step("forget used URLs", self.with_db_timeout(self.forget_used_urls())).await;
        let keys_forgotten = pass.step("forget idempotency keys", self.with_db_timeout(self.forget_keys())).await;
        let events_forgotten = pass.step("forget audit events", self.with_db_timeout(self.forget_events())).await;
        let collected = objects_deleted + objects_failed;
        let forgotten = [uploads_forgotten, files_forgotten, urls_forgotten, keys_forgotten];
        let more_to_do = discarded.uploads > 0
            || events_forgotten >= u64::from(EVENTS_AT_ONCE)
            || [uploads_expired, files_expired, collected].iter().chain(&forgotten).any(|count| *count >= batch);
        metrics::counter!("windlass_uploads_expired_total").increment(uploads_expired);
        metrics::counter!("windlass_files_expired_total").increment(files_expired);
        metrics::counter!("windlass_objects_deleted_total").increment(objects_deleted);
        metrics::counter!("windlass_object_deletions_failed_total").increment(objects_failed);
        if !more_to_do {
            pass.step("count refusing objects", self.with_db_timeout(self.count_refusing())).await;
        }
        SweepReport {
            uploads_expired,
            files_expired,
            parts_discarded: discarded.parts,
            objects_deleted,
            objects_failed,
            rows_forgotten: forgotten.iter().sum::<u64>() + events_forgotten,
            more_to_do,
            failed_steps: pass.failed,
            ledger_time: began.elapsed().saturating_sub(store_time),
        }
    }

    /// Runs passes until no batch is full: all work that is due is then done, except what failed in the last pass.
    pub async fn sweep_all(self) -> SweepReport {
        let mut total = SweepReport::default();
        loop {
            total += self.clone().sweep().await;
            if !total.more_to_do {
                return total;
            }
        }
    }

    /// The parameters for marking Parts as garbage.
    pub(crate) fn garbage_policy(&self) -> GarbagePolicy {
        GarbagePolicy {
            grace: self.limits.deletion_grace,
            writer_lifetime: self.writer_lifetime(),
            batch: self.limits.discard_batch,
        }
    }

    async fn expire_uploads(&self) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let expired = uploads::mark_expired(&mut tx, self.limits.sweep_batch).await?;
        CrashPoint::UploadsExpired.passed();
        garbage::discard(&mut tx, &expired, self.garbage_policy()).await?;
        CrashPoint::UploadsDiscarded.passed();
        db::commit(tx).await?;
        CrashPoint::UploadExpiryCommitted.passed();
        Ok(expired.len() as u64)
    }

    async fn expire_files(&self) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let expired = files::mark_expired(&mut tx, self.limits.sweep_batch).await?;
        CrashPoint::FilesExpired.passed();
        let uploads: Vec<_> = expired.iter().copied().map(FileId::upload).collect();
        garbage::discard(&mut tx, &uploads, self.garbage_policy()).await?;
        CrashPoint::FilesDiscarded.passed();
        db::commit(tx).await?;
        CrashPoint::FileExpiryCommitted.passed();
        Ok(expired.len() as u64)
    }

    /// Marks the next batch of remaining Parts as garbage. A separate statement locks the queue's rows first, so that
    /// the snapshot of the next one includes the commit of the previous lock holder.
    async fn continue_discards(&self) -> Result<Discarded> {
        if !garbage::any_queued(&self.db).await? {
            return Ok(Discarded::default());
        }
        let mut tx = self.db.begin().await?;
        let queued = garbage::lock_oldest(&mut tx, QUEUED_AT_ONCE).await?;
        let parts = garbage::continue_batch(&mut tx, &queued, self.garbage_policy()).await?;
        CrashPoint::DiscardContinued.passed();
        db::commit(tx).await?;
        CrashPoint::DiscardCommitted.passed();
        Ok(Discarded { uploads: queued.len() as u64, parts })
    }

    /// Deletes objects, then their rows. No transaction is open during the requests to the store.
    async fn collect_garbage(&self) -> Result<Collected> {
        // In a store of another ledger, the objects would be missing and therefore count as deleted.
        self.readiness.check_store()?;
        // While disk space is low, freeing it is more important than the grace for readers and backups.
        let early = if self.is_short_of_space() { self.limits.deletion_grace } else { Duration::ZERO };
        let claimed = self.with_db_timeout(garbage::claim(&self.db, self.limits.sweep_batch, early)).await?;
        if claimed.is_empty() {
            return Ok(Collected::default());
        }
        CrashPoint::GarbageClaimed.passed();
        let mut gone: Vec<PartId> = claimed.iter().map(|it| it.part).collect();
        // Bytes in the ledger are deleted with their row.
        let objects = claimed
            .into_iter()
            .filter(|it| !it.in_ledger)
            .map(|it| ObjectToDelete { key: ObjectKey::from(it.part), multipart: it.multipart, whole: it.whole })
            .collect();
        let began = Instant::now();
        let failed = self.blobs.delete(objects).await;
        let store_time = began.elapsed();
        CrashPoint::ObjectsDeleted.passed();
        for (key, error) in &failed {
            let part = key.part();
            gone.retain(|it| *it != part);
            let reason = error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
            tracing::warn!(part.id = %part, reason, "an object could not be deleted and will be retried");
            self.with_db_timeout(garbage::set_last_error(&self.db, part, &reason)).await?;
        }
        let objects_deleted = self.with_db_timeout(garbage::delete_collected(&self.db, &gone)).await?;
        CrashPoint::RowsDeleted.passed();
        Ok(Collected { objects_deleted, objects_failed: failed.len() as u64, store_time })
    }

    async fn forget_uploads(&self) -> Result<u64> {
        let forgotten =
            uploads::delete_ended(&self.db, self.limits.tombstone_retention, self.limits.sweep_batch).await?;
        CrashPoint::UploadsForgotten.passed();
        Ok(forgotten)
    }

    async fn forget_files(&self) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let gone = files::delete_gone(&mut tx, self.limits.tombstone_retention, self.limits.sweep_batch).await?;
        CrashPoint::FilesForgotten.passed();
        let completed: Vec<_> = gone.iter().copied().map(FileId::upload).collect();
        uploads::delete_completed(&mut tx, &completed).await?;
        db::commit(tx).await?;
        CrashPoint::ForgettingCommitted.passed();
        Ok(completed.len() as u64)
    }

    async fn forget_used_urls(&self) -> Result<u64> {
        let (age, batch) = (self.limits.tombstone_retention, self.limits.sweep_batch);
        Ok(signed_urls::delete_expired_uses(&self.db, age, batch).await?)
    }

    async fn forget_keys(&self) -> Result<u64> {
        Ok(idempotency::delete_expired(&self.db, self.limits.sweep_batch).await?)
    }

    /// Only with an audit trail: a process without these settings does not know how long events are kept.
    async fn forget_events(&self) -> Result<u64> {
        let Some(retention) = self.limits.audit_retention else { return Ok(0) };
        Ok(audit::delete_old(&self.db, retention, EVENTS_AT_ONCE).await?)
    }

    async fn count_refusing(&self) -> Result<()> {
        let refusing = garbage::count_refusing(&self.db, MAX_REFUSING_COUNTED).await?;
        metrics::gauge!("windlass_objects_refusing_deletion").set(refusing);
        Ok(())
    }
}
