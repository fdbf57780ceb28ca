//! Request bodies: a stream with time and rate limits, and a reader for small bodies.

use std::cell::Cell;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;
use actix_web::{FromRequest, HttpRequest, dev};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout};
use windlass_engine::model::{Digests, Limits};
use windlass_engine::{BodyMemory, Service};
use windlass_types::{ByteCount, ProjectId};

use super::digests::{Claims, WrongDigest};
use super::error::ApiError;

/// The initial capacity for a small body; most are smaller.
const FIRST_BYTES: usize = 1024;

/// The body of a request, and the digests that its head has for it, which are verified when it has been read. As an
/// argument of a handler, rejects a request whose digests cannot be verified.
pub struct Body {
    payload: Payload,
    claims: Claims,
}

impl Body {
    /// The body of a request.
    ///
    /// # Errors
    /// When a digest in the head cannot be verified.
    pub fn of(request: &HttpRequest, payload: Payload) -> Result<Self, ApiError> {
        Ok(Self { payload, claims: Claims::of(request)? })
    }

    /// The digests that the body has once it has been read without an error.
    pub fn digests(&self) -> Digests {
        self.claims.digests()
    }
}

impl FromRequest for Body {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let body = Payload::from_request(request, payload).into_inner();
        ready(body.and_then(|it| Ok(Self::of(request, it)?)))
    }
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The idle timeout expired.
    #[error("no byte of the body arrived for {0:?}")]
    Idle(Duration),
    /// The deadline for the whole body expired.
    #[error("the body took longer than {0:?}")]
    TooSlow(Duration),
    /// The body arrived below the minimum rate.
    #[error("the body arrived at less than {0} bytes per second")]
    BelowRate(ByteCount),
    /// The allowance was exceeded.
    #[error("{0}")]
    TooMuch(&'static str),
    /// The connection was closed before the end of the body, or its chunks are malformed.
    #[error("the body was cut off or is malformed: {0}")]
    Broken(#[from] PayloadError),
    /// The body does not have a digest that was sent for it.
    #[error(transparent)]
    WrongDigest(#[from] WrongDigest),
}

impl From<&BodyError> for ApiError {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::Idle(_) | BodyError::TooSlow(_) | BodyError::BelowRate(_) => {
                Self::stalled(format!("Timed out: {error}."))
            }
            BodyError::TooMuch(what) => Self::malformed(what),
            BodyError::WrongDigest(wrong) => Self::wrong_digest(wrong.header, wrong),
            BodyError::Broken(_) => Self::malformed(
                "The body is incomplete or malformed: it ended before its declared length or its last chunk, or a \
                 chunk is invalid.",
            ),
        }
    }
}

/// The number of bytes that may be read before the allowance is set again: a limit on the parts of a body that are not
/// content.
#[derive(Debug, Clone)]
pub struct Allowance(Rc<Cell<u64>>);

impl Allowance {
    /// No limit.
    pub fn unlimited() -> Self {
        Self(Rc::new(Cell::new(u64::MAX)))
    }

    /// Sets the number of bytes.
    pub fn set(&self, bytes: u64) {
        self.0.set(bytes);
    }

    /// Subtracts bytes. Returns whether any were left before.
    fn take(&self, bytes: usize) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(bytes as u64));
        left > 0
    }
}

/// The rate at which a client sends. Only the time spent waiting for the client counts.
struct Rate {
    least: ByteCount,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Rate {
    fn new(limits: &Limits) -> Self {
        Self { least: limits.min_rate, window: 2 * limits.body_idle, waited: Duration::ZERO, bytes: 0 }
    }

    /// Counts bytes, and the time spent waiting for them. Returns whether they arrived fast enough.
    fn keeps_up(&mut self, bytes: usize, waited: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < self.window {
            return true;
        }
        let is_enough = u128::from(self.bytes) * 1000 >= u128::from(self.least.get()) * self.waited.as_millis();
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        is_enough
    }
}

/// The body's bytes as they arrive, subject to the time limits and the allowance. Ends after the first error. At the end
/// of the body, its digests are verified.
pub fn timed(
    body: Body,
    limits: &Limits,
    allowance: Allowance,
) -> impl Stream<Item = Result<Bytes, BodyError>> + use<> {
    let (idle, longest, least) = (limits.body_idle, limits.body_deadline, limits.min_rate);
    let deadline = Instant::now() + longest;
    let (payload, verifier) = (body.payload, body.claims.verify());
    stream::unfold(Some((payload, verifier, allowance, Rate::new(limits))), move |state| async move {
        let (mut payload, mut verifier, allowance, mut rate) = state?;
        let began = Instant::now();
        let patience = idle.min(deadline.saturating_duration_since(began));
        let next = timeout(patience, payload.next()).await;
        let result = match next {
            Ok(None) => Err(verifier.finish().err()?.into()),
            Ok(Some(Ok(bytes))) if !allowance.take(bytes.len()) => {
                Err(BodyError::TooMuch("The form's part headers, preamble or epilogue are too long."))
            }
            Ok(Some(Ok(bytes))) if !rate.keeps_up(bytes.len(), began.elapsed()) => Err(BodyError::BelowRate(least)),
            Ok(Some(Ok(bytes))) => {
                verifier.update(&bytes);
                Ok(bytes)
            }
            Ok(Some(Err(error))) => Err(error.into()),
            Err(_) if patience < idle => Err(BodyError::TooSlow(longest)),
            Err(_) => Err(BodyError::Idle(idle)),
        };
        let rest = result.is_ok().then_some((payload, verifier, allowance, rate));
        Some((result, rest))
    })
}

/// The declared length of a request's body, if any. actix has validated the header.
pub fn declared_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A small body that has been read completely.
pub struct SmallBody {
    /// The content.
    pub bytes: Vec<u8>,
    /// The reservation of the memory that the content uses.
    pub memory: BodyMemory,
}

/// Reads a small body. Its memory is reserved as its bytes arrive.
///
/// # Errors
/// When the body exceeds [`Limits::JSON_BYTES`] or [`Limits::JSON_VALUES`], cannot be read ([`BodyError`]), or there is
/// no memory for it.
pub async fn read_small(body: Body, service: &Service, project: ProjectId) -> Result<SmallBody, ApiError> {
    let mut stream = std::pin::pin!(timed(body, service.limits(), Allowance::unlimited()));
    let (mut body, mut memory) = (Vec::with_capacity(FIRST_BYTES), service.body_memory(project));
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.as_ref().map_err(ApiError::from)?;
        let length = body.len() + bytes.len();
        if length > Limits::JSON_BYTES {
            return Err(ApiError::malformed(format!("The body has more than {} bytes.", Limits::JSON_BYTES)));
        }
        if length > body.capacity() {
            let capacity = length.next_power_of_two();
            memory.grow_to(capacity).await?;
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(bytes);
    }
    if values(&body) > Limits::JSON_VALUES {
        let message = format!("The body has more than the maximum of {} values.", Limits::JSON_VALUES);
        return Err(ApiError::malformed(message));
    }
    Ok(SmallBody { bytes: body, memory })
}

/// An upper bound for the number of values in a JSON text.
fn values(json: &[u8]) -> usize {
    let (mut count, mut in_string, mut bytes) = (1, false, json.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => drop(bytes.next()),
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (json, expected) in [
            ("", 1),
            ("null", 1),
            ("[1,2]", 3),
            (r#"{"a":[[],{}],"b":"x"}"#, 7),
            (r#"["[,{\"[,{","\\",1]"#, 4),
            (r#"["never ended,,,"#, 2),
        ] {
            assert_eq!(values(json.as_bytes()), expected, "{json}");
        }
    }
}
