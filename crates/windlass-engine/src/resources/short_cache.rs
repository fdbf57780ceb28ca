//! Cache of what was found in the ledger a few seconds ago, so that not every request queries it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an entry is valid. A revoked key may be accepted for this long.
const TTL: Duration = Duration::from_secs(4);

/// The maximum number of entries. Once it is reached, further ones are not cached until entries expire.
const MAX_ENTRIES: usize = 10_000;

/// Values by key. What was not found is not cached. Clones share the entries.
pub(crate) struct ShortCache<K, V>(Arc<Mutex<HashMap<K, Entry<V>>>>);

struct Entry<V> {
    value: V,
    /// When the query that found it was sent.
    queried_at: Instant,
}

impl<K: Eq + Hash, V: Clone> ShortCache<K, V> {
    /// The value of a key, if it is cached.
    pub(crate) fn find(&self, key: &K) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|it| it.is_fresh()).map(|it| it.value.clone())
    }

    /// Caches the result of a query that was sent at `queried_at`.
    pub(crate) fn insert(&self, key: K, value: V, queried_at: Instant) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == MAX_ENTRIES {
            entries.retain(|_, it| it.is_fresh());
        }
        if entries.len() < MAX_ENTRIES {
            entries.insert(key, Entry { value, queried_at });
        }
    }
}

impl<K, V> Clone for ShortCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Default for ShortCache<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<V> Entry<V> {
    fn is_fresh(&self) -> bool {
        self.queried_at.elapsed() < TTL
    }
}
