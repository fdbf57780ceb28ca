//! Clients for buckets, configured by the providers' usual environment variables.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{HttpClient, HttpConnector as _, ReqwestConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use url::{Host, Url};

use super::location::Bucket;
use super::profile::Profile;
use super::variables::{Variables, check, server, unfit, without_slash};
use super::{Error, Result, SetupError};

/// The maximum number of retries of a failed request. Clients of this service retry as well, so a longer outage is
/// reported instead of waited out.
const RETRIES: usize = 5;

/// What to do if there are no CA certificates.
const NO_ROOTS: &str = ": install the package ca-certificates, or set SSL_CERT_FILE to a file with the certificates of \
                        the authorities to trust, in PEM format";

/// The default endpoint of the EC2 instance metadata service, which provides credentials.
const METADATA: &str = "http://169.254.169.254";

/// Environment variables by name.
type Set = BTreeMap<String, String>;

/// The interfaces of a bucket's client.
#[derive(Clone)]
pub(super) struct Client {
    pub objects: Arc<dyn ObjectStore>,
    pub multiparts: Arc<dyn MultipartStore>,
    pub lists: Arc<dyn PaginatedListStore>,
}

impl Client {
    pub(super) fn of<S: ObjectStore + MultipartStore + PaginatedListStore>(store: Arc<S>) -> Self {
        Self { objects: Arc::<S>::clone(&store), multiparts: Arc::<S>::clone(&store), lists: store }
    }
}

/// The location of a bucket, as shown in messages.
#[derive(Debug)]
pub(super) struct Place {
    /// For example `s3://uploads at 127.0.0.1:9000`.
    pub name: String,
    /// The source of the credentials.
    pub credentials: String,
    /// The region that requests are signed for (S3 only).
    pub region: Option<String>,
}

impl Place {
    fn new(bucket: &Bucket, server: &str, proxy: Option<&String>, credentials: String) -> Self {
        // A proxy's URL may contain a password, so only host and port are shown.
        let proxy = proxy.map(|it| Url::parse(it).map_or_else(|_| String::new(), |it| address(&it)));
        let through = proxy.map_or_else(String::new, |it| format!(" through the proxy {it}"));
        Self { name: format!("{bucket} at {server}{through}"), credentials, region: None }
    }
}

/// The configuration of an S3 bucket, before the first request.
pub(super) struct S3Setup {
    pub builder: AmazonS3Builder,
    pub http: HttpClient,
    /// Whether requests are sent unsigned.
    pub anonymous: bool,
    /// Whether `AWS_UNSIGNED_PAYLOAD` is set explicitly.
    pub signing_is_set: bool,
    /// Whether a third party could read and modify requests even over https: a proxy, or unverified certificates.
    pub is_interceptable: bool,
    pub region: String,
    pub place: Place,
}

pub(super) fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, ..RetryConfig::default() }
}

/// Configures a client for an S3 bucket.
pub(super) fn s3(bucket: &Bucket, variables: &Variables) -> Result<S3Setup> {
    let mut set = variables.with_prefix("AWS_")?;
    let credentials = find_keys(&mut set, variables)?;
    let region = set.get("AWS_REGION").or(set.get("AWS_DEFAULT_REGION")).map_or("us-east-1", String::as_str).to_owned();
    let server = address_bucket(&mut set, bucket, &region)?;
    let builder = s3_builder(AmazonS3Builder::new(), &set).with_bucket_name(&bucket.name).with_retry(retry());
    builder.clone().build().map_err(|error| blame(&set, error, try_s3))?;
    let http = ReqwestConnector::default().connect(&client_options(&set, as_s3_client))?;
    let mut place = Place::new(bucket, &server, set.get("AWS_PROXY_URL"), credentials);
    place.region = Some(region.clone());
    Ok(S3Setup {
        builder,
        http,
        anonymous: is_on(&set, "AWS_SKIP_SIGNATURE"),
        signing_is_set: set.contains_key("AWS_UNSIGNED_PAYLOAD"),
        is_interceptable: variables.has_proxy("AWS_") || is_on(&set, "AWS_ALLOW_INVALID_CERTIFICATES"),
        region,
        place,
    })
}

/// Configures a client for a Google Cloud Storage bucket.
pub(super) fn google(bucket: &Bucket, variables: &Variables) -> Result<(Client, Place)> {
    let mut set = variables.with_prefix("GOOGLE_")?;
    if let Some(path) = variables.get("SERVICE_ACCOUNT") {
        set.entry("GOOGLE_SERVICE_ACCOUNT".to_owned()).or_insert_with(|| path.to_owned());
    }
    let builder = google_builder(GoogleCloudStorageBuilder::new(), &set).with_bucket_name(&bucket.name);
    let store = builder.with_retry(retry()).build().map_err(|error| blame(&set, error, try_google))?;
    let server = set.get("GOOGLE_BASE_URL").map_or("https://storage.googleapis.com", String::as_str);
    let server = server_address("GOOGLE_BASE_URL", server)?;
    let named = set.keys().filter(|it| it.contains("ACCOUNT") || it.contains("CREDENTIALS") || it.contains("BEARER"));
    let credentials = named.cloned().collect::<Vec<_>>().join(", ");
    let place = Place::new(bucket, &server, set.get("GOOGLE_PROXY_URL"), credentials);
    Ok((Client::of(Arc::new(store)), place))
}

/// Configures a client for an Azure container.
pub(super) fn azure(bucket: &Bucket, variables: &Variables) -> Result<(Client, Place)> {
    let mut set = variables.with_prefix("AZURE_")?;
    set.extend(variables.with_prefix("AZURITE_")?);
    if let Some(url) = variables.get("IDENTITY_ENDPOINT") {
        set.entry("AZURE_IDENTITY_ENDPOINT".to_owned()).or_insert(check("AZURE_IDENTITY_ENDPOINT", url)?);
    }
    let emulated = is_on(&set, "AZURE_STORAGE_USE_EMULATOR");
    let account = set.get("AZURE_STORAGE_ACCOUNT_NAME").cloned();
    let Some(account) = account.or_else(|| emulated.then(|| "devstoreaccount1".to_owned())) else {
        return Err(unfit("AZURE_STORAGE_ACCOUNT_NAME", "", "it is not set").into());
    };
    if !account.chars().all(|it| it.is_ascii_alphanumeric() || it == '-') {
        return Err(
            unfit("AZURE_STORAGE_ACCOUNT_NAME", &account, "an account name consists of letters and digits").into()
        );
    }
    let builder = azure_builder(MicrosoftAzureBuilder::new(), &set).with_container_name(&bucket.name);
    let store = builder.with_retry(retry()).build().map_err(|error| blame(&set, error, try_azure))?;
    let endpoint = set.get("AZURE_STORAGE_ENDPOINT").or(set.get("AZURE_ENDPOINT"));
    let server = match (emulated, set.get("AZURITE_BLOB_STORAGE_URL"), endpoint) {
        (true, Some(url), _) | (false, _, Some(url)) => url.clone(),
        (true, None, _) => "http://127.0.0.1:10000".to_owned(),
        (false, _, None) => format!("https://{account}.blob.core.windows.net"),
    };
    let server = server_address("AZURE_STORAGE_ENDPOINT", &server)?;
    let named = set.keys().filter(|it| ["KEY", "TOKEN", "CLIENT", "MSI", "SAS"].iter().any(|part| it.contains(part)));
    let credentials = named.cloned().collect::<Vec<_>>().join(", ");
    Ok((Client::of(Arc::new(store)), Place::new(bucket, &server, set.get("AZURE_PROXY_URL"), credentials)))
}

fn as_s3_client(key: AmazonS3ConfigKey) -> Option<ClientConfigKey> {
    if let AmazonS3ConfigKey::Client(key) = key { Some(key) } else { None }
}

fn s3_builder(base: AmazonS3Builder, set: &Set) -> AmazonS3Builder {
    let options = client_options(set, as_s3_client);
    with(base, set, |builder, key, value| builder.with_config(key, value)).with_client_options(options)
}

fn google_builder(base: GoogleCloudStorageBuilder, set: &Set) -> GoogleCloudStorageBuilder {
    let as_client = |it| if let GoogleConfigKey::Client(key) = it { Some(key) } else { None };
    let options = client_options(set, as_client);
    with(base, set, |builder, key, value| builder.with_config(key, value)).with_client_options(options)
}

fn azure_builder(base: MicrosoftAzureBuilder, set: &Set) -> MicrosoftAzureBuilder {
    let as_client = |it| if let AzureConfigKey::Client(key) = it { Some(key) } else { None };
    let options = client_options(set, as_client);
    with(base, set, |builder, key, value| builder.with_config(key, value)).with_client_options(options)
}

/// Whether a client can be made with these variables and an otherwise complete configuration.
pub(super) type Try = fn(&Set) -> object_store::Result<()>;

pub(super) fn try_s3(set: &Set) -> object_store::Result<()> {
    let base = AmazonS3Builder::new().with_bucket_name("b").with_access_key_id("k").with_secret_access_key("s");
    s3_builder(base, set).build().map(drop)
}

pub(super) fn try_google(set: &Set) -> object_store::Result<()> {
    let base = GoogleCloudStorageBuilder::new().with_bucket_name("b").with_skip_signature(true);
    google_builder(base, set).build().map(drop)
}

pub(super) fn try_azure(set: &Set) -> object_store::Result<()> {
    let base = MicrosoftAzureBuilder::new().with_account("a").with_container_name("c").with_access_key("AAAA");
    azure_builder(base, set).build().map(drop)
}

/// Applies all variables that the builder supports, and skips the others.
fn with<B, K: FromStr>(builder: B, set: &Set, put: impl Fn(B, K, &str) -> B) -> B {
    set.iter().fold(builder, |builder, (name, value)| match name.to_ascii_lowercase().parse() {
        Ok(key) => put(builder, key, value),
        Err(_) => builder,
    })
}

/// HTTP options for all requests. Plain http is allowed, since the operator chooses the endpoint.
fn client_options<K: FromStr>(set: &Set, as_client: impl Fn(K) -> Option<ClientConfigKey>) -> ClientOptions {
    with(ClientOptions::new().with_allow_http(true), set, |options, key, value| match as_client(key) {
        Some(key) => options.with_config(key, value),
        None => options,
    })
}

/// Finds the first variable that causes a build error by itself and reports it by name; otherwise returns `error`.
fn blame(set: &Set, error: object_store::Error, try_with: Try) -> Error {
    if let Err(error) = try_with(&Set::new()) {
        return without_client(&error).into();
    }
    set.iter().find_map(|(name, value)| misfit(name, value, try_with)).map_or_else(|| error.into(), Error::from)
}

/// The error if the client rejects this variable by itself.
pub(super) fn misfit(name: &str, value: &str, try_with: Try) -> Option<SetupError> {
    let error = try_with(&Set::from([(name.to_owned(), value.to_owned())])).err()?;
    let text = error.to_string();
    let hints = [
        ("as boolean", "it must be true or false"),
        ("as Duration", "it must be a duration such as 30s or 2m"),
        ("as usize", "it must be a whole number"),
        ("as u32", "it must be a whole number"),
    ];
    Some(match hints.iter().find(|it| text.contains(it.0)) {
        Some((_, hint)) => unfit(name, value, hint),
        None => unfit(name, value, &format!("the store's client rejects it: {}", innermost(&error))),
    })
}

/// The error if no client can be made, whatever the settings are.
pub(super) fn without_client(error: &object_store::Error) -> SetupError {
    let problem = innermost(error);
    let has_no_roots = problem.contains("No CA certificates");
    let hint = if has_no_roots { NO_ROOTS } else { "" };
    SetupError::NoClient(format!("{problem}{hint}"))
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

fn is_on(set: &Set, name: &str) -> bool {
    set.get(name).is_some_and(|it| ["1", "true", "on", "yes", "y"].contains(&it.to_ascii_lowercase().as_str()))
}

fn is_off(set: &Set, name: &str) -> bool {
    set.get(name).is_some_and(|it| ["0", "false", "off", "no", "n"].contains(&it.to_ascii_lowercase().as_str()))
}

/// The error if only one of an access key's id and its secret is set.
pub(super) fn unpaired(has_id: bool, has_secret: bool) -> Option<SetupError> {
    match (has_id, has_secret) {
        (true, false) => Some(unfit("AWS_SECRET_ACCESS_KEY", "", "it is not set, though AWS_ACCESS_KEY_ID is")),
        (false, true) => Some(unfit("AWS_ACCESS_KEY_ID", "", "it is not set, though AWS_SECRET_ACCESS_KEY is")),
        (true, true) | (false, false) => None,
    }
}

/// Determines the source of credentials: the environment, then a web identity or a container's credentials, then a
/// shared profile, then the instance metadata service.
fn find_keys(set: &mut Set, variables: &Variables) -> Result<String, SetupError> {
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    if let Some(error) = unpaired(set.contains_key(id), set.contains_key(secret)) {
        return Err(error);
    }
    if set.contains_key(id) {
        return Ok(id.to_owned());
    }
    if is_on(set, "AWS_SKIP_SIGNATURE") {
        return Ok("none (AWS_SKIP_SIGNATURE)".to_owned());
    }
    let has = |name: &str| set.contains_key(name);
    if has("AWS_WEB_IDENTITY_TOKEN_FILE") && has("AWS_ROLE_ARN") {
        return Ok("AWS_WEB_IDENTITY_TOKEN_FILE".to_owned());
    }
    if has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Ok("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI".to_owned());
    }
    if has("AWS_CONTAINER_CREDENTIALS_FULL_URI") && has("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        return Ok("AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned());
    }
    let Some(profile) = Profile::read(variables)? else {
        let service = set.get("AWS_METADATA_ENDPOINT").map_or(METADATA, String::as_str);
        return Ok(format!("the instance metadata service at {service}"));
    };
    let (has_region, has_endpoint) = (
        has("AWS_REGION") || has("AWS_DEFAULT_REGION"),
        has("AWS_ENDPOINT") || has("AWS_ENDPOINT_URL") || has("AWS_ENDPOINT_URL_S3"),
    );
    for (name, value) in &profile.set {
        let is_overridden = *name == "AWS_REGION" && has_region || *name == "AWS_ENDPOINT_URL" && has_endpoint;
        if !is_overridden {
            set.insert((*name).to_owned(), check(name, value)?);
        }
    }
    Ok(profile.source)
}

/// The address that requests are sent to. For virtual-hosted-style requests, the bucket is prepended to the endpoint's
/// host, as AWS SDKs do; `object_store` expects it to be there already.
fn address_bucket(set: &mut Set, bucket: &Bucket, region: &str) -> Result<String, SetupError> {
    let by_host = is_on(set, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST");
    let named =
        ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].into_iter().find(|it| set.contains_key(*it));
    let Some(name) = named else {
        let bucket = if by_host { format!("{}.", bucket.name) } else { String::new() };
        return Ok(format!("{bucket}s3.{region}.amazonaws.com"));
    };
    let mut url = server(name, &set[name])?;
    if url.scheme() == "http" && is_off(set, "AWS_ALLOW_HTTP") {
        return Err(unfit(name, &set[name], "it is plain http, which AWS_ALLOW_HTTP forbids"));
    }
    if by_host {
        let Some(Host::Domain(host)) = url.host() else {
            let problem =
                "AWS_VIRTUAL_HOSTED_STYLE_REQUEST prepends the bucket to a host name, but this is an IP address";
            return Err(unfit(name, &set[name], problem));
        };
        if !host.starts_with(&format!("{}.", bucket.name.to_ascii_lowercase())) {
            let host = format!("{}.{host}", bucket.name);
            url.set_host(Some(&host)).map_err(|_| unfit(name, &host, "this is not a host name"))?;
        }
        set.insert("AWS_ENDPOINT_URL_S3".to_owned(), without_slash(&url));
    }
    Ok(address(&url))
}

fn server_address(name: &str, url: &str) -> Result<String, SetupError> {
    server(name, url).map(|it| address(&it))
}

/// The host and port of a URL.
fn address(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}
