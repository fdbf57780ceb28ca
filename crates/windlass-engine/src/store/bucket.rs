//! Objects in a bucket, through `object_store`. A small object is sent in one request, a larger one as a multipart
//! upload of equal chunks, one in flight while the next is filled.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use object_store::ObjectStoreExt as _;
use object_store::aws::AmazonS3;
use object_store::list::PaginatedListStore;
use object_store::multipart::{MultipartStore as _, PartId as ChunkId};
use object_store::path::Path;
use object_store::{ObjectStore as _, PutMode, PutPayload};
use tokio::sync::mpsc;
use tokio::time::sleep;
use windlass_types::{ErrorChain, StoreId};

use super::clients::{Client, Place};
use super::explanation::status;
use super::incomplete_uploads::{Pages, UploadElement};
use super::listing::{IncompleteUpload, ListedObject, Listing, ObjectPages};
use super::object_reader::ObjectReader;
use super::read_ahead::ReadAhead;
use super::signed::Requests;
use super::{Buffer, Error, IfPresent, ObjectKey, ObjectToDelete, Result, deletion, identity};
use crate::failpoints::CrashPoint;
use crate::spawn::spawn;

/// The size of a chunk: the minimum that S3 accepts, except for the last one. A body holds up to two chunks.
pub(super) const CHUNK_BYTES: usize = 5 * 1024 * 1024;

/// The maximum number of objects whose multipart uploads are listed and aborted concurrently.
const ABORTS_AT_ONCE: usize = 8;

/// How long another process may take to write its identity after it found that there was none.
const CONCURRENT_WRITE: Duration = Duration::from_secs(2);

/// A bucket, and the prefix of this service's objects.
#[derive(Clone)]
pub struct Remote {
    pub(super) client: Client,
    pub(super) s3: Option<Arc<S3>>,
    pub(super) prefix: Path,
    /// The bucket and its server, for messages.
    pub(super) place: Arc<Place>,
    /// Why incomplete multipart uploads cannot be listed, although the store may have some.
    incomplete_unlisted: Option<&'static str>,
}

/// State and requests that only S3 has.
pub(super) struct S3 {
    /// A client without retries. A retry after a lost response would begin a second multipart upload, and the id of the
    /// first would be lost.
    once: Arc<AmazonS3>,
    /// A client that deletes objects one by one.
    pub(super) singly: Arc<AmazonS3>,
    requests: Requests,
    has_no_bulk_delete: AtomicBool,
    has_logged_unlisted: AtomicBool,
}

impl S3 {
    pub(super) fn new(once: Arc<AmazonS3>, singly: Arc<AmazonS3>, requests: Requests) -> Self {
        let (has_no_bulk_delete, has_logged_unlisted) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { once, singly, requests, has_no_bulk_delete, has_logged_unlisted }
    }

    /// Whether the store was found not to support bulk deletes.
    pub(super) fn has_no_bulk_delete(&self) -> bool {
        self.has_no_bulk_delete.load(Ordering::Relaxed)
    }

    /// Records that the store does not support bulk deletes.
    pub(super) fn record_no_bulk_delete(&self, error: &object_store::Error) {
        if !self.has_no_bulk_delete.swap(true, Ordering::Relaxed) {
            let error = ErrorChain(error);
            tracing::warn!(%error, "the store rejects bulk deletes: objects are deleted one by one");
        }
    }

    /// Logs, once, that incomplete multipart uploads cannot be listed.
    fn log_unlisted(&self, error: &Error) {
        if !self.has_logged_unlisted.swap(true, Ordering::Relaxed) {
            let error = ErrorChain(error);
            tracing::warn!(
                %error,
                "the bucket's multipart uploads cannot be listed, so those whose ids were lost are not cleaned up; keep \
                 a lifecycle rule that aborts incomplete multipart uploads"
            );
        }
    }
}

/// An object that is being written as a multipart upload.
pub struct ObjectWriter {
    store: Remote,
    path: Path,
    multipart: String,
    chunks: Vec<ChunkId>,
}

impl Remote {
    /// Creates a client for a bucket that is known to exist.
    pub(super) fn new(
        client: Client,
        s3: Option<S3>,
        prefix: Path,
        place: Place,
        incomplete_unlisted: Option<&'static str>,
    ) -> Self {
        Self { client, s3: s3.map(Arc::new), prefix, place: Arc::new(place), incomplete_unlisted }
    }

    pub(super) fn path(&self, key: ObjectKey) -> Path {
        // `Path::from_iter` would percent-encode the slashes.
        key.to_string().split('/').fold(self.prefix.clone(), object_store::path::Path::join)
    }

    pub(super) async fn identity(&self) -> Result<Option<StoreId>> {
        let path = self.prefix.clone().join(identity::NAME);
        match self.client.objects.get(&path).await {
            Ok(found) => identity::decode(&found.bytes().await?).map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Some stores reject conditional writes, and some ignore the condition. There, the last of several writers wins,
    /// so this returns only after the others have had time to write; the caller then reads which identity was kept.
    pub(super) async fn write_identity(&self, id: StoreId, if_present: IfPresent) -> Result<()> {
        let path = self.prefix.clone().join(identity::NAME);
        let content = PutPayload::from(identity::encode(id));
        if if_present == IfPresent::Replace {
            self.client.objects.put(&path, content).await?;
            return Ok(());
        }
        if self.identity().await?.is_some() {
            return Ok(());
        }
        // The second attempt shows whether the condition is enforced.
        for _ in 0..2 {
            match self.client.objects.put_opts(&path, content.clone(), PutMode::Create.into()).await {
                Ok(_) => {}
                Err(object_store::Error::AlreadyExists { .. }) => return Ok(()),
                Err(error) if is_unsupported(&error) => {
                    tracing::debug!(%error, "the store rejects conditional writes");
                    self.client.objects.put(&path, content).await?;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        sleep(CONCURRENT_WRITE).await;
        Ok(())
    }

    pub(super) async fn put(&self, key: ObjectKey, whole: Buffer) -> Result<()> {
        let (bytes, _) = whole.share();
        self.client.objects.put(&self.path(key), bytes.into()).await?;
        CrashPoint::ChunkWritten.passed();
        Ok(())
    }

    pub(super) async fn create(&self, key: ObjectKey) -> Result<ObjectWriter> {
        let path = self.path(key);
        let multipart = self.begin_multipart(&path).await?;
        CrashPoint::MultipartBegun.passed();
        Ok(ObjectWriter { store: self.clone(), path, multipart, chunks: Vec::new() })
    }

    pub(super) fn read(&self, key: ObjectKey, bytes: u64, memory: ReadAhead) -> ObjectReader {
        ObjectReader::new(Arc::clone(&self.client.objects), self.path(key), key, bytes, memory)
    }

    async fn begin_multipart(&self, path: &Path) -> Result<String> {
        let Some(s3) = &self.s3 else { return Ok(self.client.multiparts.create_multipart(path).await?) };
        if let Ok(id) = s3.once.create_multipart(path).await {
            return Ok(id);
        }
        // The failed request may have begun an upload whose id is unknown.
        self.abort_unknown(path).await?;
        Ok(s3.once.create_multipart(path).await?)
    }

    pub(super) async fn abort(&self, path: &Path, multipart: &str) -> Result<()> {
        match self.client.multiparts.abort_multipart(path, &multipart.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Aborts all incomplete multipart uploads of an object, including those whose id was lost. If the store cannot
    /// list them, they are left to its lifecycle rule.
    async fn abort_unknown(&self, path: &Path) -> Result<()> {
        let Some(s3) = &self.s3 else { return Ok(()) };
        let mut pages = Pages::new(s3.requests.clone(), path.to_string());
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(()),
                Err(error @ Error::Unlisted(_)) => {
                    s3.log_unlisted(&error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            for UploadElement { upload_id, .. } in page.into_iter().filter(|it| it.key == path.as_ref()) {
                self.abort(path, &upload_id).await?;
            }
        }
    }

    async fn abort_multiparts(&self, object: &ObjectToDelete) -> Result<()> {
        let path = self.path(object.key);
        if let Some(id) = &object.multipart {
            self.abort(&path, id).await?;
        }
        if object.whole { Ok(()) } else { self.abort_unknown(&path).await }
    }

    pub(super) async fn delete(&self, objects: Vec<ObjectToDelete>) -> Vec<(ObjectKey, Error)> {
        let mut failed = Vec::new();
        let mut keys = HashMap::new();
        let mut aborted = stream::iter(objects)
            .map(|it| async move { (it.key, self.abort_multiparts(&it).await) })
            .buffer_unordered(ABORTS_AT_ONCE);
        while let Some((key, outcome)) = aborted.next().await {
            match outcome {
                Ok(()) => drop(keys.insert(self.path(key), key)),
                Err(error) => failed.push((key, error)),
            }
        }
        drop(aborted);
        CrashPoint::MultipartAborted.passed();
        let paths = keys.keys().cloned().collect();
        let refused = deletion::delete(&self.client.objects, self.s3.as_deref(), paths).await;
        failed.extend(refused.into_iter().filter_map(|(path, error)| Some((keys.remove(&path)?, error.into()))));
        failed
    }

    /// The prefix of the names of all objects of Parts. It ends with a slash, so that prefix `a` does not match objects
    /// below `ab`.
    fn parts_prefix(&self) -> String {
        format!("{}/", self.prefix.clone().join("parts"))
    }

    pub(super) fn list(&self) -> Listing<ListedObject> {
        let (out, listing) = mpsc::channel(256);
        let this = self.clone();
        spawn(async move {
            let mut pages = ObjectPages::new(Arc::clone(&this.client.lists), this.parts_prefix());
            while let Some(page) = pages.next().await.transpose() {
                let listed = page.map(|it| {
                    let listed = it.into_iter().map(|it| {
                        let name = this.name(it.location.as_ref());
                        let key = ObjectKey::from_name(&name);
                        Ok(ListedObject { name, key, bytes: it.size, modified: it.last_modified.into() })
                    });
                    listed.collect()
                });
                if !send_all(listed, &out).await {
                    return;
                }
            }
        });
        listing
    }

    pub(super) fn list_incomplete(&self) -> Listing<IncompleteUpload> {
        let (out, listing) = mpsc::channel(256);
        let this = self.clone();
        spawn(async move {
            if let Some(reason) = this.incomplete_unlisted {
                out.send(Err(Error::Unlisted(reason.to_owned()))).await.ok();
            }
            let Some(s3) = &this.s3 else { return };
            let mut pages = Pages::new(s3.requests.clone(), this.parts_prefix());
            while let Some(page) = pages.next().await.transpose() {
                let page = page.map(|it| it.into_iter().map(|it| Ok(this.incomplete(it))).collect());
                if !send_all(page, &out).await {
                    return;
                }
            }
        });
        listing
    }

    fn incomplete(&self, it: UploadElement) -> IncompleteUpload {
        let name = self.name(&it.key);
        IncompleteUpload { key: ObjectKey::from_name(&name), name, begun: it.begun(), multipart: it.upload_id }
    }

    /// A path's name relative to the prefix.
    fn name(&self, path: &str) -> String {
        path.strip_prefix(self.prefix.as_ref()).unwrap_or(path).trim_start_matches('/').to_owned()
    }

    pub(super) async fn size(&self, key: ObjectKey) -> Result<Option<u64>> {
        match self.client.objects.head(&self.path(key)).await {
            Ok(about) => Ok(Some(about.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends a cheap request to a bucket to check that it is reachable.
pub(super) async fn reach(lists: &dyn PaginatedListStore, prefix: &Path) -> Result<()> {
    ObjectPages::has_any(lists, &format!("{}/", prefix.clone().join("parts").join("00"))).await?;
    Ok(())
}

impl ObjectWriter {
    pub(super) fn multipart(&self) -> &str {
        &self.multipart
    }

    pub(super) async fn write(&mut self, chunk: Buffer) -> Result<Buffer> {
        let (bytes, shared) = chunk.share();
        let index = self.chunks.len();
        self.chunks
            .push(self.store.client.multiparts.put_part(&self.path, &self.multipart, index, bytes.into()).await?);
        Ok(shared.reclaim())
    }

    pub(super) async fn finish(self) -> Result<()> {
        self.store.client.multiparts.complete_multipart(&self.path, &self.multipart, self.chunks).await?;
        Ok(())
    }

    pub(super) async fn abort(self) {
        if let Err(error) = self.store.client.multiparts.abort_multipart(&self.path, &self.multipart).await {
            tracing::warn!(
                error = %ErrorChain(&error),
                "a multipart upload could not be aborted and is left to the sweeper"
            );
        }
    }
}

/// Sends the items of a page, or its error. Returns whether the receiver is still open and more pages may follow.
async fn send_all<T>(page: Result<Vec<Result<T>>>, out: &mpsc::Sender<Result<T>>) -> bool {
    let failed = page.is_err();
    for item in page.unwrap_or_else(|error| vec![Err(error)]) {
        if out.send(item).await.is_err() {
            return false;
        }
    }
    !failed
}

/// Whether the error means that conditional writes are not supported.
fn is_unsupported(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })
        || matches!(status(&ErrorChain(error).to_string()), Some(400 | 501))
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client.objects, self.prefix)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("store", &self.client.objects.to_string())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectWriter").field("path", &self.path).finish_non_exhaustive()
    }
}
