//! Compares the ledger and the store in both directions, while services may be running. Each direction is streamed in
//! batches, so memory does not grow with the size of the store.
//!
//! Every discrepancy is checked again before it is reported, since a running service may just have created or deleted
//! the object.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use uuid::Uuid;
use windlass_types::PartId;

use crate::db::locks::{self, Lock};
use crate::db::quotas::{self, UsageDifference};
use crate::db::{self, parts};
use crate::error::{Error, Result};
use crate::model::Part;
use crate::service::Service;
use crate::store::{self, IncompleteUpload, ListedObject, Listing, ObjectKey, ObjectToDelete};

/// The number of rows or objects per batch.
const BATCH: u16 = 1000;

/// The maximum number of objects that are checked concurrently.
const AT_ONCE: usize = 16;

/// How long a recount waits for another one.
const RECOUNT_PATIENCE: Duration = Duration::from_mins(10);

/// What to check, and what to repair.
#[derive(Debug, Clone, Copy)]
pub struct FsckOptions {
    /// Read every object and compute its checksum.
    pub deep: bool,
    /// Delete objects and incomplete multipart uploads without a row.
    pub repair: bool,
    /// The minimum age of an object or multipart upload that is deleted.
    pub older_than: Duration,
    /// Delete nothing if the deletions would exceed this percentage of the store's objects or bytes.
    pub max_deleted_share: u8,
}

/// A repair that was refused because it would have deleted too large a share of the store.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The number of objects that would have been deleted.
    pub objects: u64,
    /// The total size of these objects.
    pub bytes: u64,
    /// The number of all objects in the store.
    pub of_objects: u64,
    /// The total size of all objects.
    pub of_bytes: u64,
}

impl Refused {
    fn add(&mut self, object: &ListedObject, would_be_deleted: bool) {
        self.of_objects += 1;
        self.of_bytes += object.bytes;
        if would_be_deleted {
            self.objects += 1;
            self.bytes += object.bytes;
        }
    }

    /// The percentage of the store's objects or of its bytes, whichever is larger, that would have been deleted:
    /// 0 to 100, rounded up.
    pub fn share(&self) -> u8 {
        let percent = |part: u64, whole: u64| (u128::from(part) * 100).div_ceil(u128::from(whole.max(1)));
        let share = percent(self.objects, self.of_objects).max(percent(self.bytes, self.of_bytes));
        u8::try_from(share).unwrap_or(100)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, bytes, of_objects, of_bytes } = self;
        write!(f, "{objects} of {of_objects} objects ({bytes} of {of_bytes} bytes) would be deleted")
    }
}

/// A discrepancy between the ledger and the store.
#[derive(Debug)]
pub enum Finding {
    /// A stored Part's bytes are missing.
    Missing(Part),
    /// A stored Part's object has the wrong size. Contains that size.
    WrongSize(Part, u64),
    /// A stored Part's bytes do not match its checksum or its length.
    Damaged(Part),
    /// A stored Part cannot be read.
    Unreadable(Part, Error),
    /// An object has no row, or its row holds the bytes itself.
    Unknown(ListedObject),
    /// An incomplete multipart upload does not belong to an unfinished Part in the ledger.
    Incomplete(IncompleteUpload),
    /// An object below the prefix has a name that this service does not generate.
    NotOurs(ListedObject),
    /// The counters of what a project uses differ from its rows.
    Usage(UsageDifference),
    /// The store could not list its incomplete multipart uploads, so they were not checked. Not counted as a finding.
    NotListed(store::Error),
}

/// The numbers of checked items and findings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FsckReport {
    /// Objects in the store.
    pub objects: u64,
    /// Stored Parts in the ledger.
    pub rows: u64,
    /// Findings, including those that were repaired.
    pub findings: u64,
    /// Findings that were repaired.
    pub repaired: u64,
    /// Set if a repair was requested but refused.
    pub refused: Option<Refused>,
    /// Whether some or all of the store's incomplete multipart uploads could not be listed.
    pub incomplete_unlisted: bool,
}

impl FsckReport {
    /// Whether all findings, if any, were repaired.
    pub fn is_clean(&self) -> bool {
        self.findings == self.repaired
    }
}

impl Finding {
    fn of_unread(part: Part, error: Error) -> Self {
        let cause = if let Error::Unreadable { source, .. } = error { *source } else { error };
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others are failures of the store or the ledger")]
        match cause {
            Error::Damaged(_) => Self::Damaged(part),
            Error::Missing(_) => Self::Missing(part),
            failure => Self::Unreadable(part, failure),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(part) => write!(f, "missing: {} of {}, {} bytes", part.id, part.upload, part.bytes),
            Self::WrongSize(part, found) => {
                write!(f, "wrong size: {} of {} has {found} bytes, not {}", part.id, part.upload, part.bytes)
            }
            Self::Damaged(part) => write!(f, "damaged: {} of {}, checksum mismatch", part.id, part.upload),
            Self::Unreadable(part, error) => write!(f, "unreadable: {} of {}: {error}", part.id, part.upload),
            Self::Unknown(object) => write!(f, "unknown: {}, {} bytes", object.name, object.bytes),
            Self::Incomplete(it) => write!(f, "incomplete: {}, multipart upload {}", it.name, it.multipart),
            Self::NotOurs(object) => write!(f, "not ours: {}, {} bytes; left alone", object.name, object.bytes),
            Self::Usage(it) => write!(
                f,
                "usage: the counters of project {} lack {} bytes, {} pending uploads, {} forms and {} files",
                it.project, it.bytes, it.pending_uploads, it.pending_forms, it.files
            ),
            Self::NotListed(error) => write!(f, "not checked: {error}"),
        }
    }
}

impl Service {
    /// Checks everything, and repairs if requested, unless that would delete too large a share of the store. Calls
    /// `report_finding` with each finding and whether it was repaired.
    ///
    /// # Errors
    /// When the ledger or the store cannot be read.
    pub async fn fsck(
        self,
        mut options: FsckOptions,
        mut report_finding: impl FnMut(&Finding, bool),
    ) -> Result<FsckReport> {
        let mut report = FsckReport::default();
        if options.repair {
            let deletable = self.count_deletable(options.older_than).await?;
            report.refused = (deletable.share() > options.max_deleted_share).then_some(deletable);
            options.repair = report.refused.is_none();
        }
        let mut record = |report: &mut FsckReport, finding: &Finding, repaired: bool| {
            report.findings += u64::from(!matches!(finding, Finding::NotListed(_)));
            report.repaired += u64::from(repaired);
            report_finding(finding, repaired);
        };
        self.check_store_objects(options, &mut report, &mut record).await?;
        self.check_multiparts(options, &mut report, &mut record).await?;
        self.check_ledger(options, &mut report, &mut record).await?;
        self.check_usage(options.repair, &mut report, &mut record).await?;
        Ok(report)
    }

    /// Compares the counters of what each project uses with its rows, in one snapshot.
    async fn check_usage(
        &self,
        correct: bool,
        report: &mut FsckReport,
        record: &mut impl FnMut(&mut FsckReport, &Finding, bool),
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        // So that two repairs do not add the same difference.
        locks::take(&mut tx, Lock::Recount, RECOUNT_PATIENCE).await?;
        quotas::permit_long_recount(&mut tx).await?;
        let differences = quotas::list_differences(&mut tx).await?;
        if correct && !differences.is_empty() {
            quotas::correct_counters(&mut tx).await?;
        }
        db::commit(tx).await?;
        for difference in differences {
            record(report, &Finding::Usage(difference), correct);
        }
        Ok(())
    }

    /// Store → ledger: checks that every object has a row.
    async fn check_store_objects(
        &self,
        options: FsckOptions,
        report: &mut FsckReport,
        record: &mut impl FnMut(&mut FsckReport, &Finding, bool),
    ) -> Result<()> {
        let mut listing = self.blobs.list();
        loop {
            let batch = next_batch(&mut listing).await?;
            if batch.is_empty() {
                return Ok(());
            }
            report.objects += batch.len() as u64;
            let with_row = self.parts_with_row(&batch).await?;
            for object in batch {
                let Some(key) = object.key else {
                    record(report, &Finding::NotOurs(object), false);
                    continue;
                };
                if !self.is_unknown(key, &with_row).await? {
                    continue;
                }
                let repaired = options.repair && is_older(Some(object.modified), options.older_than) && {
                    self.blobs.delete(vec![ObjectToDelete { key, multipart: None, whole: true }]).await.is_empty()
                };
                record(report, &Finding::Unknown(object), repaired);
            }
        }
    }

    /// Counts the objects that a repair would delete, in a separate listing, so that nothing is deleted before the
    /// total is known.
    async fn count_deletable(&self, older_than: Duration) -> Result<Refused> {
        let mut deletable = Refused::default();
        let mut listing = self.blobs.list();
        loop {
            let batch = next_batch(&mut listing).await?;
            if batch.is_empty() {
                return Ok(deletable);
            }
            let with_row = self.parts_with_row(&batch).await?;
            for object in batch {
                let would_be_deleted = match object.key {
                    Some(key) => is_older(Some(object.modified), older_than) && self.is_unknown(key, &with_row).await?,
                    None => false,
                };
                deletable.add(&object, would_be_deleted);
            }
        }
    }

    /// Whether an object has no row, and still exists. A row is deleted after its object, so an object that is just
    /// being deleted has a row or no longer exists.
    async fn is_unknown(&self, key: ObjectKey, with_row: &BTreeSet<PartId>) -> Result<bool> {
        Ok(!with_row.contains(&key.part()) && self.blobs.size(key).await?.is_some())
    }

    /// Checks that every incomplete multipart upload has the row of an unfinished Part.
    async fn check_multiparts(
        &self,
        options: FsckOptions,
        report: &mut FsckReport,
        record: &mut impl FnMut(&mut FsckReport, &Finding, bool),
    ) -> Result<()> {
        let mut listing = self.blobs.list_incomplete();
        while let Some(begun) = listing.recv().await {
            let begun = match begun {
                Err(error @ store::Error::Unlisted(_)) => {
                    report.incomplete_unlisted = true;
                    record(report, &Finding::NotListed(error), false);
                    continue;
                }
                begun => begun?,
            };
            let Some(key) = begun.key else { continue };
            let unfinished = parts::list_unfinished(&self.db, &[key.part()]).await?;
            if !unfinished.is_empty() {
                continue;
            }
            let repaired = options.repair
                && is_older(begun.begun, options.older_than)
                && self.blobs.abort(key, &begun.multipart).await.is_ok();
            record(report, &Finding::Incomplete(begun), repaired);
        }
        Ok(())
    }

    /// Ledger → store: checks that every stored Part has its bytes.
    async fn check_ledger(
        &self,
        options: FsckOptions,
        report: &mut FsckReport,
        record: &mut impl FnMut(&mut FsckReport, &Finding, bool),
    ) -> Result<()> {
        let mut after = PartId::from(Uuid::nil());
        loop {
            let (batch, last) = parts::list_all_stored(&self.db, after, BATCH).await?;
            let Some(last) = last else { return Ok(()) };
            after = last;
            report.rows += batch.len() as u64;
            let mut checks = stream::iter(batch)
                .map(|part| async move { (part, self.check_part(part, options.deep).await) })
                .buffer_unordered(AT_ONCE);
            while let Some((part, finding)) = checks.next().await {
                if let Some(finding) = finding?
                    && self.is_still_stored(part.id).await?
                {
                    record(report, &finding, false);
                }
            }
        }
    }

    /// Checks the size of a Part's object, and its bytes if `deep`.
    async fn check_part(&self, part: Part, deep: bool) -> Result<Option<Finding>> {
        if !part.in_ledger {
            match self.blobs.size(ObjectKey::from(part.id)).await? {
                None => return Ok(Some(Finding::Missing(part))),
                Some(found) if found != part.bytes.get() => return Ok(Some(Finding::WrongSize(part, found))),
                Some(_) => {}
            }
        }
        if !deep {
            return Ok(None);
        }
        let mut pieces = self.read_parts(&[part]).await?;
        while let Some(piece) = pieces.next().await {
            match piece {
                // Reads from the page cache never wait; without this, the concurrent checks would not make progress.
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return Ok(Some(Finding::of_unread(part, error))),
            }
        }
        Ok(None)
    }

    /// The Parts of those objects that have a row.
    async fn parts_with_row(&self, objects: &[ListedObject]) -> Result<BTreeSet<PartId>> {
        let ids: Vec<_> = objects.iter().filter_map(|it| it.key).map(ObjectKey::part).collect();
        Ok(parts::list_known(&self.db, &ids).await?.into_iter().collect())
    }

    async fn is_still_stored(&self, part: PartId) -> Result<bool> {
        Ok(parts::find_stored(&self.db, part).await?.is_some())
    }
}

/// The next batch of a listing; empty at the end.
async fn next_batch(listing: &mut Listing<ListedObject>) -> Result<Vec<ListedObject>> {
    let mut batch = Vec::new();
    while batch.len() < usize::from(BATCH)
        && let Some(object) = listing.recv().await.transpose()?
    {
        batch.push(object);
    }
    Ok(batch)
}

/// Whether something was written at least `than` ago. The age is measured by this machine's clock, so `than` should be
/// much longer than the clock skew between this machine and the store.
fn is_older(written: Option<SystemTime>, than: Duration) -> bool {
    written.and_then(|it| it.elapsed().ok()).is_some_and(|age| age >= than)
}
