//! A request's body as a stream that ends: a body that is too slow, too long or incomplete is a specific error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use super::error::ApiError;
use crate::domain::{ByteCount, Limits, ProjectId};
use crate::service::{BodyMemory, Service};

/// What is allocated for a small body before it arrives; most are smaller.
const FIRST_BYTES: usize = 1024;

/// What can happen to a body on its way.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing came for too long.
    #[error("no byte of the body came for {0:?}")]
    Idle(Duration),
    /// It came, but it took too long as a whole.
    #[error("the body took longer than {0:?}")]
    TooSlow(Duration),
    /// It arrived too slowly.
    #[error("the body arrived at less than {0} bytes per second")]
    BelowRate(ByteCount),
    /// There is more of something than it may have.
    #[error("{0}")]
    TooMuch(&'static str),
    /// It ended before its end, or is no HTTP body.
    #[error("the body was cut off or is malformed: {0}")]
    Broken(#[from] PayloadError),
}

impl From<&BodyError> for ApiError {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::Idle(_) | BodyError::TooSlow(_) | BodyError::BelowRate(_) => {
                Self::stalled(format!("Timed out: {error}."))
            }
            BodyError::TooMuch(what) => Self::malformed(what),
            BodyError::Broken(_) => Self::malformed(
                "The body is incomplete or malformed: it ended before its declared length or its last chunk, or a \
                 chunk is invalid.",
            ),
        }
    }
}

/// How many bytes may still be read before something other than content must have come to its end.
#[derive(Debug, Clone)]
pub struct Allowance(Arc<AtomicU64>);

impl Allowance {
    /// As many as there are.
    pub fn unlimited() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Sets a new bound.
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(bytes as u64), Ordering::Relaxed);
        left > 0
    }
}

/// How fast a client sends. Only the time spent waiting for it counts.
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

/// The body's bytes as they arrive, within the time limits and the allowance.
pub fn timed(
    payload: Payload,
    limits: &Limits,
    allowance: Allowance,
) -> impl Stream<Item = Result<Bytes, BodyError>> + use<> {
    let (idle, longest, least) = (limits.body_idle, limits.body_deadline, limits.min_rate);
    let deadline = Instant::now() + longest;
    stream::unfold(Some((payload, allowance, Rate::new(limits))), move |state| async move {
        let (mut payload, allowance, mut rate) = state?;
        let began = Instant::now();
        let patience = idle.min(deadline.saturating_duration_since(began));
        let next = timeout(patience, payload.next()).await;
        let result = match next {
            Ok(None) => return None,
            Ok(Some(Ok(bytes))) if !allowance.take(bytes.len()) => {
                Err(BodyError::TooMuch("The form's part headers, preamble or epilogue are too long."))
            }
            Ok(Some(Ok(bytes))) if !rate.keeps_up(bytes.len(), began.elapsed()) => Err(BodyError::BelowRate(least)),
            Ok(Some(Ok(bytes))) => Ok(bytes),
            Ok(Some(Err(error))) => Err(error.into()),
            Err(_) if patience < idle => Err(BodyError::TooSlow(longest)),
            Err(_) => Err(BodyError::Idle(idle)),
        };
        let rest = result.is_ok().then_some((payload, allowance, rate));
        Some((result, rest))
    })
}

/// A small body that has been read completely.
pub struct SmallBody {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its share of the memory budget.
    pub memory: BodyMemory,
}

/// Reads a small body. Its memory is reserved as its bytes arrive.
///
/// # Errors
/// When it exceeds [`Limits::JSON_BYTES`] or [`Limits::JSON_VALUES`], does not arrive, or there is no memory for it.
pub async fn read_small(payload: Payload, service: &Service, project: ProjectId) -> Result<SmallBody, ApiError> {
    let mut stream = std::pin::pin!(timed(payload, service.limits(), Allowance::unlimited()));
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
        let message = format!("The body has more than {} values, which is the maximum.", Limits::JSON_VALUES);
        return Err(ApiError::malformed(message));
    }
    Ok(SmallBody { bytes: body, memory })
}

/// An upper bound of how many values a JSON text has.
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
