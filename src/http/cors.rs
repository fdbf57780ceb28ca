//! CORS (Fetch standard, section 3.2): which web pages may use the API from a browser. It is not access control; keys
//! are.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpResponse};

use crate::http::CorsOrigins;

/// The methods of all operations.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// The headers that a page may read in addition to the safelisted ones. SDKs read the first five.
const EXPOSED: &str = "x-request-id, retry-after, x-should-retry, openai-processing-ms, openai-version, \
    content-disposition, content-length, content-range, accept-ranges, etag, www-authenticate, allow, repr-digest, \
    content-digest, idempotent-replayed, \
    x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
    x-ratelimit-limit-bytes, x-ratelimit-remaining-bytes, x-ratelimit-reset-bytes";

/// How long a browser may cache the response to a preflight, in seconds: two hours, the maximum of Chromium.
const MAX_AGE: &str = "7200";

/// The CORS headers of the response to a request, if CORS is on.
pub struct Cors {
    /// The value of `access-control-allow-origin`, if the page that sent the request is allowed.
    allowed: Option<HeaderValue>,
    /// For a preflight, the headers that the page announces.
    preflight: Option<Vec<HeaderValue>>,
}

impl Cors {
    /// The headers for a request; `None` if CORS is off.
    pub fn of(request: &ServiceRequest) -> Option<Self> {
        let origins = request.app_data::<Data<CorsOrigins>>()?;
        let headers = request.headers();
        let origin = headers.get(ORIGIN).filter(|it| it.to_str().is_ok_and(|it| origins.allow(it)));
        let allowed = origin.map(|it| match origins.get_ref() {
            CorsOrigins::Any => HeaderValue::from_static("*"),
            CorsOrigins::Listed(_) => it.clone(),
        });
        let is_preflight = request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let announced = || headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).cloned().collect();
        Some(Self { allowed, preflight: is_preflight.then(announced) })
    }

    /// Adds the headers to a response of any status: pages must be able to read errors, too.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = &self.allowed else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let Some(announced) = &self.preflight else {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            return;
        };
        headers.append(VARY, HeaderValue::from_static("access-control-request-headers"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        for names in announced {
            headers.append(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
}

/// Responds to the preflight that a browser sends before a request with a key. The response is the same for every path,
/// so that a request to an unknown path is sent and the page can read the 404.
///
/// # Errors
/// Those of the handlers.
pub async fn preflight<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match Cors::of(&request) {
        Some(Cors { allowed: Some(_), preflight: Some(_) }) => {
            Ok(request.into_response(HttpResponse::NoContent().finish()).map_into_right_body())
        }
        Some(_) | None => Ok(next.call(request).await?.map_into_left_body()),
    }
}
