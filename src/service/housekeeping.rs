//! One pass of the sweeper. Each step looks at what is, takes a bounded batch, needs no input, and
//! may run any number of times, in any number of processes, at once.
//!
//! | what | when | why then |
//! | --- | --- | --- |
//! | a pending Upload becomes expired, its Parts garbage | at its hour | the contract's lifetime |
//! | a File past `expires_at` becomes deleted, its Parts garbage | at that time | the client said so |
//! | the object of a garbage Part is deleted, if it has one, then its row | at `not_before` | readers and writers have had their grace |
//! | an ended Upload, a deleted File and its Upload lose their rows | a week after, once no object is left | late retries get a true answer |

use std::error::Error as _;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::{Result, Service};
use crate::blobs::{BlobKey, Doomed};
use crate::crash::CrashPoint;
use crate::db::{self, files, parts, uploads};
use crate::domain::{FileId, PartId};

/// What a pass did: counts, and whether a batch was full, so that there is more to do at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Uploads that became expired.
    pub uploads_expired: u64,
    /// Files that became deleted.
    pub files_expired: u64,
    /// Parts whose bytes were deleted, with their rows: objects, and what was in the ledger.
    pub objects_deleted: u64,
    /// Objects that could not be deleted; they stay written down and are tried again later.
    pub objects_failed: u64,
    /// Ended Uploads and deleted Files that were forgotten.
    pub rows_forgotten: u64,
    /// Whether some batch was full.
    pub more_to_do: bool,
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
        self.objects_deleted += other.objects_deleted;
        self.objects_failed += other.objects_failed;
        self.rows_forgotten += other.rows_forgotten;
        self.more_to_do = other.more_to_do;
        self.ledger_time += other.ledger_time;
    }
}

/// What became of a batch of garbage.
#[derive(Default)]
struct Collected {
    objects_deleted: u64,
    objects_failed: u64,
    store_time: Duration,
}

impl Service {
    /// One pass: a batch of each kind.
    ///
    /// # Errors
    /// When the ledger fails; what was done until then stays done. [`super::Error::StoreMismatch`] where the
    /// store is not the ledger's: what is not there would count as deleted.
    pub async fn sweep(self) -> Result<SweepReport> {
        self.check_store()?;
        let began = Instant::now();
        let batch = u64::from(self.limits.sweep_batch);
        let uploads_expired = self.patiently(self.expire_uploads()).await?;
        let files_expired = self.patiently(self.expire_files()).await?;
        let Collected { objects_deleted, objects_failed, store_time } = self.collect_garbage().await?;
        let rows_forgotten = self.patiently(self.forget()).await?;
        let more_to_do = [uploads_expired, files_expired, objects_deleted + objects_failed, rows_forgotten]
            .into_iter()
            .any(|count| count >= batch);
        metrics::counter!("windlass_uploads_expired_total").increment(uploads_expired);
        metrics::counter!("windlass_files_expired_total").increment(files_expired);
        metrics::counter!("windlass_objects_deleted_total").increment(objects_deleted);
        metrics::counter!("windlass_object_deletions_failed_total").increment(objects_failed);
        if !more_to_do {
            let refusing = self.patiently(parts::count_refusing(&self.db)).await?;
            metrics::gauge!("windlass_objects_refusing_deletion").set(refusing);
        }
        let ledger_time = began.elapsed().saturating_sub(store_time);
        Ok(SweepReport {
            uploads_expired,
            files_expired,
            objects_deleted,
            objects_failed,
            rows_forgotten,
            more_to_do,
            ledger_time,
        })
    }

    /// Passes until no batch is full: all that is due now.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn sweep_all(self) -> Result<SweepReport> {
        let mut total = SweepReport::default();
        loop {
            total += self.clone().sweep().await?;
            if !total.more_to_do {
                return Ok(total);
            }
        }
    }

    async fn expire_uploads(&self) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let expired = uploads::mark_expired(&mut tx, self.limits.sweep_batch).await?;
        CrashPoint::UploadsExpired.passed();
        parts::discard(&mut tx, &expired, self.limits.deletion_grace, self.writer_lifetime()).await?;
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
        parts::discard(&mut tx, &uploads, self.limits.deletion_grace, self.writer_lifetime()).await?;
        CrashPoint::FilesDiscarded.passed();
        db::commit(tx).await?;
        CrashPoint::FileExpiryCommitted.passed();
        Ok(expired.len() as u64)
    }

    /// Deletes objects, then their rows. No transaction is open while the store works.
    async fn collect_garbage(&self) -> Result<Collected> {
        let claimed = self.patiently(parts::claim_garbage(&self.db, self.limits.sweep_batch)).await?;
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

    async fn forget(&self) -> Result<u64> {
        let (after, batch) = (self.limits.memory, self.limits.sweep_batch);
        let ended = uploads::delete_ended(&self.db, after, batch).await?;
        CrashPoint::UploadsForgotten.passed();
        let mut tx = self.db.begin().await?;
        let gone = files::delete_gone(&mut tx, after, batch).await?;
        CrashPoint::FilesForgotten.passed();
        let completed: Vec<_> = gone.iter().copied().map(FileId::upload).collect();
        uploads::delete_completed(&mut tx, &completed).await?;
        db::commit(tx).await?;
        CrashPoint::ForgettingCommitted.passed();
        Ok(ended + completed.len() as u64)
    }
}
