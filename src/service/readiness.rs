//! Readiness: whether the ledger is usable, and the store is usable and belongs to it.
//!
//! A single task probes both every few seconds. `/readyz` and every write only check the last outcome, so however many
//! requests arrive, with or without a key, these checks cost the ledger and the store nothing.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::store_link::{self, StoreMismatch};
use super::{Error, Result, Service};
use crate::db::stores;

/// Pause between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// Timeout of a probe, for the ledger and the store each.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the service is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The ledger failed or timed out.
    #[error("the database cannot be used")]
    Database,
    /// The store failed or timed out.
    #[error("the store cannot be used")]
    Store,
    /// The store does not belong to the ledger.
    #[error(transparent)]
    StoreMismatch(#[from] StoreMismatch),
}

/// The outcome of the last probe.
#[derive(Clone)]
pub(super) struct Readiness(watch::Sender<Result<(), NotReady>>);

impl Default for Readiness {
    /// Ready: the ledger and the store are verified before the service starts.
    fn default() -> Self {
        Self(watch::Sender::new(Ok(())))
    }
}

impl Service {
    /// Checks whether the service was ready when it was last probed, a few seconds ago.
    ///
    /// # Errors
    /// [`Error::NotReady`] when it was not.
    pub fn check_ready(&self) -> Result<()> {
        Ok(self.readiness.0.borrow().clone()?)
    }

    /// Rejects a write while the store does not belong to the ledger.
    pub(super) fn check_store(&self) -> Result<()> {
        match &*self.readiness.0.borrow() {
            Err(NotReady::StoreMismatch(it)) => Err(it.clone().into()),
            Ok(()) | Err(NotReady::Database | NotReady::Store) => Ok(()),
        }
    }

    /// Probes until `stop` is cancelled. Logs each change of the outcome.
    pub async fn keep_probing(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let outcome = self.probe().await;
            metrics::gauge!("windlass_ready").set(u32::from(outcome.is_ok()));
            let (now, error) = outcome.map_or_else(|(it, error)| (Err(it), error), |()| (Ok(()), None));
            let last = self.readiness.0.send_replace(now.clone());
            match now {
                Ok(()) if last.is_err() => tracing::info!("ready again"),
                Err(not_ready) if last.as_ref() != Err(&not_ready) => {
                    let cause = error.as_ref().map(|it| it as &dyn std::error::Error);
                    tracing::error!(cause, "not ready: {not_ready}");
                }
                Ok(()) | Err(_) => {}
            }
            stop.run_until_cancelled(sleep(PROBE_INTERVAL)).await;
        }
    }

    async fn probe(&self) -> Result<(), (NotReady, Option<Error>)> {
        let ledger = async {
            // Also fails if the database is read-only.
            self.db.ping().await?;
            stores::find(&self.db).await
        };
        let row = timeout(PROBE_TIMEOUT, ledger).await.map_err(|_| (NotReady::Database, None))?;
        let row = row.map_err(|error| (NotReady::Database, Some(error.into())))?;
        // There may be no row for a moment while the store is relinked.
        let row = row.ok_or((NotReady::Database, None))?;
        match timeout(PROBE_TIMEOUT, store_link::verify(&self.blobs, row.id)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::StoreMismatch(it))) => Err((it.into(), None)),
            Ok(Err(error)) => Err((NotReady::Store, Some(error))),
            Err(_) => Err((NotReady::Store, None)),
        }
    }
}
