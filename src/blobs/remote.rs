//! Objects in a bucket, over `object_store`. Small ones are one request; larger ones a multipart
//! upload of equal chunks, one on its way while the next fills.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::{MultipartStore, PartId as ChunkId};
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig};
use reqwest::Method;
use tokio::sync::mpsc;
use url::Url;

use super::listing::{Begun, Listed, Listing};
use super::multiparts::{HalfDone, Pages};
use super::object_reader::ObjectReader;
use super::transit::{self, Signing};
use super::{BlobKey, Buffer, Doomed, Error, IfMissing, IfPresent, Result, identity};
use crate::crash::CrashPoint;
use crate::domain::StoreId;

/// S3 takes no smaller chunk but the last; two of them are held per body.
pub(super) const CHUNK_BYTES: usize = 5 * 1024 * 1024;

/// How often the store is asked again where it fails. Whoever asked us tries again as well: a store that
/// is away for longer is better said than waited for.
const RETRIES: usize = 5;

/// How many of the objects that are to go are asked about at once.
const ABORTS_AT_ONCE: usize = 8;

/// A bucket, and the prefix below which everything of ours is.
#[derive(Clone)]
pub struct Remote {
    objects: Arc<dyn ObjectStore>,
    multiparts: Arc<dyn MultipartStore>,
    s3: Option<S3>,
    prefix: Path,
}

/// What only S3 is asked.
#[derive(Clone)]
struct S3 {
    /// A client that asks once. A second try after an answer that was lost would begin a second
    /// multipart upload, and nobody would know the first.
    once: Arc<AmazonS3>,
    http: reqwest::Client,
}

/// An object being written, as a multipart upload.
pub struct ObjectWriter {
    store: Remote,
    path: Path,
    multipart: String,
    chunks: Vec<ChunkId>,
}

impl Remote {
    /// Opens a bucket. An S3 bucket that is missing can be made.
    pub(super) async fn open(url: &Url, signing: Signing, if_missing: IfMissing) -> Result<Self> {
        let prefix = Path::parse(url.path().trim_matches('/')).map_err(object_store::Error::from)?;
        // Plain http is for endpoints that the operator named so, such as a store on this machine.
        let client = ClientOptions::new().with_allow_http(true);
        let retry = RetryConfig { max_retries: RETRIES, ..RetryConfig::default() };
        match url.scheme() {
            "gs" => {
                let store = GoogleCloudStorageBuilder::from_env()
                    .with_url(url.as_str())
                    .with_client_options(client)
                    .with_retry(retry)
                    .build()?;
                Self::reached(Arc::new(store), None, prefix).await
            }
            "az" => {
                let store = MicrosoftAzureBuilder::from_env()
                    .with_url(url.as_str())
                    .with_client_options(client)
                    .with_retry(retry)
                    .build()?;
                Self::reached(Arc::new(store), None, prefix).await
            }
            _ => {
                let builder =
                    AmazonS3Builder::from_env().with_url(url.as_str()).with_client_options(client).with_retry(retry);
                Self::open_s3(builder, prefix, signing, if_missing).await
            }
        }
    }

    async fn open_s3(builder: AmazonS3Builder, prefix: Path, signing: Signing, if_missing: IfMissing) -> Result<Self> {
        let http = reqwest::Client::new();
        let store = Arc::new(builder.clone().build()?);
        match Self::reached(Arc::clone(&store), None, prefix.clone()).await {
            // S3's own code is only in the text of the answer.
            Err(Error::Remote(error))
                if if_missing == IfMissing::Make && error.to_string().contains("<Code>NoSuchBucket</Code>") =>
            {
                make_bucket(&store, &http).await?;
            }
            reached => drop(reached?),
        }
        let builder = transit::guard(builder, &http, &prefix, signing).await?;
        let never = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let once = Arc::new(builder.clone().with_retry(never).build()?);
        Self::reached(Arc::new(builder.build()?), Some(S3 { once, http }), prefix).await
    }

    async fn reached<S: ObjectStore + MultipartStore>(store: Arc<S>, s3: Option<S3>, prefix: Path) -> Result<Self> {
        let multiparts: Arc<dyn MultipartStore> = Arc::<S>::clone(&store);
        let this = Self { objects: store, multiparts, s3, prefix };
        this.ping().await?;
        Ok(this)
    }

    pub(super) fn path(&self, key: BlobKey) -> Path {
        // `from_iter` would encode the slashes.
        key.to_string().split('/').fold(self.prefix.clone(), object_store::path::Path::join)
    }

    pub(super) async fn identity(&self) -> Result<Option<StoreId>> {
        let path = self.prefix.clone().join(identity::NAME);
        match self.objects.get(&path).await {
            Ok(found) => identity::decode(&found.bytes().await?).map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Not every store can be told to keep what is there: then the caller's look before has to do.
    pub(super) async fn write_identity(&self, id: StoreId, if_present: IfPresent) -> Result<()> {
        let path = self.prefix.clone().join(identity::NAME);
        if if_present == IfPresent::Keep {
            match self.objects.put_opts(&path, identity::encode(id).into(), PutMode::Create.into()).await {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => return Ok(()),
                Err(error) => tracing::debug!(%error, "the store does not support conditional writes"),
            }
        }
        self.objects.put(&path, identity::encode(id).into()).await?;
        Ok(())
    }

    pub(super) async fn put(&self, key: BlobKey, whole: Buffer) -> Result<()> {
        let (bytes, _) = whole.share();
        self.objects.put(&self.path(key), bytes.into()).await?;
        CrashPoint::ChunkWritten.passed();
        Ok(())
    }

    pub(super) async fn create(&self, key: BlobKey) -> Result<ObjectWriter> {
        let path = self.path(key);
        let multipart = self.begin_multipart(&path).await?;
        CrashPoint::MultipartBegun.passed();
        Ok(ObjectWriter { store: self.clone(), path, multipart, chunks: Vec::new() })
    }

    pub(super) fn read(&self, key: BlobKey, bytes: u64) -> ObjectReader {
        ObjectReader::new(Arc::clone(&self.objects), self.path(key), key, bytes)
    }

    async fn begin_multipart(&self, path: &Path) -> Result<String> {
        let Some(s3) = &self.s3 else { return Ok(self.multiparts.create_multipart(path).await?) };
        if let Ok(id) = s3.once.create_multipart(path).await {
            return Ok(id);
        }
        self.abort_unknown(path).await?;
        Ok(s3.once.create_multipart(path).await?)
    }

    pub(super) async fn abort(&self, path: &Path, multipart: &str) -> Result<()> {
        match self.multiparts.abort_multipart(path, &multipart.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Aborts every half-done multipart upload of an object, also those whose id nobody knows.
    async fn abort_unknown(&self, path: &Path) -> Result<()> {
        let Some(s3) = &self.s3 else { return Ok(()) };
        let mut pages = Pages::new(Arc::clone(&s3.once), s3.http.clone(), path.to_string());
        while let Some(page) = pages.next().await? {
            for HalfDone { upload_id, .. } in page.into_iter().filter(|it| it.key == path.as_ref()) {
                self.abort(path, &upload_id).await?;
            }
        }
        Ok(())
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
        let paths: Vec<_> = keys.keys().cloned().map(Ok).collect();
        let mut outcomes = self.objects.delete_stream(stream::iter(paths).boxed());
        let mut last_error = None;
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(path) => drop(keys.remove(&path)),
                Err(object_store::Error::NotFound { path, .. }) => keys.retain(|it, _| it.as_ref() != path),
                Err(error) => last_error = Some(error),
            }
        }
        // The store does not say which object an error is about: all that it did not confirm have failed.
        let reason = last_error.map_or_else(|| "not confirmed".to_owned(), |error| error.to_string());
        failed.extend(keys.into_values().map(|key| {
            let source = reason.clone().into();
            (key, object_store::Error::Generic { store: "delete", source }.into())
        }));
        failed
    }

    pub(super) fn list(&self) -> Listing<Listed> {
        let (out, listing) = mpsc::channel(256);
        let this = self.clone();
        tokio::spawn(async move {
            let mut found = this.objects.list(Some(&this.prefix.clone().join("parts")));
            while let Some(object) = found.next().await {
                let listed = object.map_err(Error::from).map(|it| {
                    let name = this.name(it.location.as_ref());
                    let key = BlobKey::from_name(&name);
                    Listed { name, key, bytes: it.size, modified: it.last_modified.into() }
                });
                if out.send(listed).await.is_err() {
                    return;
                }
            }
        });
        listing
    }

    pub(super) fn list_half_done(&self) -> Listing<Begun> {
        let (out, listing) = mpsc::channel(256);
        let Some(s3) = self.s3.clone() else { return listing };
        let this = self.clone();
        tokio::spawn(async move {
            // With the slash: a prefix `a` is not to touch what is below `ab`.
            let prefix = format!("{}/", this.prefix.clone().join("parts"));
            let mut pages = Pages::new(s3.once, s3.http, prefix);
            while let Some(page) = pages.next().await.transpose() {
                let page = page.map(|it| it.into_iter().map(|it| Ok(this.begun(it))).collect());
                for begun in page.unwrap_or_else(|error| vec![Err(error)]) {
                    if out.send(begun).await.is_err() {
                        return;
                    }
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
        match self.objects.head(&self.path(key)).await {
            Ok(about) => Ok(Some(about.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the bucket answers to this client.
    async fn ping(&self) -> Result<()> {
        let probe = self.prefix.clone().join("parts").join("00");
        self.objects.list(Some(&probe)).next().await.transpose()?;
        Ok(())
    }
}

impl ObjectWriter {
    pub(super) fn multipart(&self) -> &str {
        &self.multipart
    }

    pub(super) async fn write(&mut self, chunk: Buffer) -> Result<Buffer> {
        let (bytes, shared) = chunk.share();
        let index = self.chunks.len();
        self.chunks.push(self.store.multiparts.put_part(&self.path, &self.multipart, index, bytes.into()).await?);
        Ok(shared.reclaim())
    }

    pub(super) async fn finish(self) -> Result<()> {
        self.store.multiparts.complete_multipart(&self.path, &self.multipart, self.chunks).await?;
        Ok(())
    }

    pub(super) async fn abort(self) {
        if let Err(error) = self.store.multiparts.abort_multipart(&self.path, &self.multipart).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a multipart upload was left for the sweeper");
        }
    }
}

/// Makes the bucket by a signed request of our own: `object_store` has no call for it.
async fn make_bucket(store: &AmazonS3, http: &reqwest::Client) -> Result<()> {
    let failed = |error: &dyn fmt::Display| Error::NoBucket(error.to_string());
    let url = store.signed_url(Method::PUT, &Path::default(), Duration::from_mins(1)).await?;
    let answer = http.put(url).send().await.map_err(|error| failed(&error.without_url()))?;
    if answer.status().is_success() {
        tracing::info!("made the bucket");
        return Ok(());
    }
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    // Another replica may have made it in the same moment.
    if body.contains("BucketAlreadyOwnedByYou") || body.contains("BucketAlreadyExists") {
        return Ok(());
    }
    Err(failed(&format!("{status} {body}")))
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.objects, self.prefix)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("store", &self.objects.to_string())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectWriter").field("path", &self.path).finish_non_exhaustive()
    }
}
