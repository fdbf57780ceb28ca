//! A File sent in one request (`POST /v1/files`): an Upload inside the service, which is split into Parts here, and
//! whose name and purpose may come after its bytes. Its bytes take the path of those of any Part.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::intake::Target;
use super::room::Rooms;
use super::{Error, FormJsonl, Intake, Result, Service};
use crate::crash::CrashPoint;
use crate::db::uploads::Origin;
use crate::db::{self, files, uploads};
use crate::domain::{
    ByteCount, Declaration, File, PartId, PartOrder, ProjectId, Purpose, Upload, UploadId, UploadStatus,
};

/// A File being received. Dropped before [`FormIntake::finish`], it leaves nothing behind.
pub struct FormIntake {
    service: Service,
    project: ProjectId,
    upload: UploadId,
    /// The length that the body declares, if it does.
    expected: Option<u64>,
    jsonl: FormJsonl,
    part: Option<Intake>,
    /// The memory of the previous Part, for the next one, so that it does not wait for memory in the middle of a file.
    kept: Option<Arc<Rooms>>,
    stored: Vec<PartId>,
    taken: u64,
    /// Tells the task that watches the Upload that it has ended.
    done: oneshot::Sender<()>,
}

impl Service {
    /// Begins a File of which nothing is known yet, except perhaps the length of the body.
    ///
    /// # Errors
    /// When the ledger fails, or the disk does not have enough free space for the body.
    pub async fn begin_form(self, project: ProjectId, expected: Option<u64>, jsonl: FormJsonl) -> Result<FormIntake> {
        self.check_store()?;
        self.space.admit(expected.unwrap_or(0))?;
        let upload = UploadId::generate();
        uploads::insert_form(&self.db, project, upload, self.limits.upload_lifetime).await?;
        CrashPoint::FormWritten.passed();
        let (done, dropped) = oneshot::channel();
        let watcher = self.clone();
        self.spawn(async move {
            if dropped.await.is_err() {
                watcher.give_up_form(project, upload).await;
            }
        });
        let (part, kept, stored) = (None, None, Vec::new());
        Ok(FormIntake { service: self, project, upload, expected, jsonl, part, kept, stored, taken: 0, done })
    }

    /// Cancels the Upload of an abandoned form, unless it has ended already: a client may disconnect while its form is
    /// being completed.
    async fn give_up_form(&self, project: ProjectId, upload: UploadId) {
        match self.cancel(project, upload, Origin::Form).await {
            // `cancel` reports a form that is not pending as unknown, since clients do not see the Upload of a form.
            Ok(()) | Err(Error::NoSuchUpload(_)) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    upload.id = %upload, error,
                    "cannot cancel the upload of an abandoned form; it will expire"
                );
            }
        }
    }

    async fn complete_form(
        self,
        project: ProjectId,
        upload: UploadId,
        declaration: Declaration,
        order: PartOrder,
    ) -> Result<File> {
        let (mut attempts, mut begun) = (self.attempts(), false);
        loop {
            match self.try_complete_form(project, upload, &declaration, &order, &mut begun).await {
                Err(error) => attempts.after(error).await?,
                completed => return completed,
            }
        }
    }

    /// `begun` says that an earlier attempt got as far as its commit, which may have succeeded.
    async fn try_complete_form(
        &self,
        project: ProjectId,
        upload: UploadId,
        declaration: &Declaration,
        order: &PartOrder,
        begun: &mut bool,
    ) -> Result<File> {
        let (mut tx, _turn) = self.begin(project).await?;
        if !uploads::declare_form(&mut tx, project, upload, declaration).await? {
            let made = if *begun { files::find(&mut tx, project, upload.file()).await? } else { None };
            return made.ok_or(Error::Expired(upload));
        }
        CrashPoint::FormDeclared.passed();
        let pending = uploads::lock(&mut tx, project, upload, Origin::Form)
            .await?
            .ok_or(Error::NoSuchUpload(upload))?
            .into_pending()?;
        let completed = self.assemble(&mut tx, project, pending, order, None, None).await?;
        *begun = true;
        db::commit(tx).await?;
        CrashPoint::CompletionCommitted.passed();
        match completed {
            Upload { status: UploadStatus::Completed(Some(file)), .. } => Ok(file),
            Upload { .. } => Err(Error::Interrupted),
        }
    }
}

impl FormIntake {
    /// Receives the next bytes of the file.
    ///
    /// # Errors
    /// When there are more than a File in one request may have, a checked line is invalid, or the store failed.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let limits = self.service.limits();
        let (file_bytes, part_bytes) = (limits.file_bytes, limits.part_bytes.get());
        self.taken += bytes.len() as u64;
        if self.taken > file_bytes.get() {
            return Err(Error::FileTooLarge(file_bytes));
        }
        self.jsonl.take(bytes)?;
        while !bytes.is_empty() {
            let mut part = match self.part.take() {
                Some(part) if part.taken() < part_bytes => part,
                full => {
                    self.end_part(full).await?;
                    self.begin_part().await?
                }
            };
            let room = usize::try_from(part_bytes - part.taken()).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            part.write(now).await?;
            self.part = Some(part);
            bytes = later;
        }
        Ok(())
    }

    /// Finishes the File. When this returns, it is stored and durable.
    ///
    /// # Errors
    /// When it is too large or not accepted for its purpose, the store failed, or it took longer than an Upload may.
    pub async fn finish(mut self, about: impl FnOnce(ByteCount) -> Declaration) -> Result<File> {
        let last = self.part.take();
        let bytes =
            ByteCount::try_from(self.taken).map_err(|_| Error::FileTooLarge(self.service.limits().file_bytes))?;
        let declaration = about(bytes);
        let limit = self.service.limits().batch_file_bytes;
        if declaration.purpose == Purpose::Batch && bytes > limit {
            return Err(Error::PurposeTooLarge { purpose: declaration.purpose, limit, bytes });
        }
        self.jsonl.finish(&self.service, &declaration)?;
        self.end_part(last).await?;
        let order = PartOrder::try_from(self.stored).map_err(|_| Error::TooManyParts(self.upload))?;
        let (project, upload) = (self.project, self.upload);
        let file = self.service.run(move |it| it.complete_form(project, upload, declaration, order)).await?;
        self.done.send(()).ok();
        Ok(file)
    }

    async fn begin_part(&mut self) -> Result<Intake> {
        let target = Target { project: self.project, upload: self.upload, origin: Origin::Form };
        self.service.begin_intake(target, self.expected, self.kept.take()).await
    }

    async fn end_part(&mut self, part: Option<Intake>) -> Result<()> {
        if let Some(part) = part {
            let (part, kept) = part.finish_and_keep().await?;
            self.stored.push(part.id);
            self.kept = kept;
        }
        Ok(())
    }
}
