//! Completion: an Upload becomes a File in one transaction, after its MD5 has been checked if there is one.
//!
//! Work with which one project could starve others is done in turns (`service/turns.rs`). A turn is awaited by the
//! handler, so a request whose client has disconnected stops waiting.

use std::io;
use std::sync::Arc;

use super::turns::Turn;
use super::{Error, Result, Service};
use crate::crash::CrashPoint;
use crate::db::uploads::Origin;
use crate::db::{self, Tx, files, parts, uploads};
use crate::domain::{
    ByteCount, File, Md5, Md5Digest, Part, PartOrder, PendingUpload, ProjectId, Upload, UploadId, UploadStatus,
    in_order,
};

/// Completing a list of more Parts than this takes long enough to need a turn.
const LONG_LIST: usize = 1000;

/// Reading back more bytes than this needs a turn.
const READ_AT_ONCE_BYTES: u64 = 1024 * 1024;

/// What is known of a file's MD5 without reading it.
enum Known {
    /// The same completion was done before.
    Completed(Upload),
    /// The MD5 of the first Parts, and the Parts that remain to be read.
    UpTo(Md5Digest, Vec<Part>),
}

impl Service {
    /// Makes the listed Parts, in this order, into the File that was declared. Repeating the same request returns the
    /// same File. It moves no bytes, and reads them only to check an `md5` or JSON lines.
    ///
    /// It can be called from any runtime: the work is done on the service's.
    ///
    /// # Errors
    /// When the Upload has ended otherwise, or the Parts do not fit; nothing has changed then.
    pub async fn complete_upload(
        &self,
        project: ProjectId,
        id: UploadId,
        order: PartOrder,
        md5: Option<Md5>,
    ) -> Result<Upload> {
        self.check_store()?;
        let order = Arc::new(order);
        // Before the lock, since reading may take long. Stored Parts do not change meanwhile.
        if let Some(claimed) = md5
            && let Some(completed) = self.check_md5(project, id, &order, claimed).await?
        {
            return Ok(completed);
        }
        self.check_jsonl(project, id, &order).await?;
        let turn = self.turn_at_list(project, &order).await?;
        let complete = async move |it: Self| {
            let _turn = turn;
            it.complete_checked(project, id, &order, md5).await
        };
        self.run_at_length(complete).await
    }

    async fn complete_checked(
        self,
        project: ProjectId,
        id: UploadId,
        order: &PartOrder,
        md5: Option<Md5>,
    ) -> Result<Upload> {
        let listed = if is_long(order) { self.list_ahead(project, id, order).await? } else { None };
        let mut attempts = self.attempts();
        loop {
            match self.patiently(self.complete(project, id, order, md5, listed.clone())).await {
                Err(error) => attempts.after(error).await?,
                Ok(completed) => {
                    self.chains.learn(project, md5.is_some());
                    return Ok(completed);
                }
            }
        }
    }

    async fn turn_at_list(&self, project: ProjectId, order: &PartOrder) -> Result<Option<Turn>> {
        Ok(if is_long(order) { Some(self.in_turn(&self.turns.long_lists, project).await?) } else { None })
    }

    /// The Parts of a long list, before the Upload's row is locked: a list that does not fit fails without a
    /// transaction. The stored Parts of a pending Upload do not change. `None` if it has ended.
    async fn list_ahead(&self, project: ProjectId, id: UploadId, order: &PartOrder) -> Result<Option<Vec<Part>>> {
        let Some(upload) = self.find_pending(project, id).await? else { return Ok(None) };
        let stored = self.patiently(parts::list_stored(&self.db, id)).await?;
        match in_order(&upload, order, stored) {
            Ok(listed) => Ok(Some(listed)),
            // An Upload that has ended meanwhile may have lost its Parts.
            Err(error) => self.find_pending(project, id).await?.map_or(Ok(None), |_| Err(error.into())),
        }
    }

    async fn find_pending(&self, project: ProjectId, id: UploadId) -> Result<Option<Upload>> {
        let upload = self.patiently(self.clone().get_upload(project, id)).await?;
        Ok(Some(upload).filter(|it| matches!(it.status, UploadStatus::Pending)))
    }

    async fn complete(
        &self,
        project: ProjectId,
        id: UploadId,
        order: &PartOrder,
        md5: Option<Md5>,
        listed: Option<Vec<Part>>,
    ) -> Result<Upload> {
        let (mut tx, _turn) = self.begin(project).await?;
        let upload = uploads::lock(&mut tx, project, id, Origin::Client).await?.ok_or(Error::NoSuchUpload(id))?;
        CrashPoint::UploadLocked.passed();
        if let UploadStatus::Completed(_) = upload.status {
            let manifest = files::find_manifest(&mut tx, id.file()).await?;
            // The manifest of a File that was deleted before ledgers kept it in the File's row may be missing.
            let known = !manifest.is_empty() || upload.declaration.bytes == ByteCount::ZERO;
            return if known && manifest == order.ids() { Ok(upload) } else { Err(Error::CompletedOtherwise(id)) };
        }
        let completed = self.assemble(&mut tx, project, upload.into_pending()?, order, md5, listed).await?;
        db::commit(tx).await?;
        CrashPoint::CompletionCommitted.passed();
        Ok(completed)
    }

    /// What a completion does while it holds the Upload's row lock: it creates the File and ends the Upload. `listed`
    /// are its Parts, if they are already known.
    pub(super) async fn assemble(
        &self,
        tx: &mut Tx,
        project: ProjectId,
        pending: PendingUpload,
        order: &PartOrder,
        md5: Option<Md5>,
        listed: Option<Vec<Part>>,
    ) -> Result<Upload> {
        let stored = match listed {
            Some(listed) => listed,
            None => parts::list_stored(&mut *tx, pending.upload().id).await?,
        };
        let assembly = pending.assemble(order, stored)?;
        let file = files::insert(tx, project, &assembly, md5, self.discard()).await?;
        CrashPoint::CompletionWritten.passed();
        Ok(Upload { status: UploadStatus::Completed(Some(file)), ..assembly.upload().clone() })
    }

    /// Compares the MD5 of the listed Parts, in their order, with the client's. Returns the Upload if the same
    /// completion was done before.
    async fn check_md5(
        &self,
        project: ProjectId,
        id: UploadId,
        order: &Arc<PartOrder>,
        claimed: Md5,
    ) -> Result<Option<Upload>> {
        match self.compare_md5(project, id, order, claimed).await {
            Err(error) => {
                // An Upload that was cancelled or expired meanwhile, or whose File was deleted, has lost its Parts:
                // report that as the reason.
                let upload = not_given_up(self.run(|it| it.get_upload(project, id)).await?)?;
                let is_gone = matches!(upload.status, UploadStatus::Completed(None));
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
        let (turn, listed) = (self.turn_at_list(project, order).await?, Arc::clone(order));
        let look = async move |it: Self| {
            let _turn = turn;
            it.known_md5(project, id, &listed, claimed).await
        };
        let (mut digest, unread) = match self.run_at_length(look).await? {
            Known::Completed(upload) => return Ok(Some(upload)),
            Known::UpTo(digest, unread) => (digest, unread),
        };
        if !unread.is_empty() {
            let bytes: u64 = unread.iter().map(|part| part.bytes.get()).sum();
            let is_much = bytes > READ_AT_ONCE_BYTES;
            // Without a timeout: each read-back may be of a file of the maximum size.
            let turn = if is_much { Some(self.turns.read_backs.take(project).await) } else { None };
            let read = async move |it: Self| {
                let _turn = turn;
                it.read_md5(project, digest, unread).await
            };
            digest = self.run_at_length(read).await?;
        }
        let actual = digest.finish();
        if actual == claimed { Ok(None) } else { Err(Error::WrongMd5 { claimed, actual }) }
    }

    async fn known_md5(self, project: ProjectId, id: UploadId, order: &PartOrder, claimed: Md5) -> Result<Known> {
        let upload = not_given_up(self.patiently(self.clone().get_upload(project, id)).await?)?;
        if self.patiently(self.was_completed_so(&upload, order, claimed)).await? {
            return Ok(Known::Completed(upload));
        }
        let stored = self.patiently(parts::list_stored(&self.db, id)).await?;
        let mut parts = in_order(&upload, order, stored)?;
        let (covered, digest) = self.covered_by_md5(id, &parts).await?;
        Ok(Known::UpTo(digest, parts.split_off(covered)))
    }

    /// Whether the same completion was done before.
    async fn was_completed_so(&self, upload: &Upload, order: &PartOrder, claimed: Md5) -> Result<bool> {
        let UploadStatus::Completed(Some(File { md5: Some(md5), .. })) = &upload.status else { return Ok(false) };
        Ok(*md5 == claimed && files::find_manifest(&self.db, upload.id.file()).await? == order.ids())
    }

    async fn read_md5(self, project: ProjectId, mut digest: Md5Digest, parts: Vec<Part>) -> Result<Md5Digest> {
        let mut stretches = self.read_parts(&parts).await?;
        while let Some(stretch) = stretches.next().await {
            let stretch = stretch?;
            let _turn = self.turns.checksums.take(project).await;
            // Hashing a megabyte takes milliseconds, during which it would block a thread of the runtime.
            let hashed = tokio::task::spawn_blocking(move || stretch.look(|seen| digest.update(seen)).map(|()| digest));
            digest = hashed.await.map_err(io::Error::other).flatten().map_err(|_| Error::Interrupted)?;
        }
        Ok(digest)
    }
}

fn is_long(order: &PartOrder) -> bool {
    order.ids().len() > LONG_LIST
}

fn not_given_up(upload: Upload) -> Result<Upload> {
    if let UploadStatus::Expired | UploadStatus::Cancelled = upload.status {
        upload.clone().into_pending()?;
    }
    Ok(upload)
}
