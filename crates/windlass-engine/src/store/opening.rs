//! Opens a bucket at startup: waits for it within a time limit, creates it if it is missing, and finds the prefix that
//! its objects have.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, RetryConfig};
use tokio::time::{Instant, sleep, sleep_until};
use windlass_types::ErrorChain;

use super::bucket::{Remote, S3, reach};
use super::clients::{self, Client, Place, S3Setup};
use super::explanation::{explain, is_missing, is_redirect};
use super::listing::ObjectPages;
use super::location::{Bucket, Provider};
use super::signed::{Request, Requests, element};
use super::variables::Variables;
use super::{IfMissing, Result, SetupError, identity, payload_integrity};

/// The timeout for opening a bucket, all steps together.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a step may take before it is first logged.
const LOG_AFTER: Duration = Duration::from_secs(2);

/// The interval between subsequent log messages.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The region in which buckets are created without a location constraint.
const FIRST_REGION: &str = "us-east-1";

/// Runs the steps of the startup within a time limit, and logs long waits.
struct Start {
    place: String,
    began: Instant,
}

impl Start {
    fn with(place: &Place) -> Self {
        Self { place: place.name.clone(), began: Instant::now() }
    }

    /// Runs one step within the remaining time.
    ///
    /// # Errors
    /// [`SetupError::Silent`] if the time is up.
    async fn step<T>(&self, what: &'static str, work: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(work);
        let mut pause = LOG_AFTER;
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = sleep_until(self.began + STARTUP_TIMEOUT) => {
                    return Err(SetupError::Silent { place: self.place.clone(), what, waited: STARTUP_TIMEOUT }.into());
                }
                () = sleep(pause) => {
                    let waited = self.began.elapsed().as_secs();
                    let timeout_s = STARTUP_TIMEOUT.as_secs();
                    tracing::info!(store = self.place, step = what, waited_s = waited, timeout_s, "waiting for the store");
                    pause = LOG_INTERVAL;
                }
            }
        }
    }
}

/// Opens a bucket. A missing bucket can be created on S3 only.
pub(super) async fn open(bucket: &Bucket, variables: &Variables, if_missing: IfMissing) -> Result<Remote> {
    let (client, place) = match bucket.provider {
        Provider::S3 => return open_s3(bucket, clients::s3(bucket, variables)?, if_missing).await,
        Provider::Google => clients::google(bucket, variables)?,
        Provider::Azure => clients::azure(bucket, variables)?,
    };
    let start = Start::with(&place);
    let reached = start.step("listing its objects", reach(&*client.lists, &bucket.prefix)).await?;
    reached.map_err(|error| explain(error, &place, None))?;
    let prefix = start.step("listing the objects below its prefix", find_prefix(&client, bucket)).await??;
    // Azure deletes uncommitted blocks by itself after a week.
    let incomplete_unlisted = (bucket.provider == Provider::Google).then_some("not supported for gs://");
    Ok(Remote::new(client, None, prefix, place, incomplete_unlisted))
}

async fn open_s3(bucket: &Bucket, setup: S3Setup, if_missing: IfMissing) -> Result<Remote> {
    let (start, place) = (Start::with(&setup.place), &setup.place);
    let store = Arc::new(setup.builder.clone().build()?);
    let signer = if setup.anonymous {
        Arc::new(setup.builder.clone().with_access_key_id("none").with_secret_access_key("none").build()?)
    } else {
        Arc::clone(&store)
    };
    let requests = Requests::new(signer, setup.http.clone(), setup.anonymous);
    let mut reached = start.step("listing its objects", reach(&*store, &bucket.prefix)).await?;
    if if_missing == IfMissing::Make && is_missing(&reached) {
        let made = start.step("creating the missing bucket", make_bucket(&requests, &setup.region)).await?;
        made.map_err(|error| explain(error, place, None))?;
        reached = start.step("listing the new bucket's objects", reach(&*store, &bucket.prefix)).await?;
    }
    if let Err(error) = reached {
        let redirected = is_redirect(&ErrorChain(&error).to_string());
        let region = if redirected { start.step("finding its region", find_region(&requests)).await? } else { None };
        return Err(explain(error, place, region.as_deref()));
    }
    let prefix = start
        .step("listing the objects below its prefix", find_prefix(&Client::of(Arc::clone(&store)), bucket))
        .await??;
    let guard = payload_integrity::guard(&setup, &store, &requests, &prefix);
    let builder = start.step("probing checksum support", guard).await??;
    let never = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let once = Arc::new(builder.clone().with_retry(never).build()?);
    let singly: Arc<AmazonS3> = Arc::new(builder.clone().with_disable_bulk_delete(true).build()?);
    let s3 = S3::new(once, singly, requests);
    Ok(Remote::new(Client::of(Arc::new(builder.build()?)), Some(s3), prefix, setup.place, None))
}

/// The prefix as configured, unless objects exist only under the spelling that earlier versions derived from it.
async fn find_prefix(client: &Client, bucket: &Bucket) -> Result<Path> {
    let Some(former) = &bucket.former_prefix else { return Ok(bucket.prefix.clone()) };
    if is_in_use(client, &bucket.prefix).await? || !is_in_use(client, former).await? {
        return Ok(bucket.prefix.clone());
    }
    tracing::warn!(
        used = %former,
        configured = %bucket.prefix,
        identity = identity::NAME,
        "the objects are below the prefix that an earlier version derived from the configured one; it stays in use: to \
         change that, copy the objects, including the identity, to the configured prefix"
    );
    Ok(former.clone())
}

/// Whether there are objects of this service below the prefix; false if access is denied.
async fn is_in_use(client: &Client, prefix: &Path) -> Result<bool> {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let parts = format!("{}/", prefix.clone().join("parts"));
    match ObjectPages::has_any(&*client.lists, &parts).await {
        Ok(true) => return Ok(true),
        Ok(false) | Err(NotFound { .. } | PermissionDenied { .. } | Unauthenticated { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match client.objects.head(&prefix.clone().join(identity::NAME)).await {
        Ok(_) => Ok(true),
        Err(NotFound { .. } | PermissionDenied { .. } | Unauthenticated { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Creates the bucket. `object_store` has no method for that.
async fn make_bucket(requests: &Requests, region: &str) -> Result<()> {
    let elsewhere = format!(
        "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
    );
    let bodies = if region == FIRST_REGION { vec![Bytes::new()] } else { vec![elsewhere.into(), Bytes::new()] };
    let mut refused = String::new();
    for body in bodies {
        let request = Request { method: Method::PUT, path: Path::default(), query: Vec::new(), header: None, body };
        let response = requests.send(request).await?;
        // Another replica may have created it concurrently.
        let is_there = matches!(response.code(), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists"));
        if response.status.is_success() || is_there {
            tracing::info!("created the missing bucket");
            return Ok(());
        }
        refused = format!("{} {}", response.status, response.body);
        // With these codes, the store does not support regions, or its only region has another name: it may accept a
        // request without a location constraint.
        if !matches!(response.code(), Some("InvalidLocationConstraint" | "MalformedXML" | "NotImplemented")) {
            break;
        }
    }
    Err(SetupError::NoBucket(refused).into())
}

/// The region of a bucket that was accessed through the wrong one.
async fn find_region(requests: &Requests) -> Option<String> {
    let method = Method::GET;
    let request = Request { method, path: Path::default(), query: Vec::new(), header: None, body: Bytes::new() };
    let response = requests.send(request).await.ok().filter(|it| it.status != StatusCode::OK)?;
    let header = response.headers.get("x-amz-bucket-region").and_then(|it| it.to_str().ok());
    header.or_else(|| element(&response.body, "Region")).map(str::to_owned)
}
