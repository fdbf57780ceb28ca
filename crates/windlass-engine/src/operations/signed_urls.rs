//! Signed URLs: creating them, checking them, and rotating their secrets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use windlass_types::{ByteCount, FileId, ProjectId, UrlLifetime};

use crate::db::{Db, Tx, files, signed_urls};
use crate::error::{Error, Result};
use crate::model::{
    AuditAction, Caller, File, FileTerms, KeyRates, NewUpload, URL_SECRET_BYTES, UploadSpec, UrlAccess, UrlClaims,
    UrlSecrets,
};
use crate::operations::audit::{Act, commit_act};
use crate::operations::file_upload::FileUpload;
use crate::resources::fair_queue::Precedence;
use crate::retry::retry;
use crate::service::Service;

/// How long a new secret exists before it signs URLs: longer than processes cache the secrets, so that all of them know
/// it by then.
const SIGNING_DELAY: Duration = Duration::from_mins(1);

/// How long a replaced secret is kept: the longest lifetime of a URL, and a day for clocks and caches.
const REPLACED_SECRET_RETENTION: Duration = Duration::from_secs(UrlLifetime::MAX_SECONDS.unsigned_abs() + 86_400);

/// A new signed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUrl {
    /// The token, which is the secret part of the URL.
    pub token: String,
    /// When the URL expires, in Unix seconds.
    pub expires_at: i64,
}

/// The permission to send one File, from a verified URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadUrl {
    /// The id of the URL, which can be used once.
    pub(crate) once: Uuid,
    pub(crate) expires_at: i64,
    pub(crate) max_bytes: ByteCount,
}

impl Service {
    /// Creates a URL for downloading a File, without `once` any number of times.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`], or when the ledger fails.
    pub async fn sign_download(
        &self,
        caller: Caller,
        file: FileId,
        lifetime: UrlLifetime,
        once: bool,
    ) -> Result<(NewUrl, File)> {
        let found = self.get_file(caller.project, file).await?;
        let new = self.sign(caller, lifetime, once, UrlAccess::Download(file)).await?;
        Ok((new, found))
    }

    /// Creates a URL for sending one File.
    ///
    /// # Errors
    /// [`Error::Spec`] if the name or the MIME type is not accepted for the purpose, or when the ledger fails.
    pub async fn sign_upload(&self, caller: Caller, lifetime: UrlLifetime, terms: FileTerms) -> Result<NewUrl> {
        NewUpload::new(terms.clone().spec(ByteCount::ZERO), &self.limits)?;
        self.file_lifetime(caller.project, terms.purpose, terms.file_lifetime).await?;
        self.sign(caller, lifetime, true, UrlAccess::Upload(terms)).await
    }

    async fn sign(&self, caller: Caller, lifetime: UrlLifetime, once: bool, access: UrlAccess) -> Result<NewUrl> {
        let secrets = self.url_secrets().await?;
        let expiry = move |it: Self| async move { Ok(signed_urls::expiry(&it.db, lifetime).await?) };
        let expires_at = self.run_in_turn(caller.project, Precedence::New, expiry).await?;
        let Caller { project, key, .. } = caller;
        let claims = UrlClaims { key, project, expires_at, once: once.then(Uuid::now_v7), access };
        let token = secrets.sign(&claims).ok_or(Error::Bug("no secret signs URLs"))?;
        Ok(NewUrl { token, expires_at })
    }

    /// Verifies the token of a URL. Also returns the rates of the key that created it. An uploading URL that was used is not rejected here, but by [`FileUpload::finish`].
    ///
    /// # Errors
    /// [`Error::BadUrl`], [`Error::UrlExpired`], [`Error::UrlUsed`], or when the ledger fails.
    pub async fn verify_url(&self, token: &str) -> Result<(UrlClaims, KeyRates)> {
        let claims = self.url_secrets().await?.verify(token).ok_or(Error::BadUrl)?;
        let check = |it: Self| async move {
            let status = signed_urls::status(&it.db, &claims).await?;
            Ok((status, claims))
        };
        let (status, claims) = self.run(check).await?;
        if status.is_expired {
            return Err(Error::UrlExpired);
        }
        let rates = status.rates.ok_or(Error::BadUrl)?;
        if status.is_used && matches!(claims.access, UrlAccess::Download(_)) {
            return Err(Error::UrlUsed);
        }
        Ok((claims, rates))
    }

    /// Records a download with this URL, if it can be used once.
    ///
    /// # Errors
    /// [`Error::UrlUsed`] if another request was faster, or when the ledger fails.
    pub async fn use_download_url(&self, claims: &UrlClaims) -> Result<()> {
        let Some(once) = claims.once else { return Ok(()) };
        let (expires_at, used_by) = (claims.expires_at, Uuid::now_v7());
        let mark = move |it: Self| async move {
            let mark = async || Ok(signed_urls::mark_used(&it.db, once, expires_at, used_by).await?);
            retry!(it, mark())
        };
        if self.run(mark).await? { Ok(()) } else { Err(Error::UrlUsed) }
    }

    /// Begins a File that a verified URL permits. `expected` is the declared length of the body, if any.
    ///
    /// # Errors
    /// Those of [`Self::begin_file`] and [`Self::begin_jsonl_validation`], [`Error::UrlFileTooLarge`] if the declared
    /// length is more than permitted, [`Error::Overloaded`], or [`Error::BadUrl`] if the URL is not for an upload.
    pub async fn begin_url_file(&self, claims: &UrlClaims, expected: Option<u64>) -> Result<(FileUpload, FileTerms)> {
        let (UrlAccess::Upload(terms), Some(once)) = (&claims.access, claims.once) else { return Err(Error::BadUrl) };
        let max_bytes = terms.max_bytes.unwrap_or(self.limits.file_bytes).min(self.limits.file_bytes);
        if expected.is_some_and(|it| it > max_bytes.get()) {
            return Err(Error::UrlFileTooLarge(max_bytes));
        }
        self.admit_upload(claims.project)?;
        let jsonl = self.begin_jsonl_validation(&terms.filename, Some(terms.purpose))?;
        let file = self.begin_file(claims.project, expected, jsonl, None).await?;
        Ok((file.with_url(UploadUrl { once, expires_at: claims.expires_at, max_bytes }), terms.clone()))
    }

    /// The response to an upload with a URL that was used: the File that was created, if it has the same bytes, since
    /// the client may repeat a request whose response was lost.
    pub(crate) async fn file_of_used_url(
        &self,
        tx: &mut Tx,
        project: ProjectId,
        url: &UploadUrl,
        sent: &File,
    ) -> Result<File> {
        let Some(created) = signed_urls::find_use(&mut *tx, url.once).await? else { return Err(Error::UrlUsed) };
        let created = files::find(&mut *tx, project, FileId::from(created)).await?;
        created.filter(|it| it.bytes == sent.bytes && it.crc64 == sent.crc64).ok_or(Error::UrlUsed)
    }

    async fn url_secrets(&self) -> Result<Arc<UrlSecrets>> {
        if let Some(secrets) = self.url_secret_cache.find(&()) {
            return Ok(secrets);
        }
        let queried_at = Instant::now();
        let secrets = self.run(|it| async move { Ok(signed_urls::list_secrets(&it.db).await?) }).await?;
        let secrets = Arc::new(secrets);
        self.url_secret_cache.insert((), Arc::clone(&secrets), queried_at);
        Ok(secrets)
    }
}

impl FileTerms {
    /// The declaration of a File of this size.
    pub fn spec(self, bytes: ByteCount) -> UploadSpec {
        let Self { filename, purpose, mime_type, file_lifetime, .. } = self;
        UploadSpec { filename, purpose, bytes, mime_type, file_lifetime }
    }
}

/// Adds a secret for signing URLs. With `void_existing`, all URLs that exist become void within seconds; otherwise, they
/// stay valid, and the new secret signs URLs a minute from now. Secrets that no valid URL can need are deleted.
///
/// # Errors
/// When the ledger fails, or the operating system cannot provide random bytes.
pub async fn rotate_url_secret(db: &Db, void_existing: bool, is_audited: bool) -> Result<()> {
    let mut secret = [0; URL_SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::Bug("there are no random bytes"))?;
    let (delay, retention) =
        if void_existing { (Duration::ZERO, Duration::ZERO) } else { (SIGNING_DELAY, REPLACED_SECRET_RETENTION) };
    let mut tx = db.begin().await?;
    signed_urls::insert_secret(&mut tx, Uuid::now_v7(), &secret, delay).await?;
    signed_urls::delete_replaced_secrets(&mut tx, retention).await?;
    let act = Act { action: AuditAction::SignedUrlRotateSecret, project: None, key: None };
    commit_act(tx, is_audited, &[act]).await
}
