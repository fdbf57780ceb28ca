//! Keys that were found valid a moment ago, so that not every request asks the ledger for them again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::{Caller, KeyHash};

/// How long what was found holds, and with it how long a key may live on once it is revoked.
const TRUSTED_FOR: Duration = Duration::from_secs(4);

/// How many keys are kept in mind. With more, some are asked for more often.
const MOST: usize = 10_000;

/// Who was found to be asking lately. A key that is unknown or revoked is not among them.
#[derive(Clone, Default)]
pub(super) struct Callers(Arc<Mutex<HashMap<KeyHash, Found>>>);

struct Found {
    caller: Caller,
    /// Since when it may have changed.
    asked_at: Instant,
}

impl Callers {
    /// Whom the key belongs to, where that is known.
    pub(super) fn find(&self, key: &KeyHash) -> Option<Caller> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|it| it.is_fresh()).map(|it| it.caller)
    }

    /// Keeps in mind what the ledger said when it was asked at that time.
    pub(super) fn remember(&self, key: KeyHash, caller: Caller, asked_at: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == MOST {
            known.retain(|_, it| it.is_fresh());
        }
        if known.len() < MOST {
            known.insert(key, Found { caller, asked_at });
        }
    }
}

impl Found {
    fn is_fresh(&self) -> bool {
        self.asked_at.elapsed() < TRUSTED_FOR
    }
}
