//! `Idempotency-Key`: a request that is repeated with the same key has the response of the first one.

use std::future::{Ready, ready};

use actix_web::http::header::ContentType;
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev};
use windlass_engine::{Once, Outcome};
use windlass_types::IdempotencyKey;

use super::error::ApiError;
use super::responses::ToObject;

const HEADER: &str = "Idempotency-Key";

/// Marks a response that is a repetition.
const REPLAYED: (&str, &str) = ("Idempotent-Replayed", "true");

/// The idempotency key of a request, if it has one.
pub struct Key(Option<IdempotencyKey>);

impl Key {
    /// The key of a request that creates a `T`.
    pub fn once<T: ToObject + Clone>(self) -> Option<Once<T>> {
        self.0.map(|key| Once { key, render: |created: &T| serde_json::to_string(&created.clone().to_object()) })
    }

    fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let mut values = request.headers().get_all(HEADER);
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if values.any(|it| it != value) {
            return Err(ApiError::invalid(HEADER, "There are several different Idempotency-Key headers. Send one."));
        }
        let key = String::from_utf8_lossy(value.as_bytes()).parse();
        key.map(|it| Self(Some(it)))
            .map_err(|error| ApiError::invalid(HEADER, format!("{HEADER} cannot be used: {error}.")))
    }
}

impl FromRequest for Key {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(Self::of(request).map_err(Into::into))
    }
}

/// The response to a request that may have a key.
pub fn respond<T: ToObject>(outcome: Outcome<T>) -> HttpResponse {
    match outcome {
        Outcome::Created(created) => HttpResponse::Ok().json(created.to_object()),
        Outcome::Repeated { response, .. } => {
            HttpResponse::Ok().content_type(ContentType::json()).insert_header(REPLAYED).body(response)
        }
    }
}
