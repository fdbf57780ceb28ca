//! Opens a bucket at startup: waits for it within a time limit, creates it if it is missing, and selects the spelling
//! of the prefix under which objects exist.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, RetryConfig};
use tokio::time::{Instant, sleep, sleep_until};

use super::clients::{self, Client, Place, S3Setup};
use super::explanation::{chain, explain, is_missing, is_redirect};
use super::listing::ObjectPages;
use super::location::{Bucket, Provider};
use super::remote::{Remote, S3, reach};
use super::signed::{Request, Requests, element};
use super::variables::Variables;
use super::{IfMissing, Result, SetupError, identity, transit};

/// The timeout for opening a bucket, all steps together.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before first logging what is waited for, and the interval after that.
const SAYS_AFTER: Duration = Duration::from_secs(2);
const SAYS_EVERY: Duration = Duration::from_secs(10);

/// The region in which buckets are created without a location constraint.
const FIRST_REGION: &str = "us-east-1";

/// Waits for a store at startup, and logs long waits.
struct Start {
    place: String,
    began: Instant,
}

impl Start {
    fn with(place: &Place) -> Self {
        Self { place: place.name.clone(), began: Instant::now() }
    }

    /// Performs one step of the startup within the remaining time.
    async fn step<T>(&self, what: &'static str, work: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(work);
        let mut pause = SAYS_AFTER;
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = sleep_until(self.began + PATIENCE) => {
                    return Err(SetupError::Silent { place: self.place.clone(), what, waited: PATIENCE }.into());
                }
                () = sleep(pause) => {
                    let waited = self.began.elapsed().as_secs();
                    tracing::info!("waiting for {}: {what} ({waited} of at most {} s)", self.place, PATIENCE.as_secs());
                    pause = SAYS_EVERY;
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
    let reached = start.step("a list of its objects", reach(&*client.lists, &bucket.prefix)).await?;
    reached.map_err(|error| explain(error, &place, None))?;
    let prefix = start.step("the listing of the objects below its prefix", find_prefix(&client, bucket)).await??;
    // Azure deletes uncommitted blocks by itself after a week.
    let half_done_unseen = (bucket.provider == Provider::Google).then_some("Google's are not listed here");
    Ok(Remote::new(client, None, prefix, half_done_unseen))
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
    let mut reached = start.step("a list of its objects", reach(&*store, &bucket.prefix)).await?;
    if if_missing == IfMissing::Make && is_missing(&reached) {
        let made = start.step("the missing bucket to be made", make_bucket(&requests, &setup.region)).await?;
        made.map_err(|error| explain(error, place, None))?;
        reached = start.step("a list of the new bucket's objects", reach(&*store, &bucket.prefix)).await?;
    }
    if let Err(error) = reached {
        let redirected = is_redirect(&chain(&error));
        let region = if redirected { start.step("its region", find_region(&requests)).await? } else { None };
        return Err(explain(error, place, region.as_deref()));
    }
    let prefix = start
        .step("the listing of the objects below its prefix", find_prefix(&Client::of(Arc::clone(&store)), bucket))
        .await??;
    let guard = transit::guard(&setup, &store, &requests, &prefix);
    let builder = start.step("the checksum probe", guard).await??;
    let never = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let once = Arc::new(builder.clone().with_retry(never).build()?);
    let singly: Arc<AmazonS3> = Arc::new(builder.clone().with_disable_bulk_delete(true).build()?);
    let s3 = S3::new(once, singly, requests);
    Ok(Remote::new(Client::of(Arc::new(builder.build()?)), Some(s3), prefix, None))
}

/// The prefix as configured, unless objects exist only under the spelling that earlier versions derived from it.
async fn find_prefix(client: &Client, bucket: &Bucket) -> Result<Path> {
    let Some(former) = &bucket.former_prefix else { return Ok(bucket.prefix.clone()) };
    if is_in_use(client, &bucket.prefix).await? || !is_in_use(client, former).await? {
        return Ok(bucket.prefix.clone());
    }
    tracing::warn!(
        "the objects are below '{former}', which an earlier version derived from the prefix '{}': it stays in use; \
         to change that, copy the objects, `{}` included, to the prefix as written",
        bucket.prefix,
        identity::NAME
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

/// Creates the bucket, which `object_store` does not support.
async fn make_bucket(requests: &Requests, region: &str) -> Result<()> {
    let elsewhere = format!(
        "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
    );
    let bodies = if region == FIRST_REGION { vec![Bytes::new()] } else { vec![elsewhere.into(), Bytes::new()] };
    let mut refused = String::new();
    for body in bodies {
        let request = Request { method: Method::PUT, path: Path::default(), query: Vec::new(), header: None, body };
        let answer = requests.send(request).await?;
        // Another replica may have created it concurrently.
        let is_there = matches!(answer.code(), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists"));
        if answer.status.is_success() || is_there {
            tracing::info!("the bucket was missing and is made");
            return Ok(());
        }
        refused = format!("{} {}", answer.status, answer.body);
        // The store does not support regions, or uses another name for its only one.
        if !matches!(answer.code(), Some("InvalidLocationConstraint" | "MalformedXML" | "NotImplemented")) {
            break;
        }
    }
    Err(SetupError::NoBucket(refused).into())
}

/// The region of a bucket that was accessed through the wrong one.
async fn find_region(requests: &Requests) -> Option<String> {
    let method = Method::GET;
    let request = Request { method, path: Path::default(), query: Vec::new(), header: None, body: Bytes::new() };
    let answer = requests.send(request).await.ok().filter(|it| it.status != StatusCode::OK)?;
    let header = answer.headers.get("x-amz-bucket-region").and_then(|it| it.to_str().ok());
    header.or_else(|| element(&answer.body, "Region")).map(str::to_owned)
}
