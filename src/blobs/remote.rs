//! Objects in a bucket, over `object_store`. Small ones are one request; larger ones a multipart
//! upload of equal chunks, one on its way while the next fills.

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

use super::clients::Client;
use super::explanation::{chain, status};
use super::listing::{Begun, Listed, Listing, ObjectPages};
use super::multiparts::{HalfDone, Pages};
use super::object_reader::ObjectReader;
use super::read_ahead::ReadAhead;
use super::signed::Requests;
use super::{BlobKey, Buffer, Doomed, Error, IfPresent, Result, deletion, identity};
use crate::crash::CrashPoint;
use crate::domain::StoreId;

/// S3 takes no smaller chunk but the last; two of them are held per body.
pub(super) const CHUNK_BYTES: usize = 5 * 1024 * 1024;

/// How many of the objects that are to go are asked about at once.
const ABORTS_AT_ONCE: usize = 8;

/// How long another process may take to write its identity after it found that there was none.
const CONCURRENT_WRITE: Duration = Duration::from_secs(2);

/// A bucket, and the prefix below which everything of ours is.
#[derive(Clone)]
pub struct Remote {
    client: Client,
    s3: Option<Arc<S3>>,
    prefix: Path,
    /// Why incomplete multipart uploads cannot be listed, although the store may have some.
    half_done_unseen: Option<&'static str>,
}

/// What only S3 is asked.
pub(super) struct S3 {
    /// A client that asks once. A second try after an answer that was lost would begin a second
    /// multipart upload, and nobody would know the first.
    once: Arc<AmazonS3>,
    /// A client that deletes objects one by one.
    pub(super) singly: Arc<AmazonS3>,
    requests: Requests,
    has_no_bulk_delete: AtomicBool,
    is_said_unlisted: AtomicBool,
}

impl S3 {
    pub(super) fn new(once: Arc<AmazonS3>, singly: Arc<AmazonS3>, requests: Requests) -> Self {
        let (has_no_bulk_delete, is_said_unlisted) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { once, singly, requests, has_no_bulk_delete, is_said_unlisted }
    }

    /// Whether the store was found not to support bulk deletes.
    pub(super) fn has_no_bulk_delete(&self) -> bool {
        self.has_no_bulk_delete.load(Ordering::Relaxed)
    }

    /// Records that the store does not support bulk deletes.
    pub(super) fn learn_no_bulk_delete(&self, error: &object_store::Error) {
        if !self.has_no_bulk_delete.swap(true, Ordering::Relaxed) {
            let error: &dyn std::error::Error = error;
            tracing::warn!(
                error,
                "the store refuses to delete many objects by one request: they are deleted one by one"
            );
        }
    }

    /// Logs, once, that incomplete multipart uploads cannot be listed.
    fn say_unlisted(&self, error: &Error) {
        if !self.is_said_unlisted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{error}: an incomplete upload whose id was lost is not cleaned up; keep a lifecycle rule that aborts incomplete multipart uploads"
            );
        }
    }
}

/// An object being written, as a multipart upload.
pub struct ObjectWriter {
    store: Remote,
    path: Path,
    multipart: String,
    chunks: Vec<ChunkId>,
}

impl Remote {
    /// Creates a client for a bucket that is known to exist.
    pub(super) fn new(client: Client, s3: Option<S3>, prefix: Path, half_done_unseen: Option<&'static str>) -> Self {
        Self { client, s3: s3.map(Arc::new), prefix, half_done_unseen }
    }

    pub(super) fn path(&self, key: BlobKey) -> Path {
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

    /// Some stores reject conditional writes, and some ignore the condition. The last of several writers wins there, so
    /// this returns once they have had time to write: the caller then reads whose identity was kept.
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

    pub(super) async fn put(&self, key: BlobKey, whole: Buffer) -> Result<()> {
        let (bytes, _) = whole.share();
        self.client.objects.put(&self.path(key), bytes.into()).await?;
        CrashPoint::ChunkWritten.passed();
        Ok(())
    }

    pub(super) async fn create(&self, key: BlobKey) -> Result<ObjectWriter> {
        let path = self.path(key);
        let multipart = self.begin_multipart(&path).await?;
        CrashPoint::MultipartBegun.passed();
        Ok(ObjectWriter { store: self.clone(), path, multipart, chunks: Vec::new() })
    }

    pub(super) fn read(&self, key: BlobKey, bytes: u64, memory: ReadAhead) -> ObjectReader {
        ObjectReader::new(Arc::clone(&self.client.objects), self.path(key), key, bytes, memory)
    }

    async fn begin_multipart(&self, path: &Path) -> Result<String> {
        let Some(s3) = &self.s3 else { return Ok(self.client.multiparts.create_multipart(path).await?) };
        if let Ok(id) = s3.once.create_multipart(path).await {
            return Ok(id);
        }
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
                    s3.say_unlisted(&error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            for HalfDone { upload_id, .. } in page.into_iter().filter(|it| it.key == path.as_ref()) {
                self.abort(path, &upload_id).await?;
            }
        }
    }

    async fn abort_doomed(&self, doomed: &Doomed) -> Result<()> {
        let path = self.path(doomed.key);
        if let Some(id) = &doomed.multipart {
            self.abort(&path, id).await?;
        }
        if doomed.whole { Ok(()) } else { self.abort_unknown(&path).await }
    }

    pub(super) async fn delete(&self, doomed: Vec<Doomed>) -> Vec<(BlobKey, Error)> {
        let mut failed = Vec::new();
        let mut keys = HashMap::new();
        let mut aborted = stream::iter(doomed)
            .map(|it| async move { (it.key, self.abort_doomed(&it).await) })
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

    /// The prefix of our objects' names. It ends with a slash, so that prefix `a` does not match objects below `ab`.
    fn parts(&self) -> String {
        format!("{}/", self.prefix.clone().join("parts"))
    }

    pub(super) fn list(&self) -> Listing<Listed> {
        let (out, listing) = mpsc::channel(256);
        let this = self.clone();
        tokio::spawn(async move {
            let mut pages = ObjectPages::new(Arc::clone(&this.client.lists), this.parts());
            while let Some(page) = pages.next().await.transpose() {
                let listed = page.map(|it| {
                    let listed = it.into_iter().map(|it| {
                        let name = this.name(it.location.as_ref());
                        let key = BlobKey::from_name(&name);
                        Ok(Listed { name, key, bytes: it.size, modified: it.last_modified.into() })
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

    pub(super) fn list_half_done(&self) -> Listing<Begun> {
        let (out, listing) = mpsc::channel(256);
        let this = self.clone();
        tokio::spawn(async move {
            if let Some(reason) = this.half_done_unseen {
                out.send(Err(Error::Unlisted(reason.to_owned()))).await.ok();
            }
            let Some(s3) = &this.s3 else { return };
            let mut pages = Pages::new(s3.requests.clone(), this.parts());
            while let Some(page) = pages.next().await.transpose() {
                let page = page.map(|it| it.into_iter().map(|it| Ok(this.begun(it))).collect());
                if !send_all(page, &out).await {
                    return;
                }
            }
        });
        listing
    }

    fn begun(&self, it: HalfDone) -> Begun {
        let name = self.name(&it.key);
        Begun { key: BlobKey::from_name(&name), name, begun: it.begun(), multipart: it.upload_id }
    }

    /// The name below the prefix of what has this path.
    fn name(&self, path: &str) -> String {
        path.strip_prefix(self.prefix.as_ref()).unwrap_or(path).trim_start_matches('/').to_owned()
    }

    pub(super) async fn size(&self, key: BlobKey) -> Result<Option<u64>> {
        match self.client.objects.head(&self.path(key)).await {
            Ok(about) => Ok(Some(about.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends a cheap request to a bucket to check that it can be reached.
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
            tracing::warn!(error = &error as &dyn std::error::Error, "a multipart upload was left for the sweeper");
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
        || matches!(status(&chain(error)), Some(400 | 501))
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
