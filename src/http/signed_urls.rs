//! Signed URLs: created with a key, used without one.

use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;

use actix_web::http::header::CONTENT_RANGE;
use actix_web::web::{Data, Json, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use windlass_engine::model::{FileTerms, UrlAccess, UrlClaims};
use windlass_engine::{Error, NewUrl, Outcome, Service};
use windlass_types::{
    CreateDownloadUrlRequest, CreateUploadUrlRequest, ErrorResponse, Filename, MimeType, ObjectKind, SignedUrlObject,
};

use super::attachment::{attachment, safe_name};
use super::auth::{AllowedPurposes, AuthenticatedCaller};
use super::body::{Allowance, Body, declared_length, read_small, timed};
use super::connection::activity::Activity;
use super::error::ApiError;
use super::public_url::PublicUrl;
use super::query::Query;
use super::requests::file_id;
use super::subject::{Fact, note};
use super::{download, idempotency, json, rates};

/// Path prefix of signed URLs.
pub const PREFIX: &str = "/signed";

/// The characters of a file name that a path segment does not encode (RFC 3986, unreserved).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Extension: creates a URL that downloads a File, without a key.
#[utoipa::path(
    post, path = "/files/{file_id}/signed_url", tag = "Files", operation_id = "createDownloadUrl",
    extensions(("x-windlass-extension" = json!(true))),
    params(("file_id" = String, Path)),
    request_body(content = Option<CreateDownloadUrlRequest>),
    responses(
        (status = 200, description = "The URL.", body = SignedUrlObject),
        (status = 400, description = "The request is invalid.", body = ErrorResponse),
        (status = 404, description = "The File was not found.", body = ErrorResponse),
        (status = 408, description = "The body stalled.", body = ErrorResponse),
    )
)]
pub async fn create_download_url(
    service: Data<Service>,
    caller: AuthenticatedCaller,
    id: Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<Json<SignedUrlObject>, ApiError> {
    let id = file_id(&id)?;
    note(Fact::File(id));
    let body = read_small(body, &service, caller.0.project).await?;
    let CreateDownloadUrlRequest { expires_in, once } = match body.bytes.trim_ascii() {
        b"" | b"null" => CreateDownloadUrlRequest::default(),
        body => json::read(body)?,
    };
    let lifetime = expires_in.unwrap_or_default();
    let (new, file) = service.sign_download(caller.0, id, lifetime, once.unwrap_or(false)).await?;
    signed_url(&request, "GET", &new, &file.filename)
}

/// Extension: creates a URL that creates one File, without a key: `PUT` with the whole file as the body. Its response is
/// the File.
#[utoipa::path(
    post, path = "/files/signed_url", tag = "Files", operation_id = "createUploadUrl",
    extensions(("x-windlass-extension" = json!(true))),
    request_body = CreateUploadUrlRequest,
    responses(
        (status = 200, description = "The URL.", body = SignedUrlObject),
        (status = 400, description = "The request is invalid or exceeds a limit.", body = ErrorResponse),
        (status = 408, description = "The body stalled.", body = ErrorResponse),
    )
)]
pub async fn create_upload_url(
    service: Data<Service>,
    caller: AuthenticatedCaller,
    request: HttpRequest,
    body: Body,
) -> Result<Json<SignedUrlObject>, ApiError> {
    let body = read_small(body, &service, caller.0.project).await?;
    let CreateUploadUrlRequest { method: _, filename, purpose, mime_type, max_bytes, expires_in, expires_after } =
        json::read(&body.bytes)?;
    let purpose =
        AllowedPurposes::of(caller.0).parse(purpose.as_str()).map_err(|it| ApiError::invalid("purpose", it))?;
    let limit = service.limits().file_bytes;
    if let Some(bytes) = max_bytes.filter(|it| *it > limit) {
        let message = format!("'max_bytes' can be at most {limit}, but was {bytes}.");
        return Err(ApiError::invalid("max_bytes", message));
    }
    let mime_type = mime_type.unwrap_or_else(MimeType::octet_stream);
    let file_lifetime = expires_after.map(|it| it.seconds);
    let terms = FileTerms { filename: filename.clone(), purpose, mime_type, max_bytes, file_lifetime };
    let new = service.sign_upload(caller.0, expires_in.unwrap_or_default(), terms).await?;
    signed_url(&request, "PUT", &new, &filename)
}

/// The last segment is only for clients that name a download after it.
fn signed_url(
    request: &HttpRequest,
    method: &str,
    new: &NewUrl,
    filename: &Filename,
) -> Result<Json<SignedUrlObject>, ApiError> {
    let name = safe_name(filename);
    let path = format!("{PREFIX}/{}/{}", new.token, utf8_percent_encode(&name, UNRESERVED));
    Ok(Json(SignedUrlObject {
        object: ObjectKind::SignedUrl,
        url: PublicUrl::of(request)?.join(&path),
        method: method.to_owned(),
        expires_at: new.expires_at,
    }))
}

/// Whether a request to this path creates a URL for a download, for which the scope `read` is enough. The path is the one
/// that was sent, in which any character may be percent-encoded: a path that does not have the id of a File where it
/// belongs is treated as that of an upload.
pub fn signs_download(path: &str) -> bool {
    let id = path.strip_suffix("/signed_url").and_then(|it| it.rsplit_once('/'));
    id.is_some_and(|(_, id)| file_id(id).is_ok())
}

/// The path without the token of a signed URL, for the log. Routes match the decoded path.
pub fn without_token(path: &str) -> Cow<'_, str> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    decoded.find("/signed/").map_or(Cow::Borrowed(path), |at| decoded[..at + PREFIX.len()].to_owned().into())
}

/// Downloads a File with a signed URL.
///
/// # Errors
/// 403 when the URL is not valid, has expired or was used, 404 when the File was deleted, and those of a download.
pub async fn download(service: Data<Service>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let claims = verify(&service, &request).await?;
    let UrlAccess::Download(id) = claims.access else { return Err(Error::BadUrl.into()) };
    note(Fact::File(id));
    let query = Query::from(&request);
    let disposition = query.content_disposition()?;
    let file = service.get_file(claims.project, id).await?;
    let disposition = disposition.map_or_else(|| attachment(&file.filename), str::to_owned);
    download::respond(&service, &request, &file, &disposition, Some(&claims)).await
}

/// Creates a File with a signed URL.
///
/// # Errors
/// 403 when the URL is not valid, has expired or was used for other bytes, 400 when the body exceeds a limit, and those
/// of `POST /files`.
pub async fn upload(service: Data<Service>, request: HttpRequest, body: Payload) -> Result<HttpResponse, ApiError> {
    let claims = verify(&service, &request).await?;
    // RFC 9110, section 14.5: stored as a whole file, a part of one would be damage.
    if request.headers().contains_key(CONTENT_RANGE) {
        let message = "Content-Range is not supported. Send the whole file in one request.";
        return Err(ApiError::malformed(message));
    }
    let body = Body::of(&request, body)?;
    let digests = body.digests();
    let (mut upload, terms) = service.begin_url_file(&claims, declared_length(&request)).await?;
    let mut body = pin!(timed(body, service.limits(), Allowance::unlimited()));
    while let Some(bytes) = body.next().await {
        upload.write(bytes.as_ref().map_err(ApiError::from)?).await?;
    }
    let outcome = upload.finish(|bytes| terms.spec(bytes), digests).await?;
    note(Fact::File(match &outcome {
        Outcome::Created(file) => file.id,
        Outcome::Repeated { id, .. } => (*id).into(),
    }));
    Ok(idempotency::respond(outcome))
}

async fn verify(service: &Service, request: &HttpRequest) -> Result<UrlClaims, ApiError> {
    let (claims, rates) = service.verify_url(request.match_info().get("token").unwrap_or_default()).await?;
    note(Fact::Project(claims.project));
    note(Fact::SignedUrl(claims.key));
    if let Some(activity) = request.conn_data::<Rc<Activity>>() {
        activity.trust();
    }
    rates::admit(request, claims.key, rates)?;
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plain_path_of_a_file_needs_no_more_than_the_scope_read() {
        let file = "file-0123456789abcdef0123456789abcdef";
        for prefix in ["/v1", "/openai/v1", "/openai"] {
            assert!(signs_download(&format!("{prefix}/files/{file}/signed_url")));
            for path in [
                "files/signed_url",
                "file%73/signed_url",
                "%66iles/signed_url",
                "files//signed_url",
                "files/x/signed_url",
            ] {
                assert!(!signs_download(&format!("{prefix}/{path}")), "{path}");
            }
        }
    }

    #[test]
    fn a_logged_path_has_no_token() {
        for (path, logged) in [
            ("/signed/token/name", "/signed"),
            ("//signed/token", "//signed"),
            ("/prefix/signed/token", "/prefix/signed"),
            ("/signed", "/signed"),
            ("/%73igned/token", "/signed"),
            ("/sign%65d%2Ftoken", "/signed"),
            ("/v1/%73igned", "/v1/%73igned"),
            ("/v1/files/signed_url", "/v1/files/signed_url"),
        ] {
            assert_eq!(without_token(path), logged);
        }
    }
}
