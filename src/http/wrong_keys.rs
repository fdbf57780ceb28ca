//! Slows down clients that send wrong keys, by the address of their connection. Behind a proxy that is the proxy's, so
//! keys that were valid within a day are not affected: those that this process has seen, and those that any process had
//! seen when this one started.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use windlass_engine::model::KeyHash;

use super::rates::Bucket;

/// The message for a client whose key is not looked up.
pub const TOO_MANY_WRONG_KEYS: &str = "Too many incorrect API keys were sent from this address. Retry later.";

/// The time over which wrong keys are counted.
const MINUTE: Duration = Duration::from_mins(1);

/// How long a key that was valid is known.
const KNOWN_FOR: Duration = Duration::from_hours(24);

/// After this time, the time at which a key was last valid is recorded again.
const RECORDED_EVERY: Duration = Duration::from_mins(1);

/// The maximum number of keys that are known.
pub const MAX_KNOWN_KEYS: u16 = 10_000;

/// The maximum number of addresses.
const MAX_ADDRESSES: usize = 10_000;

/// Wrong keys by address.
#[derive(Debug)]
pub struct WrongKeys {
    /// How many an address may send per minute; `None` is unlimited.
    per_minute: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: HashMap<IpAddr, Bucket>,
    /// Keys that were valid, and when.
    known: HashMap<KeyHash, Instant>,
}

impl WrongKeys {
    /// Permits `per_minute` wrong keys per minute and address. `known` keys were valid a short time ago.
    pub fn new(per_minute: Option<u64>, known: impl IntoIterator<Item = KeyHash>, now: Instant) -> Self {
        let known = known.into_iter().map(|key| (key, now)).collect();
        Self { per_minute, state: Mutex::new(State { known, ..State::default() }) }
    }

    /// Checks, before a key is looked up, whether its address has sent too many wrong ones. Those that are being looked up
    /// do not count yet.
    ///
    /// # Errors
    /// The time after which the address may send a key.
    pub fn check(&self, address: Option<IpAddr>, key: &KeyHash, now: Instant) -> Result<(), Duration> {
        let (Some(limit), Some(address)) = (self.per_minute, address) else { return Ok(()) };
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut bucket) = state.addresses.get(&network(address)).copied() else { return Ok(()) };
        let outcome = bucket.take_one(now, limit, MINUTE);
        let is_known = || state.known.get(key).is_some_and(|it| now.saturating_duration_since(*it) < KNOWN_FOR);
        if outcome.is_err() && is_known() { Ok(()) } else { outcome }
    }

    /// Records the outcome of a look-up.
    pub fn record(&self, address: Option<IpAddr>, key: &KeyHash, is_valid: bool, now: Instant) {
        let (Some(limit), Some(address)) = (self.per_minute, address) else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if is_valid {
            state.remember(key, now);
        } else {
            // It may have been revoked, or have expired.
            state.known.remove(key);
            state.bucket(network(address), now).take_one(now, limit, MINUTE).ok();
        }
    }
}

impl State {
    fn remember(&mut self, key: &KeyHash, now: Instant) {
        if self.known.get(key).is_some_and(|it| now.saturating_duration_since(*it) < RECORDED_EVERY) {
            return;
        }
        if self.known.len() >= usize::from(MAX_KNOWN_KEYS) {
            self.known.retain(|_, it| now.saturating_duration_since(*it) < KNOWN_FOR);
        }
        if self.known.len() < usize::from(MAX_KNOWN_KEYS) || self.known.contains_key(key) {
            self.known.insert(*key, now);
        }
    }

    /// The bucket of an address. If there are too many, any other one is dropped, which takes the same time with every
    /// number of them.
    fn bucket(&mut self, address: IpAddr, now: Instant) -> &mut Bucket {
        if self.addresses.len() >= MAX_ADDRESSES
            && !self.addresses.contains_key(&address)
            && let Some(any) = self.addresses.keys().next().copied()
        {
            self.addresses.remove(&any);
        }
        self.addresses.entry(address).or_insert_with(|| Bucket::full(now))
    }
}

/// What is counted as one address: for IPv6, the network of 64 bits that a client chooses its addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use windlass_engine::model::ApiKey;

    use super::*;

    fn key(text: &str) -> KeyHash {
        ApiKey::try_from(text.to_owned()).unwrap().hash()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_with_many_wrong_keys_has_to_wait_unless_its_key_is_known() {
        let (all, now) = (WrongKeys::new(Some(3), [key("used-lately")], Instant::now()), Instant::now());
        let [here, there] = [address("192.0.2.1"), address("192.0.2.2")].map(Some);
        all.record(here, &key("valid"), true, now);
        for wrong in ["a", "b", "c"] {
            assert_eq!(all.check(here, &key(wrong), now), Ok(()));
            all.record(here, &key(wrong), false, now);
        }
        let wait = all.check(here, &key("d"), now).unwrap_err();
        assert!(wait > Duration::from_secs(19) && wait <= Duration::from_secs(21), "{wait:?}");
        assert_eq!(all.check(here, &key("valid"), now), Ok(()));
        assert_eq!(all.check(here, &key("used-lately"), now), Ok(()));
        assert_eq!(all.check(there, &key("d"), now), Ok(()));
        all.record(here, &key("valid"), false, now);
        assert!(all.check(here, &key("valid"), now).is_err(), "a key that was revoked is a wrong one");
        assert_eq!(all.check(here, &key("d"), now + Duration::from_secs(21)), Ok(()));
        assert!(all.check(here, &key("valid"), now + KNOWN_FOR).is_ok(), "by then, the bucket is full");
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            assert_eq!(network(address(one)) == network(address(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let (all, now) = (WrongKeys::new(Some(1), [], Instant::now()), Instant::now());
        for number in 0..=u32::from(MAX_KNOWN_KEYS) {
            all.record(Some(IpAddr::from(number.to_be_bytes())), &key("x"), false, now);
            all.record(Some(address("192.0.2.1")), &key(&number.to_string()), true, now);
        }
        let state = all.state.lock().unwrap();
        assert_eq!((state.addresses.len(), state.known.len()), (MAX_ADDRESSES, usize::from(MAX_KNOWN_KEYS)));
    }

    #[test]
    fn without_a_limit_nothing_is_recorded() {
        let (all, now) = (WrongKeys::new(None, [], Instant::now()), Instant::now());
        for _ in 0..1000 {
            all.record(Some(address("192.0.2.1")), &key("x"), false, now);
            assert_eq!(all.check(Some(address("192.0.2.1")), &key("x"), now), Ok(()));
        }
    }
}
