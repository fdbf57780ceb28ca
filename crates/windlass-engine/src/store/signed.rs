//! S3 requests that `object_store` does not support. It signs them, and an HTTP client with the same settings (proxy,
//! certificates, timeouts) sends them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpRequest};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use tokio::time::timeout;
use url::Url;

use super::{Error, Result};

/// The timeout of a request. Its signature is valid for twice as long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum length of a response body, 60 times that of a typical full page; the rest is ignored.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Sends requests without retrying.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    store: Arc<AmazonS3>,
    http: HttpClient,
    /// Whether requests are sent unsigned (`AWS_SKIP_SIGNATURE`).
    anonymous: bool,
}

/// A request about the bucket or one of its objects.
#[derive(Debug)]
pub(super) struct Request {
    pub method: Method,
    /// Empty for the bucket itself.
    pub path: Path,
    pub query: Vec<(&'static str, String)>,
    /// A header covered by the signature.
    pub header: Option<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

/// A response from the store.
#[derive(Debug)]
pub(super) struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Requests {
    /// Anonymous access needs a `store` with dummy credentials, since presigning requires some.
    pub(super) fn new(store: Arc<AmazonS3>, http: HttpClient, anonymous: bool) -> Self {
        Self { store, http, anonymous }
    }

    /// The presigned URL of a request.
    pub(super) async fn url(&self, request: &Request) -> Result<Url> {
        let mut options = SignedUrlOptions::new().with_query(request.query.iter().map(|it| (it.0, it.1.as_str())));
        if let Some((name, value)) = &request.header {
            options = options.with_signed_header(name.clone(), value.clone());
        }
        let url =
            self.store.signed_url_opts(request.method.clone(), &request.path, 2 * REQUEST_TIMEOUT, &options).await?;
        Ok(if self.anonymous { without_signature(url) } else { url })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If no complete response arrives in time. An error status is not an error here.
    pub(super) async fn send(&self, request: Request) -> Result<Response> {
        let url = self.url(&request).await?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
            Error::Remote(object_store::Error::Generic { store: "S3", source })
        };
        // Some servers reject an empty body without a `Content-Length` (411).
        let mut built = HttpRequest::new(request.body.clone().into());
        *built.method_mut() = request.method;
        *built.uri_mut() = url.as_str().parse().map_err(|error| failed(Box::<http::uri::InvalidUri>::new(error)))?;
        built.headers_mut().insert(CONTENT_LENGTH, request.body.len().into());
        built.headers_mut().extend(request.header);
        let exchange = async {
            let (head, body) = self.http.execute(built).await?.into_parts();
            let body = body.bytes_stream().try_fold(BytesMut::new(), async |mut all, more| {
                let room = MAX_BODY_BYTES.saturating_sub(all.len()).min(more.len());
                all.extend_from_slice(&more[..room]);
                Ok(all)
            });
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body: String::from_utf8_lossy(&body.await?).into(),
            })
        };
        match timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(response) => response.map_err(|error: object_store::client::HttpError| failed(Box::new(error))),
            Err(elapsed) => Err(failed(Box::new(elapsed))),
        }
    }
}

impl Response {
    /// The S3 error code.
    pub(super) fn code(&self) -> Option<&str> {
        element(&self.body, "Code")
    }

    /// The status, error code and message, for display.
    pub(super) fn reason(&self) -> String {
        let (code, message) = (self.code(), element(&self.body, "Message"));
        let parts = [Some(self.status.as_str()), code, message];
        parts.into_iter().flatten().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Whether the request may succeed if retried.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            || self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED
    }
}

/// The content of the first XML element with this name.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0.trim())
}

fn without_signature(mut url: Url) -> Url {
    let kept: Vec<_> = url
        .query_pairs()
        .filter(|it| !it.0.starts_with("X-Amz-"))
        .map(|it| (it.0.into_owned(), it.1.into_owned()))
        .collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    url
}
