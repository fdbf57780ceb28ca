//! Rates of keys: requests and bytes per second, each a token bucket that holds one second's worth. The buckets are in
//! memory, so that each process has its own (docs/quotas.md).
//!
//! A request takes a token before it is handled. Bytes are taken as they are transferred, also more than are left: the
//! key's next requests are then rejected until the bucket is no longer in debt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpRequest};
use windlass_engine::model::KeyRates;
use windlass_types::KeyId;

use super::access_log::{BytesIn, BytesOut};
use super::error::ApiError;

const RATE_EXCEEDED: &str = "Rate limit reached for this API key. The headers x-ratelimit-* show the limits; `windlass \
    keys set`, run on the server, changes them.";

/// With more keys than this, the buckets of keys that have used nothing lately are dropped.
const FEW_KEYS: usize = 10_000;

/// The longest time for which a key is in debt.
const LONGEST_DEBT: Duration = Duration::from_mins(15);

const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const BYTES: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-bytes"),
    HeaderName::from_static("x-ratelimit-remaining-bytes"),
    HeaderName::from_static("x-ratelimit-reset-bytes"),
];

/// A token bucket, represented by the time at which it is full.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    pub(super) fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// How long it takes until it is full.
    fn missing(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now)
    }

    /// The tokens in it, of `capacity`; negative if it is in debt. It is filled within `period`.
    #[expect(clippy::cast_precision_loss, reason = "a limit above 2^53 need not be exact")]
    fn tokens(&self, now: Instant, capacity: u64, period: Duration) -> f64 {
        let missing = self.missing(now).as_secs_f64() / period.as_secs_f64();
        capacity as f64 * (1.0 - missing)
    }

    #[expect(clippy::cast_precision_loss, reason = "a limit above 2^53 need not be exact")]
    fn take(&mut self, now: Instant, tokens: u64, capacity: u64, period: Duration) {
        let seconds = period.as_secs_f64() * tokens as f64 / capacity as f64;
        let more = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_DEBT);
        let debt = self.missing(now).saturating_add(more).min(period + LONGEST_DEBT);
        self.full_at = now.checked_add(debt).unwrap_or(now);
    }

    /// Takes a token. If there is none, returns the time until there is one.
    pub(super) fn take_one(&mut self, now: Instant, capacity: u64, period: Duration) -> Result<(), Duration> {
        let before = *self;
        self.take(now, 1, capacity, period);
        let over = self.missing(now).saturating_sub(period);
        // Tolerates rounding: a bucket may be emptied completely.
        if over <= Duration::from_micros(1) {
            return Ok(());
        }
        *self = before;
        Err(over)
    }
}

/// The buckets of a key are filled within this time.
const SECOND: Duration = Duration::from_secs(1);

/// The buckets of a key.
#[derive(Debug)]
struct Buckets {
    requests: Bucket,
    bytes: Bucket,
}

impl Buckets {
    fn is_full(&self, now: Instant) -> bool {
        self.requests.missing(now).is_zero() && self.bytes.missing(now).is_zero()
    }
}

/// The rates in force for a key, per second; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests.
    pub requests: Option<u64>,
    /// Bytes of bodies, in both directions.
    pub bytes: Option<u64>,
}

/// The buckets of all keys.
#[derive(Debug)]
pub struct Rates {
    defaults: RateLimits,
    keys: Mutex<Keys>,
}

#[derive(Debug)]
struct Keys {
    buckets: HashMap<KeyId, Arc<Mutex<Buckets>>>,
    /// With this number of keys, full buckets are dropped: at least twice the number that was left the last time, so that
    /// a request takes constant time on average.
    dropped_at: usize,
}

/// The buckets of a request's key, for its response. An extension of the request.
#[derive(Debug, Clone)]
struct Admission {
    limits: RateLimits,
    buckets: Arc<Mutex<Buckets>>,
}

/// Takes bytes that a request transfers from its key's bucket.
#[derive(Debug)]
pub struct Meter {
    bytes_per_second: u64,
    buckets: Arc<Mutex<Buckets>>,
}

impl Meter {
    /// Takes bytes that were transferred.
    pub fn take(&self, bytes: u64) {
        locked(&self.buckets).bytes.take(Instant::now(), bytes, self.bytes_per_second, SECOND);
    }
}

fn locked<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rates {
    /// Full buckets. Keys without rates of their own have the default ones.
    pub fn new(defaults: RateLimits) -> Self {
        Self { defaults, keys: Mutex::new(Keys { buckets: HashMap::new(), dropped_at: FEW_KEYS }) }
    }

    /// Takes a request of a key from its buckets.
    fn admit(&self, key: KeyId, rates: KeyRates, now: Instant) -> (Option<Admission>, Result<(), Duration>) {
        let limits = RateLimits {
            requests: rates.requests.or(self.defaults.requests),
            bytes: rates.bytes.or(self.defaults.bytes),
        };
        if limits == RateLimits::default() {
            return (None, Ok(()));
        }
        let buckets = self.buckets(key, now);
        let outcome = {
            let mut buckets = locked(&buckets);
            let debt = limits.bytes.map_or(Duration::ZERO, |_| buckets.bytes.missing(now).saturating_sub(SECOND));
            match limits.requests {
                _ if !debt.is_zero() => Err(debt),
                Some(limit) => buckets.requests.take_one(now, limit, SECOND),
                None => Ok(()),
            }
        };
        (Some(Admission { limits, buckets }), outcome)
    }

    fn buckets(&self, key: KeyId, now: Instant) -> Arc<Mutex<Buckets>> {
        let mut keys = locked(&self.keys);
        if keys.buckets.len() >= keys.dropped_at && !keys.buckets.contains_key(&key) {
            keys.buckets.retain(|_, it| !locked(it).is_full(now));
            keys.dropped_at = FEW_KEYS.max(2 * keys.buckets.len());
        }
        let new = || Arc::new(Mutex::new(Buckets { requests: Bucket::full(now), bytes: Bucket::full(now) }));
        Arc::clone(keys.buckets.entry(key).or_insert_with(new))
    }
}

impl Admission {
    /// The headers, in the form of OpenAI's.
    fn write(&self, headers: &mut HeaderMap, now: Instant) {
        let buckets = locked(&self.buckets);
        for (names, limit, bucket) in
            [(REQUESTS, self.limits.requests, buckets.requests), (BYTES, self.limits.bytes, buckets.bytes)]
        {
            let Some(limit) = limit else { continue };
            let [name, remaining, reset] = names;
            headers.insert(name, limit.into());
            headers.insert(remaining, whole_tokens(bucket.tokens(now, limit, SECOND)).into());
            if let Ok(time) = HeaderValue::from_str(&reset_time(bucket.missing(now))) {
                headers.insert(reset, time);
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
fn whole_tokens(tokens: f64) -> u64 {
    // Tolerates rounding: 2.9999999 are three.
    (tokens + 1e-6).max(0.0) as u64
}

/// A duration as OpenAI writes it: `17ms`, `1s`, `6m0s`.
fn reset_time(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    match (ms / 60_000, ms % 60_000) {
        (0, 0) => "0s".to_owned(),
        (0, ms) if ms < 1000 => format!("{ms}ms"),
        (0, ms) => format!("{}s", ms.div_ceil(1000)),
        (minutes, ms) => format!("{minutes}m{}s", ms / 1000),
    }
}

/// Counts a request for the rates of its key.
///
/// # Errors
/// 429 if the key has sent too many requests, or its requests have transferred too many bytes.
pub fn admit(request: &HttpRequest, key: KeyId, rates: KeyRates) -> Result<(), ApiError> {
    let Some(all) = request.app_data::<Data<Rates>>() else { return Ok(()) };
    let (admission, outcome) = all.admit(key, rates, Instant::now());
    if let Some(admission) = admission {
        if let Some(bytes_per_second) = admission.limits.bytes {
            let meter = || Meter { bytes_per_second, buckets: Arc::clone(&admission.buckets) };
            let extensions = request.extensions();
            let counters = [
                extensions.get::<BytesIn>().map(|it| it.0.clone()),
                extensions.get::<BytesOut>().map(|it| it.0.clone()),
            ];
            counters.into_iter().flatten().for_each(|it| it.set_meter(meter()));
        }
        request.extensions_mut().insert(admission);
    }
    outcome.map_err(|wait| ApiError::rate_limited(wait, RATE_EXCEEDED))
}

/// Middleware that adds the headers with the rates of the request's key.
///
/// # Errors
/// Those of the handlers.
pub async fn report<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let mut response = next.call(request).await?;
    let admission = response.request().extensions().get::<Admission>().cloned();
    if let Some(admission) = admission {
        admission.write(response.headers_mut(), Instant::now());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use windlass_engine::model::LimitSetting;

    use super::*;

    fn rates(requests: u64, bytes: u64) -> KeyRates {
        KeyRates { requests: LimitSetting::Most(requests), bytes: LimitSetting::Most(bytes) }
    }

    fn at(now: Instant, ms: u64) -> Instant {
        now + Duration::from_millis(ms)
    }

    #[test]
    fn a_second_has_as_many_requests_as_the_limit() {
        let (all, key, now) = (Rates::new(RateLimits::default()), KeyId::generate(), Instant::now());
        let admit = |ms| all.admit(key, rates(4, 1000), at(now, ms)).1;
        for _ in 0..4 {
            assert_eq!(admit(0), Ok(()));
        }
        let wait = admit(0).unwrap_err();
        assert!(wait > Duration::from_millis(249) && wait < Duration::from_millis(251), "{wait:?}");
        assert!(admit(249).is_err(), "a refused request takes nothing");
        assert_eq!(admit(251), Ok(()));
        assert!(admit(252).is_err());
        assert_eq!((0..9).filter(|_| admit(9000).is_ok()).count(), 4, "a pause saves up one second's worth");
    }

    #[test]
    fn bytes_may_exceed_the_bucket_and_are_paid_back() {
        let (all, key, now) = (Rates::new(RateLimits::default()), KeyId::generate(), Instant::now());
        let admit = |ms| all.admit(key, rates(1000, 1000), at(now, ms));
        let (admission, admitted) = admit(0);
        assert_eq!(admitted, Ok(()));
        let buckets = admission.unwrap().buckets;
        locked(&buckets).bytes.take(now, 5000, 1000, SECOND);
        assert_eq!(admit(0).1, Err(Duration::from_secs(4)));
        assert_eq!(admit(1000).1, Err(Duration::from_secs(3)));
        assert_eq!(admit(4000).1, Ok(()));
    }

    #[test]
    fn keys_do_not_share_buckets_and_an_unlimited_key_has_none() {
        let (all, now) = (Rates::new(RateLimits { requests: Some(1), bytes: None }), Instant::now());
        let keys = [KeyId::generate(), KeyId::generate()];
        for key in keys {
            assert_eq!(all.admit(key, KeyRates::default(), now).1, Ok(()));
            assert!(all.admit(key, KeyRates::default(), now).1.is_err());
        }
        let unlimited = KeyRates { requests: LimitSetting::Unlimited, ..KeyRates::default() };
        assert!(all.admit(keys[0], unlimited, now).0.is_none());
    }

    #[test]
    fn the_number_of_buckets_is_bounded_by_dropping_full_ones() {
        let (all, now) = (Rates::new(RateLimits { requests: Some(1), bytes: None }), Instant::now());
        for _ in 0..FEW_KEYS {
            all.admit(KeyId::generate(), KeyRates::default(), now).1.unwrap();
        }
        all.admit(KeyId::generate(), KeyRates::default(), at(now, 2000)).1.unwrap();
        assert_eq!(locked(&all.keys).buckets.len(), 1);
    }

    #[test]
    fn headers_are_in_the_form_of_openai() {
        let (all, key, now) = (Rates::new(RateLimits::default()), KeyId::generate(), Instant::now());
        let (admission, _) = all.admit(key, rates(10, 1 << 20), now);
        let mut headers = HeaderMap::new();
        admission.unwrap().write(&mut headers, now);
        let header = |name: &str| headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(header("x-ratelimit-limit-requests"), "10");
        assert_eq!(header("x-ratelimit-remaining-requests"), "9");
        assert_eq!(header("x-ratelimit-reset-requests"), "100ms");
        assert_eq!(header("x-ratelimit-remaining-bytes"), "1048576");
        assert_eq!(header("x-ratelimit-reset-bytes"), "0s");
        for (ms, text) in [(1, "1ms"), (999, "999ms"), (1000, "1s"), (1001, "2s"), (60_000, "1m0s"), (366_000, "6m6s")]
        {
            assert_eq!(reset_time(Duration::from_millis(ms)), text);
        }
    }
}
