//! Completion: an Upload becomes a File in one transaction, after its MD5 has been checked if the client sent one.
//!
//! Long lists and read-backs need permits from fair queues (`resources/fair_queue.rs`), so that no project starves
//! others. The handler waits for them before the operation starts, so a request whose client has disconnected leaves
//! the queue.

use std::sync::Arc;

use windlass_types::{ByteCount, Md5, Md5Digest, PartOrder, ProjectId, UploadId};

use crate::db::uploads::Origin;
use crate::db::{self, Tx, files, parts, uploads};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::model::{Digests, File, Part, PendingUpload, Upload, UploadState, in_order};
use crate::resources::fair_queue::{Permit, Precedence};
use crate::retry::retry;
use crate::service::Service;
use crate::spawn::spawn_blocking;

/// A completion with more Parts than this needs a permit for long lists.
const LONG_LIST: usize = 1000;

/// Reading back more bytes than this needs a permit.
const SMALL_READ_BACK_BYTES: u64 = 1024 * 1024;

/// What is known about a file's MD5 without reading any bytes.
enum KnownMd5 {
    /// The Upload has already been completed by the same request.
    Completed(Upload),
    /// The MD5 of the first Parts, and the remaining Parts, which have to be read.
    UpTo(Md5Digest, Vec<Part>),
}

impl Service {
    /// Completes an Upload: the listed Parts, in this order, become the declared File. Idempotent: repeating the same
    /// request returns the same File. No bytes are moved; they are read only to check an `md5` or JSON lines.
    ///
    /// # Errors
    /// When the Upload is unknown or has ended in another way, the Parts do not fit or fail a check, or the ledger or
    /// the store fails. The Upload is then unchanged, unless the outcome of its commit is unknown.
    pub async fn complete_upload(
        &self,
        project: ProjectId,
        id: UploadId,
        order: PartOrder,
        md5: Option<Md5>,
    ) -> Result<Upload> {
        self.readiness.check_store()?;
        let order = Arc::new(order);
        // Before the row is locked, since reading may take long. Stored Parts do not change in the meantime.
        if let Some(claimed) = md5
            && let Some(completed) = self.check_md5(project, id, &order, claimed).await?
        {
            return Ok(completed);
        }
        self.check_jsonl(project, id, &order).await?;
        let permit = self.list_permit(project, &order).await?;
        let complete = async move |it: Self| {
            let _permit = permit;
            it.complete_checked(project, id, &order, md5).await
        };
        self.run_without_timeout(complete).await
    }

    async fn complete_checked(
        self,
        project: ProjectId,
        id: UploadId,
        order: &PartOrder,
        md5: Option<Md5>,
    ) -> Result<Upload> {
        let listed = if is_long(order) { self.list_before_lock(project, id, order).await? } else { None };
        let complete = || self.with_db_timeout(self.complete(project, id, order, md5, listed.clone()));
        let completed = retry!(self, complete())?;
        self.md5_uploads.set_wanted(project, md5.is_some());
        Ok(completed)
    }

    /// Waits for a permit if the list is long.
    async fn list_permit(&self, project: ProjectId, order: &PartOrder) -> Result<Option<Permit>> {
        Ok(if is_long(order) {
            Some(self.turn(&self.queues.long_lists, project, Precedence::UnderWay).await?)
        } else {
            None
        })
    }

    /// The Parts of a long list, read before the Upload's row is locked, so that a list that does not fit fails without
    /// a transaction. Stored Parts of a pending Upload are neither changed nor deleted. `None` if the Upload has ended.
    async fn list_before_lock(&self, project: ProjectId, id: UploadId, order: &PartOrder) -> Result<Option<Vec<Part>>> {
        let Some(upload) = self.find_pending(project, id).await? else { return Ok(None) };
        let stored = self.with_db_timeout(parts::list_stored(&self.db, id)).await?;
        match in_order(&upload, order, stored) {
            Ok(listed) => Ok(Some(listed)),
            // If the Upload has ended in the meantime, its Parts may be gone.
            Err(error) => self.find_pending(project, id).await?.map_or(Ok(None), |_| Err(error.into())),
        }
    }

    async fn find_pending(&self, project: ProjectId, id: UploadId) -> Result<Option<Upload>> {
        let upload = self.with_db_timeout(self.find_upload(project, id)).await?;
        Ok(Some(upload).filter(|it| matches!(it.state, UploadState::Pending)))
    }

    /// The transaction: locks the Upload's row, and creates the File unless the same list has already been completed.
    async fn complete(
        &self,
        project: ProjectId,
        id: UploadId,
        order: &PartOrder,
        md5: Option<Md5>,
        listed: Option<Vec<Part>>,
    ) -> Result<Upload> {
        let (_permit, mut tx) = self.begin(project).await?;
        let upload = uploads::lock(&mut tx, project, id, Origin::Client).await?.ok_or(Error::NoSuchUpload(id))?;
        CrashPoint::UploadLocked.passed();
        if let UploadState::Completed(_) = upload.state {
            let manifest = files::find_manifest(&mut tx, id.file()).await?;
            // A File that an earlier release deleted may have no manifest in its row.
            let known = !manifest.is_empty() || upload.spec.bytes == ByteCount::ZERO;
            return if known && manifest == order.ids() { Ok(upload) } else { Err(Error::CompletedOtherwise(id)) };
        }
        let digests = Digests::from(md5);
        let completed = self.complete_locked(&mut tx, project, upload.into_pending()?, order, &digests, listed).await?;
        db::commit(tx).await?;
        CrashPoint::CompletionCommitted.passed();
        Ok(completed)
    }

    /// Creates the File and ends the Upload. The caller must hold the Upload's row lock. `digests` have been verified;
    /// `listed` are the Parts, if they have been read already.
    pub(crate) async fn complete_locked(
        &self,
        tx: &mut Tx,
        project: ProjectId,
        pending: PendingUpload,
        order: &PartOrder,
        digests: &Digests,
        listed: Option<Vec<Part>>,
    ) -> Result<Upload> {
        let stored = match listed {
            Some(listed) => listed,
            None => parts::list_stored(&mut *tx, pending.upload().id).await?,
        };
        let plan = pending.assemble(order, stored)?;
        let file = files::complete_upload(tx, project, &plan, digests, self.garbage_policy()).await?;
        CrashPoint::CompletionWritten.passed();
        Ok(Upload { state: UploadState::Completed(Some(file)), ..plan.upload().clone() })
    }

    /// Compares the MD5 of the listed Parts, in this order, with the client's. Returns the Upload if it has already
    /// been completed by the same request.
    async fn check_md5(
        &self,
        project: ProjectId,
        id: UploadId,
        order: &Arc<PartOrder>,
        claimed: Md5,
    ) -> Result<Option<Upload>> {
        match self.compare_md5(project, id, order, claimed).await {
            Err(error) => {
                // If the Upload was cancelled or has expired in the meantime, or its File was deleted, its Parts may be
                // gone: report that as the reason.
                let upload =
                    not_abandoned(self.run(move |it| async move { it.find_upload(project, id).await }).await?)?;
                let is_gone = matches!(upload.state, UploadState::Completed(None));
                Err(if is_gone { Error::CompletedOtherwise(id) } else { error })
            }
            compared => compared,
        }
    }

    async fn compare_md5(
        &self,
        project: ProjectId,
        id: UploadId,
        order: &Arc<PartOrder>,
        claimed: Md5,
    ) -> Result<Option<Upload>> {
        let (permit, listed) = (self.list_permit(project, order).await?, Arc::clone(order));
        let find = async move |it: Self| {
            let _permit = permit;
            it.known_md5(project, id, &listed, claimed).await
        };
        let (mut digest, unread) = match self.run_without_timeout(find).await? {
            KnownMd5::Completed(upload) => return Ok(Some(upload)),
            KnownMd5::UpTo(digest, unread) => (digest, unread),
        };
        if !unread.is_empty() {
            let bytes: u64 = unread.iter().map(|part| part.bytes.get()).sum();
            let needs_permit = bytes > SMALL_READ_BACK_BYTES;
            // Without a timeout, since requests ahead in the queue may read files of the maximum size.
            let permit = if needs_permit {
                Some(self.queues.read_backs.acquire(project, Precedence::UnderWay).await)
            } else {
                None
            };
            let read = async move |it: Self| {
                let _permit = permit;
                it.read_md5(project, digest, unread).await
            };
            digest = self.run_without_timeout(read).await?;
        }
        let actual = digest.finish();
        if actual == claimed { Ok(None) } else { Err(Error::WrongMd5 { claimed, actual }) }
    }

    async fn known_md5(self, project: ProjectId, id: UploadId, order: &PartOrder, claimed: Md5) -> Result<KnownMd5> {
        let upload = not_abandoned(self.with_db_timeout(self.find_upload(project, id)).await?)?;
        if self.with_db_timeout(self.is_same_completion(&upload, order, claimed)).await? {
            return Ok(KnownMd5::Completed(upload));
        }
        let stored = self.with_db_timeout(parts::list_stored(&self.db, id)).await?;
        let mut parts = in_order(&upload, order, stored)?;
        let (covered, digest) = self.covered_by_md5(id, &parts).await?;
        Ok(KnownMd5::UpTo(digest, parts.split_off(covered)))
    }

    /// Whether the Upload has already been completed with these Parts and this MD5.
    async fn is_same_completion(&self, upload: &Upload, order: &PartOrder, claimed: Md5) -> Result<bool> {
        let UploadState::Completed(Some(File { digests, .. })) = &upload.state else { return Ok(false) };
        Ok(digests.md5 == Some(claimed) && files::find_manifest(&self.db, upload.id.file()).await? == order.ids())
    }

    /// Continues the MD5 with the bytes of these Parts.
    async fn read_md5(self, project: ProjectId, mut digest: Md5Digest, parts: Vec<Part>) -> Result<Md5Digest> {
        let mut slices = self.read_parts(&parts).await?;
        while let Some(slice) = slices.next().await {
            let slice = slice?;
            let _permit = self.queues.checksums.acquire(project, Precedence::UnderWay).await;
            // Hashing a megabyte would block a thread of the runtime for milliseconds.
            let hashed = spawn_blocking(move || slice.look(|seen| digest.update(seen)).map(|()| digest));
            digest = hashed.await?.map_err(Error::Read)?;
        }
        Ok(digest)
    }
}

fn is_long(order: &PartOrder) -> bool {
    order.ids().len() > LONG_LIST
}

/// Fails if the Upload was cancelled or has expired.
fn not_abandoned(upload: Upload) -> Result<Upload> {
    if let UploadState::Expired | UploadState::Cancelled = upload.state {
        upload.clone().into_pending()?;
    }
    Ok(upload)
}
