//! Holds ledger and store against each other, both ways, while the service may be running. Each way
//! is a stream in batches: its memory does not grow with what there is.
//!
//! Whatever looks wrong is looked at again before it is said: what a running service has just begun
//! or deleted is no damage.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use uuid::Uuid;

use super::{Error, Result, Service};
use crate::blobs::{self, Begun, BlobKey, Doomed, Listed, Listing};
use crate::db::parts;
use crate::domain::{Part, PartId};

/// How many rows or objects are looked at together.
const BATCH: u16 = 1000;

/// How many objects are asked about, or read, at once.
const AT_ONCE: usize = 16;

/// How to look.
#[derive(Debug, Clone, Copy)]
pub struct FsckOptions {
    /// Read every object and compute its checksum.
    pub deep: bool,
    /// Delete what no row names.
    pub repair: bool,
    /// How old something must be to be deleted.
    pub older_than: Duration,
    /// Delete nothing if the deletions would exceed this percentage of the store's objects or bytes.
    pub max_deleted_share: u8,
}

/// A repair that was refused because it would have deleted too large a share of the store.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Objects that would have been deleted.
    pub objects: u64,
    /// Total size of these objects.
    pub bytes: u64,
    /// All objects in the store.
    pub of_objects: u64,
    /// Total size of all objects.
    pub of_bytes: u64,
}

impl Refused {
    fn add(&mut self, object: &Listed, would_be_deleted: bool) {
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

/// Something that is not as it should be.
#[derive(Debug)]
pub enum Finding {
    /// A stored Part has no object, and is not in the ledger.
    Missing(Part),
    /// A stored Part's object has another size.
    WrongSize(Part, u64),
    /// A stored Part has other bytes.
    Damaged(Part),
    /// A stored Part cannot be read.
    Unreadable(Part, Error),
    /// An object has no row, or one that has the bytes itself.
    Unknown(Listed),
    /// A half-done multipart upload has no row that waits for it.
    HalfDone(Begun),
    /// Something below our prefix has no name that we give.
    NotOurs(Listed),
    /// The store could not list its incomplete multipart uploads. Not an inconsistency: they were not checked.
    NotListed(blobs::Error),
}

/// How much was looked at and found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FsckReport {
    /// Objects that the store has.
    pub objects: u64,
    /// Stored Parts that the ledger has.
    pub rows: u64,
    /// Findings, also those that were repaired.
    pub findings: u64,
    /// Findings that are no more.
    pub repaired: u64,
    /// Set if a repair was requested but refused.
    pub refused: Option<Refused>,
    /// Whether some or all of the store's incomplete multipart uploads could not be listed.
    pub half_done_unseen: bool,
}

impl FsckReport {
    /// Whether ledger and store agree now.
    pub fn is_clean(&self) -> bool {
        self.findings == self.repaired
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(part) => write!(f, "missing: {} of {}, {} bytes", part.id, part.upload, part.bytes),
            Self::WrongSize(part, found) => {
                write!(f, "wrong size: {} of {} has {found} bytes, not {}", part.id, part.upload, part.bytes)
            }
            Self::Damaged(part) => write!(f, "damaged: {} of {} has another checksum", part.id, part.upload),
            Self::Unreadable(part, error) => write!(f, "unreadable: {} of {}: {error}", part.id, part.upload),
            Self::Unknown(object) => write!(f, "unknown: {}, {} bytes", object.name, object.bytes),
            Self::HalfDone(it) => write!(f, "half-done: {}, multipart upload {}", it.name, it.multipart),
            Self::NotOurs(object) => write!(f, "not ours: {}, {} bytes; left alone", object.name, object.bytes),
            Self::NotListed(error) => write!(f, "not looked at: {error}"),
        }
    }
}

impl Service {
    /// Checks everything, reports each finding to `say`, and repairs if that is requested, unless the repair would
    /// delete too large a share of the store.
    ///
    /// # Errors
    /// When the ledger or the store cannot be looked through.
    pub async fn fsck(self, mut options: FsckOptions, mut say: impl FnMut(&Finding, bool)) -> Result<FsckReport> {
        let mut report = FsckReport::default();
        if options.repair {
            let deletable = self.count_deletable(options.older_than).await?;
            report.refused = (deletable.share() > options.max_deleted_share).then_some(deletable);
            options.repair = report.refused.is_none();
        }
        let mut tell = |report: &mut FsckReport, finding: &Finding, repaired: bool| {
            report.findings += u64::from(!matches!(finding, Finding::NotListed(_)));
            report.repaired += u64::from(repaired);
            say(finding, repaired);
        };
        self.check_store_objects(options, &mut report, &mut tell).await?;
        self.check_multiparts(options, &mut report, &mut tell).await?;
        self.check_ledger(options, &mut report, &mut tell).await?;
        Ok(report)
    }

    /// Store → ledger: has every object its row?
    async fn check_store_objects(
        &self,
        options: FsckOptions,
        report: &mut FsckReport,
        tell: &mut impl FnMut(&mut FsckReport, &Finding, bool),
    ) -> Result<()> {
        let mut listing = self.blobs.list();
        loop {
            let batch = next_batch(&mut listing).await?;
            if batch.is_empty() {
                return Ok(());
            }
            report.objects += batch.len() as u64;
            let known = self.known(&batch).await?;
            for object in batch {
                let Some(key) = object.key else {
                    tell(report, &Finding::NotOurs(object), false);
                    continue;
                };
                if !self.is_unknown(key, &known).await? {
                    continue;
                }
                let repaired = options.repair && is_older(Some(object.modified), options.older_than) && {
                    self.blobs.delete(vec![Doomed { key, multipart: None, whole: true }]).await.is_empty()
                };
                tell(report, &Finding::Unknown(object), repaired);
            }
        }
    }

    /// Counts what a repair would delete. This is a separate listing, so that nothing is deleted before the total
    /// is known.
    async fn count_deletable(&self, older_than: Duration) -> Result<Refused> {
        let mut deletable = Refused::default();
        let mut listing = self.blobs.list();
        loop {
            let batch = next_batch(&mut listing).await?;
            if batch.is_empty() {
                return Ok(deletable);
            }
            let known = self.known(&batch).await?;
            for object in batch {
                let would_be_deleted = match object.key {
                    Some(key) => is_older(Some(object.modified), older_than) && self.is_unknown(key, &known).await?,
                    None => false,
                };
                deletable.add(&object, would_be_deleted);
            }
        }
    }

    /// Whether an object exists and has no row. A row is deleted after its object, so an object without a row is not
    /// one that is being deleted.
    async fn is_unknown(&self, key: BlobKey, known: &BTreeSet<PartId>) -> Result<bool> {
        Ok(!known.contains(&key.part()) && self.blobs.size(key).await?.is_some())
    }

    /// Has every half-done multipart upload a row that waits for it?
    async fn check_multiparts(
        &self,
        options: FsckOptions,
        report: &mut FsckReport,
        tell: &mut impl FnMut(&mut FsckReport, &Finding, bool),
    ) -> Result<()> {
        let mut listing = self.blobs.list_half_done();
        while let Some(begun) = listing.recv().await {
            let begun = match begun {
                Err(error @ blobs::Error::Unlisted(_)) => {
                    report.half_done_unseen = true;
                    tell(report, &Finding::NotListed(error), false);
                    continue;
                }
                begun => begun?,
            };
            let Some(key) = begun.key else { continue };
            let waiting = parts::list_unfinished(&self.db, &[key.part()]).await?;
            if !waiting.is_empty() {
                continue;
            }
            let repaired = options.repair
                && is_older(begun.begun, options.older_than)
                && self.blobs.abort(key, &begun.multipart).await.is_ok();
            tell(report, &Finding::HalfDone(begun), repaired);
        }
        Ok(())
    }

    /// Ledger → store: has every stored Part its bytes?
    async fn check_ledger(
        &self,
        options: FsckOptions,
        report: &mut FsckReport,
        tell: &mut impl FnMut(&mut FsckReport, &Finding, bool),
    ) -> Result<()> {
        let mut after = PartId::from(Uuid::nil());
        loop {
            let (batch, last) = parts::list_all_stored(&self.db, after, BATCH).await?;
            let Some(last) = last else { return Ok(()) };
            after = last;
            report.rows += batch.len() as u64;
            let mut looks = stream::iter(batch)
                .map(|part| async move { (part, self.look_at(part, options.deep).await) })
                .buffer_unordered(AT_ONCE);
            while let Some((part, finding)) = looks.next().await {
                if let Some(finding) = finding?
                    && self.is_still_stored(part.id).await?
                {
                    tell(report, &finding, false);
                }
            }
        }
    }

    async fn look_at(&self, part: Part, deep: bool) -> Result<Option<Finding>> {
        if !part.in_ledger {
            match self.blobs.size(BlobKey::from(part.id)).await? {
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
                // What the system keeps in memory comes without a pause, and others want to look as well.
                Ok(_) => tokio::task::yield_now().await,
                Err(Error::Damaged(_)) => return Ok(Some(Finding::Damaged(part))),
                Err(Error::Missing(_)) => return Ok(Some(Finding::Missing(part))),
                Err(error) => return Ok(Some(Finding::Unreadable(part, error))),
            }
        }
        Ok(None)
    }

    /// Returns the ids of those objects that have a row.
    async fn known(&self, objects: &[Listed]) -> Result<BTreeSet<PartId>> {
        let ids: Vec<_> = objects.iter().filter_map(|it| it.key).map(BlobKey::part).collect();
        Ok(parts::list_known(&self.db, &ids).await?.into_iter().collect())
    }

    async fn is_still_stored(&self, part: PartId) -> Result<bool> {
        Ok(parts::find_stored(&self.db, part).await?.is_some())
    }
}

/// Returns the next batch of a listing, which is empty at the end.
async fn next_batch(listing: &mut Listing<Listed>) -> Result<Vec<Listed>> {
    let mut batch = Vec::new();
    while batch.len() < usize::from(BATCH)
        && let Some(object) = listing.recv().await.transpose()?
    {
        batch.push(object);
    }
    Ok(batch)
}

/// By this machine's clock: the store's is another, so the age asked for is better not minutes.
fn is_older(written: Option<SystemTime>, than: Duration) -> bool {
    written.and_then(|it| it.elapsed().ok()).is_some_and(|age| age >= than)
}
