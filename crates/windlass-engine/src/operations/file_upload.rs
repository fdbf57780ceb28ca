//! A File sent in one request (`POST /v1/files`). It becomes an internal Upload, whose bytes are split into Parts here
//! and take the same write path as those of any Part. Its name and purpose may arrive after its bytes.

use std::sync::Arc;

use tokio::sync::oneshot;
use windlass_types::{AnyPurpose, ByteCount, ErrorChain, PartId, PartOrder, ProjectId, UploadId};

use crate::db::forms::{self, Change};
use crate::db::uploads::Origin;
use crate::db::{self, files, signed_urls, uploads};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::ingest::admission::Target;
use crate::ingest::once::{Once, OnceIngest, OnceRequest, Outcome};
use crate::ingest::part_ingest::PartIngest;
use crate::model::{Digests, File, Fingerprint, Limits, Quota, QuotaExceeded, UploadSpec, UploadState};
use crate::operations::jsonl_check::JsonlValidation;
use crate::operations::signed_urls::UploadUrl;
use crate::resources::fair_queue::Precedence;
use crate::resources::part_buffers::PartBuffers;
use crate::retry::retry;
use crate::service::Service;

/// A File being received. If it is dropped before [`FileUpload::finish`], its Upload is cancelled.
pub struct FileUpload {
    service: Service,
    project: ProjectId,
    upload: UploadId,
    /// The declared length of the body, if any.
    expected: Option<u64>,
    jsonl: JsonlValidation,
    part: Option<PartIngest>,
    /// The buffers of the previous Part. The next one reuses them, so that it does not wait for memory.
    buffers: Option<Arc<PartBuffers>>,
    stored: Vec<PartId>,
    taken: u64,
    reserved: Reserved,
    /// The signed URL that permits it, if it was not sent with a key.
    url: Option<UploadUrl>,
    /// The idempotent request, if it has a key.
    once: Option<Box<OnceIngest<File>>>,
    /// Stops the task that otherwise cancels the Upload when this is dropped.
    done: oneshot::Sender<()>,
}

/// The bytes that are reserved of the project's quota.
#[derive(Clone, Copy)]
enum Reserved {
    /// The project has no limit.
    NotNeeded,
    /// This many.
    Bytes(u64),
}

/// How much is reserved at once for a body of unknown length.
const RESERVED_AHEAD: u64 = 8 * 1024 * 1024;

/// A File that has been received completely.
struct ReceivedForm {
    project: ProjectId,
    upload: UploadId,
    spec: UploadSpec,
    order: PartOrder,
    digests: Digests,
    url: Option<UploadUrl>,
    once: Option<OnceRequest<File>>,
}

impl Service {
    /// Begins a File whose name, purpose and size are not known yet. `expected` is the declared length of the body, if
    /// any, and `once` the idempotency key, if there is one.
    ///
    /// # Errors
    /// [`Error::Quota`]; when the ledger fails or the store does not belong to it, or the disk does not have
    /// enough free space for the body.
    pub async fn begin_file(
        &self,
        project: ProjectId,
        expected: Option<u64>,
        jsonl: JsonlValidation,
        once: Option<Once<File>>,
    ) -> Result<FileUpload> {
        let once = match once {
            Some(once) => Some(Box::new(self.begin_once(project, once).await?)),
            None => None,
        };
        let upload = UploadId::generate();
        let (done, dropped) = oneshot::channel();
        let (part, buffers, stored) = (None, None, Vec::new());
        let (service, taken, reserved, url) = (self.clone(), 0, Reserved::NotNeeded, None);
        let file = FileUpload {
            service,
            project,
            upload,
            expected,
            jsonl,
            part,
            buffers,
            stored,
            taken,
            reserved,
            url,
            once,
            done,
        };
        if file.is_repeated() {
            return Ok(file);
        }
        self.readiness.check_store()?;
        self.space.admit(expected.unwrap_or(0))?;
        let begin = move |it: Self| async move {
            let mut file = file;
            // Before the insertion, whose commit may succeed although its response is lost.
            let watcher = it.clone();
            it.spawn(async move {
                if dropped.await.is_err() {
                    watcher.abandon_form(project, upload).await;
                }
            });
            match it.insert_form(project, upload, expected).await {
                Ok(reserved) => file.reserved = reserved,
                Err(error @ Error::Quota(_)) if file.once.is_some() => {
                    // Perhaps what exceeds the quota is the file of an earlier request with the same key.
                    if !file.find_answer().await? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            CrashPoint::FormWritten.passed();
            Ok(file)
        };
        self.run_in_turn(project, Precedence::UnderWay, begin).await
    }

    /// Inserts the Upload, and reserves the declared length of its body.
    async fn insert_form(&self, project: ProjectId, upload: UploadId, expected: Option<u64>) -> Result<Reserved> {
        let (lifetime, limits) = (self.limits.upload_lifetime, self.limits.project);
        let insert = async |bytes: u64| {
            let reserved = ByteCount::try_from(bytes).map_err(|_| Error::FileTooLarge(self.limits.file_bytes))?;
            Ok::<_, Error>((forms::insert(&self.db, project, upload, reserved, lifetime, limits).await?, bytes))
        };
        let declared = expected.unwrap_or(0);
        let inserted = match insert(declared).await? {
            // The length includes the form around the file: perhaps the file itself fits.
            (Change::Refused(QuotaExceeded { quota: Quota::Bytes, .. }), _) if declared > 0 => {
                insert(declared.saturating_sub(Limits::FORM_OVERHEAD_BYTES)).await?
            }
            inserted => inserted,
        };
        match inserted {
            (Change::Refused(exceeded), _) => Err(exceeded.into()),
            (Change::Done | Change::NotPending, bytes) if expected == Some(bytes) => Ok(Reserved::Bytes(bytes)),
            (Change::Done | Change::NotPending, bytes) => {
                let is_limited = forms::has_limited_bytes(&self.db, project, limits).await?;
                Ok(if is_limited { Reserved::Bytes(bytes) } else { Reserved::NotNeeded })
            }
        }
    }

    /// Reserves more bytes for a body: if possible, more than have arrived.
    async fn reserve_more(self, project: ProjectId, upload: UploadId, taken: u64) -> Result<Reserved> {
        let too_large = |_| Error::FileTooLarge(self.limits.file_bytes);
        let ahead = taken.saturating_add(RESERVED_AHEAD).min(self.limits.file_bytes.get()).max(taken);
        for (bytes, is_last) in [(ahead, false), (taken, true)] {
            let count = ByteCount::try_from(bytes).map_err(too_large)?;
            let reserve = async || Ok(forms::reserve(&self.db, project, upload, count, self.limits.project).await?);
            match retry!(self, reserve())? {
                Change::Done => return Ok(Reserved::Bytes(bytes)),
                Change::NotPending => return Err(Error::Expired(upload)),
                Change::Refused(exceeded) if is_last => return Err(exceeded.into()),
                Change::Refused(_) => {}
            }
        }
        Err(Error::Bug("a reservation was neither made nor refused"))
    }

    /// Cancels the Upload of an abandoned form, unless it has already ended: a client may disconnect while its form is
    /// being completed.
    async fn abandon_form(&self, project: ProjectId, upload: UploadId) {
        match self.cancel(project, upload, Origin::Form).await {
            // `cancel` returns this for a form that is not pending, since the Uploads of forms are hidden from clients.
            Ok(()) | Err(Error::NoSuchUpload(_)) => {}
            Err(error) => {
                let error = ErrorChain(&error);
                tracing::warn!(
                    upload.id = %upload, %error,
                    "cannot cancel the upload of an abandoned form; it will expire"
                );
            }
        }
    }

    /// Cancels the Upload of a form that exceeds a quota before the response is sent, so that the next request can use
    /// what it has reserved.
    async fn release_if_refused<T>(&self, project: ProjectId, upload: UploadId, outcome: Result<T>) -> Result<T> {
        if matches!(outcome, Err(Error::Quota(_))) {
            self.abandon_form(project, upload).await;
        }
        outcome
    }

    async fn complete_form(self, form: ReceivedForm) -> Result<File> {
        let mut commit_sent = false;
        retry!(self, self.try_complete_form(&form, &mut commit_sent))
    }

    /// One attempt. `commit_sent` is set if an earlier attempt reached its commit, which may have succeeded.
    async fn try_complete_form(&self, form: &ReceivedForm, commit_sent: &mut bool) -> Result<File> {
        let ReceivedForm { project, upload, spec, order, digests, url, once } = form;
        let (project, upload) = (*project, *upload);
        let (_permit, mut tx) = self.begin(project).await?;
        match forms::declare(&mut tx, project, upload, spec, self.limits.project).await? {
            Change::Done => {}
            Change::Refused(exceeded) => return Err(exceeded.into()),
            Change::NotPending => {
                let made = if *commit_sent { files::find(&mut tx, project, upload.file()).await? } else { None };
                return made.ok_or(Error::Expired(upload));
            }
        }
        CrashPoint::FormDeclared.passed();
        let pending = uploads::lock(&mut tx, project, upload, Origin::Form)
            .await?
            .ok_or(Error::NoSuchUpload(upload))?
            .into_pending()?;
        let completed = self.complete_locked(&mut tx, project, pending, order, digests, None).await?;
        let UploadState::Completed(Some(file)) = completed.state else {
            return Err(Error::Bug("a completed upload has no file"));
        };
        if let Some(url) = url
            && !signed_urls::mark_used(&mut tx, url.once, url.expires_at, file.id.uuid()).await?
        {
            return self.file_of_used_url(&mut tx, project, url, &file).await;
        }
        if let Some(once) = once {
            self.record_answer(&mut tx, project, once, file.id.uuid(), &file).await?;
        }
        *commit_sent = true;
        db::commit(tx).await?;
        CrashPoint::CompletionCommitted.passed();
        Ok(file)
    }
}

impl FileUpload {
    /// Whether the request is repeated, so that its content is only compared.
    fn is_repeated(&self) -> bool {
        self.once.as_ref().is_some_and(|it| it.is_answered())
    }

    /// Looks again whether the request is repeated.
    async fn find_answer(&mut self) -> Result<bool> {
        match &mut self.once {
            Some(once) => once.find_answer(&self.service, self.project).await,
            None => Ok(false),
        }
    }

    /// Restricts the File to what a signed URL permits.
    #[must_use]
    pub(crate) fn with_url(self, url: UploadUrl) -> Self {
        Self { url: Some(url), ..self }
    }

    /// Receives the next bytes of the File. Not cancel-safe: after a cancelled write, the File must be dropped.
    ///
    /// # Errors
    /// [`Error::FileTooLarge`], [`Error::FileNotJsonl`], [`Error::Quota`], those of [`Service::begin_part`], [`PartIngest::write`] and
    /// [`PartIngest::finish`].
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let limits = self.service.limits();
        let (file_bytes, part_bytes) = (limits.file_bytes, limits.part_bytes.get());
        self.taken += bytes.len() as u64;
        if let Some(max) = self.url.as_ref().map(|it| it.max_bytes).filter(|max| self.taken > max.get()) {
            return Err(Error::UrlFileTooLarge(max));
        }
        if self.taken > file_bytes.get() {
            return Err(Error::FileTooLarge(file_bytes));
        }
        if let Some(once) = &mut self.once {
            once.update(bytes);
        }
        if self.is_repeated() {
            return Ok(());
        }
        self.jsonl.take(bytes)?;
        if matches!(self.reserved, Reserved::Bytes(reserved) if self.taken > reserved) {
            let (project, upload, taken) = (self.project, self.upload, self.taken);
            let more = move |it: Service| async move {
                let reserved = it.clone().reserve_more(project, upload, taken).await;
                it.release_if_refused(project, upload, reserved).await
            };
            self.reserved = self.service.run(more).await?;
        }
        while !bytes.is_empty() {
            let mut part = match self.part.take() {
                Some(part) if part.taken() < part_bytes => part,
                full => {
                    self.end_part(full).await?;
                    self.begin_part().await?
                }
            };
            let left = usize::try_from(part_bytes - part.taken()).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(left));
            part.write(now).await?;
            self.part = Some(part);
            bytes = later;
        }
        Ok(())
    }

    /// Finishes the File; `about` describes it, given its size in bytes, and `digests` are those of its bytes that have
    /// been verified. When this returns, the File is stored durably. If the caller is cancelled, it may be stored all the
    /// same.
    ///
    /// # Errors
    /// When the File is too large or not accepted for its purpose, the idempotency key was used for another request
    /// ([`Error::KeyReused`]), the ledger or the store fails, or the Upload has expired ([`Error::Expired`]).
    pub async fn finish(
        mut self,
        about: impl FnOnce(ByteCount) -> UploadSpec,
        digests: Digests,
    ) -> Result<Outcome<File>> {
        let last = self.part.take();
        let bytes =
            ByteCount::try_from(self.taken).map_err(|_| Error::FileTooLarge(self.service.limits().file_bytes))?;
        let spec = about(bytes);
        let once = self.once.take().map(|it| it.finish(|content| Fingerprint::of_file(&spec, content)));
        let mut once = once.transpose()?;
        if let Some(once) = &mut once
            && let Some(repeated) = once.repeated()?
        {
            return Ok(repeated);
        }
        let file_lifetime = self.service.file_lifetime(self.project, spec.purpose, spec.file_lifetime).await?;
        let spec = UploadSpec { file_lifetime, ..spec };
        let limit = self.service.limits().batch_file_bytes;
        if spec.purpose == AnyPurpose::Batch && bytes > limit {
            return Err(Error::PurposeTooLarge { purpose: spec.purpose, limit, bytes });
        }
        self.jsonl.finish(&self.service, &spec)?;
        self.end_part(last).await?;
        let order = PartOrder::try_from(self.stored).map_err(|_| Error::TooManyParts(self.upload))?;
        let (project, upload, url) = (self.project, self.upload, self.url);
        let form = ReceivedForm { project, upload, spec, order, digests, url, once: once.clone() };
        let complete = move |it: Service| async move {
            let created = it.clone().complete_form(form).await;
            it.release_if_refused(project, upload, created).await
        };
        let created = self.service.run(complete).await;
        // Unless the file is an earlier one, from the first use of a signed URL: then this one is abandoned.
        if created.as_ref().is_ok_and(|file| file.id == upload.file()) {
            self.done.send(()).ok();
        }
        match once {
            Some(once) => once.outcome(created),
            None => created.map(Outcome::Created),
        }
    }

    async fn begin_part(&mut self) -> Result<PartIngest> {
        let target = Target { project: self.project, upload: self.upload, origin: Origin::Form };
        self.service.begin_ingest(target, self.expected, self.buffers.take()).await
    }

    async fn end_part(&mut self, part: Option<PartIngest>) -> Result<()> {
        if let Some(part) = part {
            let (part, buffers) = part.finish_with_buffers(None).await?;
            self.stored.push(part.id);
            self.buffers = buffers;
        }
        Ok(())
    }
}
