//! One pass of the sweeper. Each step depends only on the current state, takes a bounded batch, and may run any number
//! of times, in any number of processes, at once. A failed step does not prevent the others from running, unless the
//! ledger is unreachable.
//!
//! | what | when | why then |
//! | --- | --- | --- |
//! | a pending Upload becomes expired, its Parts garbage | at its `expires_at` | the contract's lifetime |
//! | a File past `expires_at` becomes deleted, its Parts garbage | at that time | the client said so |
//! | Parts left over when an Upload or a File ended become garbage | at once | ending it marks at most one batch |
//! | the object, if any, of a garbage Part is deleted, then its row | at `not_before` | grace for readers and writers |
//! | an ended Upload, a deleted File and its Upload lose their rows | a week after, once no object is left | late retries get a true answer |
//!
//! When disk space is low, the object of a Part that was stored is deleted without waiting for `not_before`.

use std::error::Error as _;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{Result, Service};
use crate::blobs::{BlobKey, Doomed};
use crate::crash::CrashPoint;
use crate::db::discards::{self, Discard};
use crate::db::{self, files, parts, uploads};
use crate::domain::{FileId, PartId};

/// Caps the count of objects that could not be deleted: it only feeds a gauge, and is queried by every pass.
const REFUSING_COUNTED: u32 = 100_000;

/// Timeout of the ping that checks, after a failed step, whether the ledger is reachable.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// What a pass did: counts, whether a batch was full, so that more work is due at once, and which steps failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Uploads that became expired.
    pub uploads_expired: u64,
    /// Files that became deleted.
    pub files_expired: u64,
    /// Parts left over when their Upload or File ended that have now become garbage.
    pub parts_discarded: u64,
    /// Parts whose bytes were deleted, with their rows: objects, and what was in the ledger.
    pub objects_deleted: u64,
    /// Objects that could not be deleted; they stay written down and are tried again later.
    pub objects_failed: u64,
    /// Ended Uploads and deleted Files that were forgotten.
    pub rows_forgotten: u64,
    /// Whether some batch was full.
    pub more_to_do: bool,
    /// The steps that failed in the last pass.
    pub failed_steps: Vec<&'static str>,
    /// How long the ledger was at it, as opposed to the store.
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

/// Result of marking a batch of leftover Parts as garbage.
#[derive(Default)]
struct Discarded {
    uploads: u64,
    parts: u64,
}

/// What became of a batch of garbage.
#[derive(Default)]
struct Collected {
    objects_deleted: u64,
    objects_failed: u64,
    store_time: Duration,
}

/// How many queued Uploads one pass processes. The query reads all of the remaining Parts of each, and most have more
/// than one batch.
const QUEUED_AT_ONCE: u16 = 4;

/// Runs the steps of a pass and records which of them failed.
struct Pass<'s> {
    service: &'s Service,
    failed: Vec<&'static str>,
    ledger_is_away: bool,
}

impl Pass<'_> {
    /// Runs a step. Once the ledger is found unreachable, further steps fail at once instead of each timing out.
    async fn step<T: Default>(&mut self, name: &'static str, step: impl Future<Output = Result<T>>) -> T {
        if !self.ledger_is_away {
            match step.await {
                Ok(done) => return done,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(step = name, error, "a step of the sweep failed and will be tried again");
                }
            }
            self.ledger_is_away = !matches!(timeout(SIGN_OF_LIFE, self.service.db.ping()).await, Ok(Ok(())));
        }
        metrics::counter!("windlass_sweep_steps_failed_total", "step" => name).increment(1);
        self.failed.push(name);
        T::default()
    }
}

impl Service {
    /// Runs one pass: a batch of each kind. The work of a step is kept even if other steps fail; failed steps are
    /// logged and listed in the report.
    pub async fn sweep(self) -> SweepReport {
        let began = Instant::now();
        let batch = u64::from(self.limits.sweep_batch);
        let mut pass = Pass { service: &self, failed: Vec::new(), ledger_is_away: false };
        let uploads_expired = pass.step("expire uploads", self.patiently(self.expire_uploads())).await;
        let files_expired = pass.step("expire files", self.patiently(self.expire_files())).await;
        let discarded = pass.step("discard parts", self.patiently(self.continue_discards())).await;
        let Collected { objects_deleted, objects_failed, store_time } =
            pass.step("collect garbage", self.collect_garbage()).await;
        let uploads_forgotten = pass.step("forget uploads", self.patiently(self.forget_uploads())).await;
        let files_forgotten = pass.step("forget files", self.patiently(self.forget_files())).await;
        let more_to_do = discarded.uploads > 0
            || [uploads_expired, files_expired, objects_deleted + objects_failed, uploads_forgotten, files_forgotten]
                .into_iter()
                .any(|count| count >= batch);
        metrics::counter!("windlass_uploads_expired_total").increment(uploads_expired);
        metrics::counter!("windlass_files_expired_total").increment(files_expired);
        metrics::counter!("windlass_objects_deleted_total").increment(objects_deleted);
        metrics::counter!("windlass_object_deletions_failed_total").increment(objects_failed);
        if !more_to_do {
            pass.step("count refusing objects", self.patiently(self.count_refusing())).await;
        }
        SweepReport {
            uploads_expired,
            files_expired,
            parts_discarded: discarded.parts,
            objects_deleted,
            objects_failed,
            rows_forgotten: uploads_forgotten + files_forgotten,
            more_to_do,
            failed_steps: pass.failed,
            ledger_time: began.elapsed().saturating_sub(store_time),
        }
    }

    /// Runs passes until no batch is full, which does all work due now except what failed in the last pass.
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
    pub(super) fn discard(&self) -> Discard {
        Discard {
            grace: self.limits.deletion_grace,
            writer_lifetime: self.writer_lifetime(),
            batch: self.limits.discard_batch,
        }
    }

    async fn expire_uploads(&self) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let expired = uploads::mark_expired(&mut tx, self.limits.sweep_batch).await?;
        CrashPoint::UploadsExpired.passed();
        discards::discard(&mut tx, &expired, self.discard()).await?;
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
        discards::discard(&mut tx, &uploads, self.discard()).await?;
        CrashPoint::FilesDiscarded.passed();
        db::commit(tx).await?;
        CrashPoint::FileExpiryCommitted.passed();
        Ok(expired.len() as u64)
    }

    /// Marks the next batch of leftover Parts as garbage. A separate statement locks the queue's rows, so that the
    /// next one sees what the previous holder of these locks has committed.
    async fn continue_discards(&self) -> Result<Discarded> {
        if !discards::any_queued(&self.db).await? {
            return Ok(Discarded::default());
        }
        let mut tx = self.db.begin().await?;
        let queued = discards::lock_oldest(&mut tx, QUEUED_AT_ONCE).await?;
        let parts = discards::continue_batch(&mut tx, &queued, self.discard()).await?;
        CrashPoint::DiscardContinued.passed();
        db::commit(tx).await?;
        CrashPoint::DiscardCommitted.passed();
        Ok(Discarded { uploads: queued.len() as u64, parts })
    }

    /// Deletes objects, then their rows. No transaction is open while the store works.
    async fn collect_garbage(&self) -> Result<Collected> {
        // In a store that is not the ledger's, the missing objects would count as deleted.
        self.check_store()?;
        // When disk space is low, freeing it outweighs the grace for readers and backups.
        let early = if self.is_short_of_space() { self.limits.deletion_grace } else { Duration::ZERO };
        let claimed = self.patiently(parts::claim_garbage(&self.db, self.limits.sweep_batch, early)).await?;
        if claimed.is_empty() {
            return Ok(Collected::default());
        }
        CrashPoint::GarbageClaimed.passed();
        let mut gone: Vec<PartId> = claimed.iter().map(|it| it.part).collect();
        // What is in the ledger goes with its row.
        let doomed = claimed
            .into_iter()
            .filter(|it| !it.in_ledger)
            .map(|it| Doomed { key: BlobKey::from(it.part), multipart: it.multipart, whole: it.whole })
            .collect();
        let began = Instant::now();
        let failed = self.blobs.delete(doomed).await;
        let store_time = began.elapsed();
        CrashPoint::ObjectsDeleted.passed();
        for (key, error) in &failed {
            let part = key.part();
            gone.retain(|it| *it != part);
            let reason = error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
            tracing::warn!(part.id = %part, reason, "an object could not be deleted and will be tried again");
            self.patiently(parts::set_last_error(&self.db, part, &reason)).await?;
        }
        let objects_deleted = self.patiently(parts::delete_collected(&self.db, &gone)).await?;
        CrashPoint::RowsDeleted.passed();
        Ok(Collected { objects_deleted, objects_failed: failed.len() as u64, store_time })
    }

    async fn forget_uploads(&self) -> Result<u64> {
        let forgotten = uploads::delete_ended(&self.db, self.limits.memory, self.limits.sweep_batch).await?;
        CrashPoint::UploadsForgotten.passed();
        Ok(forgotten)
    }

    async fn forget_files(&self) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let gone = files::delete_gone(&mut tx, self.limits.memory, self.limits.sweep_batch).await?;
        CrashPoint::FilesForgotten.passed();
        let completed: Vec<_> = gone.iter().copied().map(FileId::upload).collect();
        uploads::delete_completed(&mut tx, &completed).await?;
        db::commit(tx).await?;
        CrashPoint::ForgettingCommitted.passed();
        Ok(completed.len() as u64)
    }

    async fn count_refusing(&self) -> Result<()> {
        let refusing = parts::count_refusing(&self.db, REFUSING_COUNTED).await?;
        metrics::gauge!("windlass_objects_refusing_deletion").set(refusing);
        Ok(())
    }
}
