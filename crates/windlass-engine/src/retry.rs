//! Retries of operations whose outcome is unknown, because the connection was lost or the ledger did not respond.
//!
//! Every operation retried here is idempotent, and a retry returns the outcome of the previous attempt: its statements
//! take the same row locks, so they wait for a commit that the database may still be processing.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};

/// The pause before the first retry. It is doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The maximum pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Evaluates and awaits `$attempt`, a future of `Result<_, Error>`, until its outcome is known or the service's retry
/// window has passed. Returns the last result. This is a macro because an `AsyncFnMut` cannot be proved `Send`.
macro_rules! retry {
    ($service:expr, $attempt:expr) => {{
        let mut retry = $service.retries();
        loop {
            match $attempt.await {
                Err(error) => {
                    if let Err(error) = retry.after(error).await {
                        break Err(error);
                    }
                }
                done => break done,
            }
        }
    }};
}
pub(crate) use retry;

/// Retry state for one operation.
pub(crate) struct Retry {
    until: Instant,
    pause: Duration,
}

impl Retry {
    /// Retries for at most `window`.
    pub(crate) fn within(window: Duration) -> Self {
        Self { until: Instant::now() + window, pause: FIRST_PAUSE }
    }

    /// Waits before the next attempt, if the error leaves the outcome unknown.
    ///
    /// # Errors
    /// Returns `error` if the outcome is known or the window has passed.
    pub(crate) async fn after(&mut self, error: Error) -> Result<()> {
        let is_unknown = matches!(&error, Error::Db(it) if it.outcome_is_unknown());
        if !is_unknown || Instant::now() + self.pause > self.until {
            return Err(error);
        }
        sleep(self.pause).await;
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
        Ok(())
    }
}
