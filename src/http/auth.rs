//! Who is asking: the key is looked up before anything else of a request is.

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
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

/// Lets only requests with a valid key through.
pub async fn authenticate<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
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
    let header = request.headers().get(AUTHORIZATION).ok_or_else(ApiError::no_key)?;
    let (scheme, key) = header.to_str().ok().and_then(|it| it.split_once(' ')).ok_or_else(ApiError::no_key)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::no_key());
    }
    let key = ApiKey::try_from(key.trim().to_owned()).map_err(|_| ApiError::wrong_key())?;
    Ok(service.authenticate(&key).await?)
}
