//! Checks the lines of files of JSON lines: those of a form as they arrive, those of an Upload by reading its Parts
//! before it is completed.

use std::io;
use std::sync::Arc;

use super::{Error, Result, Service};
use crate::db::parts;
use crate::domain::{
    Declaration, Filename, JsonLines, NotJsonl, Part, PartOrder, ProjectId, Purpose, Upload, UploadId, UploadStatus,
    in_order,
};

/// The check of a form's file, whose purpose may come after its bytes.
pub struct FormJsonl {
    purpose: Option<Purpose>,
    /// `None` if there is nothing to check.
    lines: Option<JsonLines>,
}

impl FormJsonl {
    /// Checks the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        lines.take(bytes);
        // While the purpose is unknown, the lines are judged at the end only.
        self.purpose.map_or(Ok(()), |purpose| NotJsonl::judge(purpose, lines)).map_err(Error::FileNotJsonl)
    }

    /// Checks the whole file, whose name and purpose are known now.
    pub(super) fn finish(&mut self, service: &Service, about: &Declaration) -> Result<()> {
        let check = service.limits.jsonl_check;
        check.check_name(about.purpose, &about.filename).map_err(Error::FileNotJsonl)?;
        let Some(lines) = &mut self.lines else { return Ok(()) };
        lines.end();
        NotJsonl::judge(about.purpose, lines).map_err(Error::FileNotJsonl)
    }
}

impl Service {
    /// Begins the check of a form's file, with its purpose if that came before it.
    ///
    /// # Errors
    /// [`Error::FileNotJsonl`], when the purpose takes JSON lines only, and the name does not end in `.jsonl`.
    pub fn begin_jsonl(&self, filename: &Filename, purpose: Option<Purpose>) -> Result<FormJsonl> {
        let check = self.limits.jsonl_check;
        if let Some(purpose) = purpose {
            check.check_name(purpose, filename).map_err(Error::FileNotJsonl)?;
        }
        Ok(FormJsonl { purpose, lines: check.reads_lines(purpose).then(JsonLines::default) })
    }

    /// Checks each line of the listed Parts of a pending Upload, if that is configured. An Upload that has ended is
    /// left to the completion, which reports the reason or repeats its response.
    pub(super) async fn check_jsonl(&self, project: ProjectId, id: UploadId, order: &Arc<PartOrder>) -> Result<()> {
        if !self.limits.jsonl_check.reads_lines(None) {
            return Ok(());
        }
        let find = async move |it: Self| it.pending_with_lines(project, id).await;
        let Some(upload) = self.run_at_length(find).await? else { return Ok(()) };
        let (turn, listed) = (self.turns.read_backs.take(project).await, Arc::clone(order));
        let check = async move |it: Self| {
            let _turn = turn;
            it.check_lines(project, &upload, &listed).await
        };
        match self.run_at_length(check).await {
            // An Upload that ended meanwhile may have lost its Parts: the completion reports that.
            Err(error) => self.run_at_length(find).await?.map_or(Ok(()), |_| Err(error)),
            Ok(()) => Ok(()),
        }
    }

    /// A pending Upload whose lines are to be checked.
    async fn pending_with_lines(&self, project: ProjectId, id: UploadId) -> Result<Option<Upload>> {
        let upload = self.patiently(self.clone().get_upload(project, id)).await?;
        let has_lines = self.limits.jsonl_check.reads_lines(Some(upload.declaration.purpose));
        Ok(Some(upload).filter(|it| has_lines && matches!(it.status, UploadStatus::Pending)))
    }

    async fn check_lines(&self, project: ProjectId, upload: &Upload, order: &PartOrder) -> Result<()> {
        let stored = self.patiently(parts::list_stored(&self.db, upload.id)).await?;
        self.read_lines(project, upload.declaration.purpose, in_order(upload, order, stored)?).await
    }

    /// Reads Parts one after another, up to the first invalid line.
    async fn read_lines(&self, project: ProjectId, purpose: Purpose, parts: Vec<Part>) -> Result<()> {
        let mut lines = JsonLines::default();
        let mut stretches = self.read_parts(&parts).await?;
        while let Some(stretch) = stretches.next().await {
            let stretch = stretch?;
            let _turn = self.turns.checksums.take(project).await;
            // As for an MD5: it takes milliseconds, and may wait for a disk.
            let looked = tokio::task::spawn_blocking(move || stretch.look(|it| lines.take(it)).map(|()| lines));
            lines = looked.await.map_err(io::Error::other).flatten().map_err(|_| Error::Interrupted)?;
            NotJsonl::judge(purpose, &lines).map_err(Error::PartsNotJsonl)?;
        }
        lines.end();
        NotJsonl::judge(purpose, &lines).map_err(Error::PartsNotJsonl)
    }
}
