//! Rejects encoded request bodies (RFC 9110, section 8.4): they are not decoded, and must not be stored encoded.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError as _};

use super::error::ApiError;

/// How much of the header the error message quotes, in characters.
const MOST_CHARS: usize = 60;

/// Middleware that rejects requests whose body is encoded.
///
/// # Errors
/// Those of the handlers; a rejection is a response.
pub async fn refuse<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let coding = match *request.method() {
        Method::POST | Method::PUT => coding(request.headers()),
        _ => None,
    };
    let Some(coding) = coding else { return Ok(next.call(request).await?.map_into_left_body()) };
    let message =
        format!("Content-Encoding '{coding}' is not supported. Send the body unencoded, without this header.");
    Ok(request.into_response(ApiError::malformed(message).error_response()).map_into_right_body())
}

/// The codings of the body, if any of them is not `identity`.
fn coding(headers: &HeaderMap) -> Option<String> {
    let codings: Vec<_> = headers.get_all(CONTENT_ENCODING).map(|it| String::from_utf8_lossy(it.as_bytes())).collect();
    let all = codings.join(", ");
    let identity = all.split(',').map(str::trim).all(|it| it.is_empty() || it.eq_ignore_ascii_case("identity"));
    (!identity).then(|| all.chars().take(MOST_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_identity_does_not_count_as_a_coding() {
        let coding = |values: &[&str]| {
            let request =
                values.iter().fold(TestRequest::default(), |it, value| it.append_header((CONTENT_ENCODING, *value)));
            coding(request.to_http_request().headers())
        };
        for values in [&[][..], &[""], &["identity"], &["Identity , identity"], &["identity", "IDENTITY"]] {
            assert_eq!(coding(values), None, "{values:?}");
        }
        for (values, all) in [
            (&["gzip"][..], "gzip"),
            (&["GZIP"], "GZIP"),
            (&["identity, gzip"], "identity, gzip"),
            (&["identity", "br"], "identity, br"),
            (&["gzip, gzip"], "gzip, gzip"),
            (&["utf-8"], "utf-8"),
        ] {
            assert_eq!(coding(values).as_deref(), Some(all));
        }
        assert_eq!(coding(&["x".repeat(100).as_str()]).unwrap().len(), MOST_CHARS);
    }
}
