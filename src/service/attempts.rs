//! Doing something again where the ledger's answer was lost: whether it was done is found out, not
//! guessed.
//!
//! Whatever is attempted here may be done twice without harm, and its second time tells what became
//! of the first: its statements take the same row locks, so they wait for a commit that the database
//! may still be at.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Error, Result, Service};
use crate::db;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A row of attempts at one thing.
pub(super) struct Attempts {
    until: Instant,
    pause: Duration,
}

impl Service {
    /// Begins one. It ends before whoever asked is told that the ledger is away.
    pub(super) fn attempts(&self) -> Attempts {
        Attempts { until: Instant::now() + self.limits.ledger_patience / 2, pause: Duration::from_millis(50) }
    }

    /// Waits for the ledger, but not for ever: one that is silent is as good as away.
    pub(super) async fn patiently<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T>
    where
        Error: From<E>,
    {
        timeout(self.limits.ledger_patience, work).await.map_err(|_| db::Error::Silent)?.map_err(Error::from)
    }
}

impl Attempts {
    /// Makes a pause before the next attempt.
    ///
    /// # Errors
    /// The error of the last attempt, where another one would not help or comes too late.
    pub(super) async fn after(&mut self, error: Error) -> Result<()> {
        let leaves_it_open = matches!(&error, Error::Db(it) if it.leaves_it_open());
        if !leaves_it_open || Instant::now() + self.pause > self.until {
            return Err(error);
        }
        sleep(self.pause).await;
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
        Ok(())
    }
}
