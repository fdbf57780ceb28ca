//! Files of JSON lines, where their lines are checked: those of a form as they come, those of an Upload by reading
//! its Parts before it is completed.

use std::io;

use super::{Error, Result, Service};
use crate::db::parts;
use crate::domain::{
    Declaration, Filename, JsonLines, NotJsonl, PartOrder, ProjectId, Purpose, Upload, UploadId, UploadStatus, in_order,
};

/// The check of a form's file, whose purpose may come after its bytes.
pub struct FormJsonl {
    purpose: Option<Purpose>,
    /// None where there is nothing to check, which costs nothing.
    lines: Option<JsonLines>,
}

impl FormJsonl {
    /// Looks at the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        lines.take(bytes);
        // Without a purpose it is judged at the end.
        self.purpose.map_or(Ok(()), |purpose| NotJsonl::judge(purpose, lines)).map_err(Error::FileNotJsonl)
    }

    /// Judges the whole file, of which all is known now.
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
    /// [`Error::FileNotJsonl`], when the purpose takes JSON lines only, and the name says something else.
    pub fn begin_jsonl(&self, filename: &Filename, purpose: Option<Purpose>) -> Result<FormJsonl> {
        let check = self.limits.jsonl_check;
        if let Some(purpose) = purpose {
            check.check_name(purpose, filename).map_err(Error::FileNotJsonl)?;
        }
        Ok(FormJsonl { purpose, lines: check.reads_lines(purpose).then(JsonLines::default) })
    }

    /// Reads the listed Parts of a pending Upload, and checks each line, where that is asked for. What has ended is
    /// left to the completion, which gives the reason or the same answer again.
    pub(super) async fn check_jsonl(&self, project: ProjectId, id: UploadId, order: &PartOrder) -> Result<()> {
        if !self.limits.jsonl_check.reads_lines(None) {
            return Ok(());
        }
        let is_pending = |it: &Upload| matches!(it.status, UploadStatus::Pending);
        let upload = self.patiently(self.clone().get_upload(project, id)).await?;
        if !is_pending(&upload) || !self.limits.jsonl_check.reads_lines(Some(upload.declaration.purpose)) {
            return Ok(());
        }
        let checked = self.check_lines(&upload, order).await;
        // What ended meanwhile may have lost its Parts: then that is the reason.
        if checked.is_err() && !is_pending(&self.patiently(self.clone().get_upload(project, id)).await?) {
            return Ok(());
        }
        checked
    }

    async fn check_lines(&self, upload: &Upload, order: &PartOrder) -> Result<()> {
        let purpose = upload.declaration.purpose;
        let stored = self.patiently(parts::list_stored(&self.db, upload.id)).await?;
        let parts = in_order(upload, order, stored)?;
        let mut lines = JsonLines::default();
        let mut stretches = self.read_parts(parts.iter().map(|part| (*part, 0..part.bytes.get())).collect());
        while let Some(stretch) = stretches.next().await {
            let stretch = stretch?;
            // As for an MD5: it takes milliseconds, and may wait for a disk.
            let looked = tokio::task::spawn_blocking(move || stretch.look(|it| lines.take(it)).map(|()| lines));
            lines = looked.await.map_err(io::Error::other).flatten().map_err(|_| Error::Interrupted)?;
            NotJsonl::judge(purpose, &lines).map_err(Error::PartsNotJsonl)?;
        }
        lines.end();
        NotJsonl::judge(purpose, &lines).map_err(Error::PartsNotJsonl)
    }
}
