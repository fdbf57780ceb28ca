//! Checks the lines of JSON Lines files: those of a form as they arrive, those of an Upload by reading its Parts before
//! it is completed.

use std::sync::Arc;

use windlass_types::{AnyPurpose, Filename, PartOrder, ProjectId, UploadId};

use crate::db::parts;
use crate::error::{Error, Result};
use crate::model::{JsonLines, NotJsonl, Part, Upload, UploadSpec, UploadState, in_order};
use crate::resources::fair_queue::Precedence;
use crate::service::Service;
use crate::spawn::spawn_blocking;

/// The check of a form's file, whose purpose may arrive after its bytes.
pub struct JsonlValidation {
    /// `None` if it is not known yet.
    purpose: Option<AnyPurpose>,
    /// `None` if the lines are not checked.
    lines: Option<JsonLines>,
}

impl JsonlValidation {
    /// Checks the next bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        lines.take(bytes);
        // While the purpose is unknown, an invalid line is reported at the end only.
        self.purpose.map_or(Ok(()), |purpose| NotJsonl::judge(purpose, lines)).map_err(Error::FileNotJsonl)
    }

    /// Checks the whole file once its name and purpose are known.
    pub(crate) fn finish(&mut self, service: &Service, spec: &UploadSpec) -> Result<()> {
        let check = service.limits.jsonl_check;
        check.check_name(spec.purpose, &spec.filename).map_err(Error::FileNotJsonl)?;
        let Some(lines) = &mut self.lines else { return Ok(()) };
        lines.end();
        NotJsonl::judge(spec.purpose, lines).map_err(Error::FileNotJsonl)
    }
}

impl Service {
    /// Begins the check of a form's file, whose purpose is given if it arrived before the file.
    ///
    /// # Errors
    /// [`Error::FileNotJsonl`] if the purpose accepts only JSON lines, and the name does not end in `.jsonl`.
    pub fn begin_jsonl_validation(&self, filename: &Filename, purpose: Option<AnyPurpose>) -> Result<JsonlValidation> {
        let check = self.limits.jsonl_check;
        if let Some(purpose) = purpose {
            check.check_name(purpose, filename).map_err(Error::FileNotJsonl)?;
        }
        Ok(JsonlValidation { purpose, lines: check.reads_lines(purpose).then(JsonLines::default) })
    }

    /// Checks each line of the listed Parts of a pending Upload, if that is configured. An Upload that has ended is not
    /// checked: the completion returns the error, or the File again.
    ///
    /// # Errors
    /// [`Error::PartsNotJsonl`], [`Error::PartsDoNotFit`], or when the Parts cannot be read.
    pub(crate) async fn check_jsonl(&self, project: ProjectId, id: UploadId, order: &Arc<PartOrder>) -> Result<()> {
        if !self.limits.jsonl_check.reads_lines(None) {
            return Ok(());
        }
        let find = async move |it: Self| it.pending_with_lines(project, id).await;
        let Some(upload) = self.run_without_timeout(find).await? else { return Ok(()) };
        let (permit, listed) = (self.queues.read_backs.acquire(project, Precedence::UnderWay).await, Arc::clone(order));
        let check = async move |it: Self| {
            let _permit = permit;
            it.check_lines(project, &upload, &listed).await
        };
        match self.run_without_timeout(check).await {
            // If the Upload has ended in the meantime, its Parts may be gone: the completion returns the reason.
            Err(error) => self.run_without_timeout(find).await?.map_or(Ok(()), |_| Err(error)),
            Ok(()) => Ok(()),
        }
    }

    /// The Upload, if it is pending and its lines have to be checked.
    async fn pending_with_lines(&self, project: ProjectId, id: UploadId) -> Result<Option<Upload>> {
        let upload = self.with_db_timeout(self.find_upload(project, id)).await?;
        let has_lines = self.limits.jsonl_check.reads_lines(Some(upload.spec.purpose));
        Ok(Some(upload).filter(|it| has_lines && matches!(it.state, UploadState::Pending)))
    }

    async fn check_lines(&self, project: ProjectId, upload: &Upload, order: &PartOrder) -> Result<()> {
        let stored = self.with_db_timeout(parts::list_stored(&self.db, upload.id)).await?;
        self.read_lines(project, upload.spec.purpose, in_order(upload, order, stored)?).await
    }

    /// Checks the lines of these Parts in order, up to the first invalid one.
    async fn read_lines(&self, project: ProjectId, purpose: AnyPurpose, parts: Vec<Part>) -> Result<()> {
        let mut lines = JsonLines::default();
        let mut slices = self.read_parts(&parts).await?;
        while let Some(slice) = slices.next().await {
            let slice = slice?;
            let _permit = self.queues.checksums.acquire(project, Precedence::UnderWay).await;
            // This would block a thread of the runtime for milliseconds, or longer if it waits for a disk.
            let checked = spawn_blocking(move || slice.look(|it| lines.take(it)).map(|()| lines));
            lines = checked.await?.map_err(Error::Read)?;
            NotJsonl::judge(purpose, &lines).map_err(Error::PartsNotJsonl)?;
        }
        lines.end();
        NotJsonl::judge(purpose, &lines).map_err(Error::PartsNotJsonl)
    }
}
