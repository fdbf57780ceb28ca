//! Who is asking: the key is looked up before anything else of a request is.

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest, ResponseError as _};

use super::activity::Activity;
use super::error::ApiError;
use crate::domain::{ApiKey, Caller, ProjectId};
use crate::service::Service;

/// The project that the request's key belongs to. As a handler's argument it is the proof that
/// there was a valid key.
#[derive(Clone, Copy)]
pub struct Asker(pub ProjectId);

impl FromRequest for Asker {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().copied();
        ready(caller.map(|caller| Self(caller.project)).ok_or_else(ApiError::no_key))
    }
}

/// The header in which Azure's clients send the key.
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Rejects requests without a valid key, except `OPTIONS`, which browsers send without one: it reveals nothing that is
/// not in the OpenAPI document.
pub async fn authenticate<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if request.method() == Method::OPTIONS {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    match caller(&request).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            if let Some(activity) = request.conn_data::<Rc<Activity>>() {
                activity.trust();
            }
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(error) => Ok(request.into_response(error.error_response()).map_into_right_body()),
    }
}

async fn caller(request: &ServiceRequest) -> Result<Caller, ApiError> {
    let service = request.app_data::<Data<Service>>().ok_or_else(ApiError::no_key)?;
    Ok(service.authenticate(&key(request.headers())?).await?)
}

/// The key of a request. Several headers may have it if they agree: of two different keys, the one that was not checked
/// would be ignored here and might be honoured by a proxy in front.
fn key(headers: &HeaderMap) -> Result<ApiKey, ApiError> {
    let bearers = headers.get_all(AUTHORIZATION).map(bearer);
    let plain = headers.get_all(API_KEY).map(|it| it.to_str().ok().map(str::trim).filter(|it| !it.is_empty()));
    let mut keys = bearers.chain(plain);
    let key = keys.next().ok_or_else(ApiError::no_key)?;
    if keys.any(|it| it != key) {
        return Err(ApiError::different_keys());
    }
    let key = key.ok_or_else(ApiError::no_key)?;
    ApiKey::try_from(key.to_owned()).map_err(|_| ApiError::wrong_key())
}

fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, key) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(HeaderName, &str)]) -> Result<String, String> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        key(&headers.collect()).map(|it| it.reveal().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_stands_in_either_header_or_in_both() {
        for headers in [
            &[(AUTHORIZATION, "Bearer key")][..],
            &[(AUTHORIZATION, "bearer   key ")],
            &[(API_KEY, "key")],
            &[(API_KEY, " key ")],
            &[(API_KEY, "key"), (AUTHORIZATION, "Bearer key")],
            &[(API_KEY, "key"), (API_KEY, "key")],
        ] {
            assert_eq!(read(headers).as_deref(), Ok("key"), "{headers:?}");
        }
    }

    #[test]
    fn a_request_whose_headers_do_not_agree_has_no_key() {
        for headers in [
            &[(AUTHORIZATION, "Bearer key"), (API_KEY, "other")][..],
            &[(AUTHORIZATION, "Bearer key"), (API_KEY, "")],
            &[(AUTHORIZATION, "Basic dXNlcjpwYXNz"), (API_KEY, "key")],
            &[(AUTHORIZATION, "Bearer key"), (AUTHORIZATION, "Bearer other")],
            &[(API_KEY, "key"), (API_KEY, "key2")],
        ] {
            let refused = read(headers).unwrap_err();
            assert!(refused.contains("must carry the same key"), "{headers:?}: {refused}");
        }
        for headers in [&[][..], &[(AUTHORIZATION, "key")], &[(AUTHORIZATION, "Basic key")], &[(API_KEY, " ")]] {
            let refused = read(headers).unwrap_err();
            assert!(refused.contains("didn't provide"), "{headers:?}: {refused}");
        }
    }
}
