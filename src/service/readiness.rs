//! Whether the service can do its work: the ledger answers, and the store is the one that belongs to it.
//!
//! One task probes both every few seconds. `/readyz` and every write look at the last outcome: however many
//! requests come, with or without a key, they cost the ledger and the store nothing.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::store_link::{self, StoreMismatch};
use super::{Error, Result, Service};
use crate::db::stores;

/// How long after a probe the next one begins.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// How long the ledger, and the store, may take to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the service is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The ledger fails, or does not answer in time.
    #[error("the database cannot be used")]
    Database,
    /// The store fails, or does not answer in time.
    #[error("the store cannot be used")]
    Store,
    /// The store is not the ledger's.
    #[error(transparent)]
    StoreMismatch(#[from] StoreMismatch),
}

/// The outcome of the last probe.
#[derive(Clone)]
pub(super) struct Readiness(watch::Sender<Result<(), NotReady>>);

impl Default for Readiness {
    /// A service begins with a ledger and a store that were found to fit.
    fn default() -> Self {
        Self(watch::Sender::new(Ok(())))
    }
}

impl Service {
    /// Whether the service was ready when it was last probed, some seconds ago.
    ///
    /// # Errors
    /// [`Error::NotReady`] when it was not.
    pub fn check_ready(&self) -> Result<()> {
        Ok(self.readiness.0.borrow().clone()?)
    }

    /// Refuses a write while the store is not the ledger's.
    pub(super) fn check_store(&self) -> Result<()> {
        match &*self.readiness.0.borrow() {
            Err(NotReady::StoreMismatch(it)) => Err(it.clone().into()),
            Ok(()) | Err(NotReady::Database | NotReady::Store) => Ok(()),
        }
    }

    /// Probes until told to stop.
    pub async fn keep_probing(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let outcome = self.probe().await;
            metrics::gauge!("windlass_ready").set(u32::from(outcome.is_ok()));
            self.readiness.0.send_if_modified(|last| {
                let is_new = *last != outcome;
                *last = outcome;
                is_new
            });
            stop.run_until_cancelled(sleep(PROBE_INTERVAL)).await;
        }
    }

    async fn probe(&self) -> Result<(), NotReady> {
        let was_ready = self.readiness.0.borrow().is_ok();
        let outcome = match timeout(PROBE_TIMEOUT, stores::find(&self.db)).await {
            Ok(Ok(Some(row))) => match timeout(PROBE_TIMEOUT, store_link::verify(&self.blobs, row.id)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(Error::StoreMismatch(it))) => Err((it.into(), None)),
                Ok(Err(error)) => Err((NotReady::Store, Some(error))),
                Err(_) => Err((NotReady::Store, None)),
            },
            // Between the two statements that link it anew.
            Ok(Ok(None)) => Err((NotReady::Database, None)),
            Ok(Err(error)) => Err((NotReady::Database, Some(error.into()))),
            Err(_) => Err((NotReady::Database, None)),
        };
        outcome.map_err(|(not_ready, error)| {
            if was_ready {
                let cause = error.as_ref().map(|it| it as &dyn std::error::Error);
                tracing::error!(cause, "not ready: {not_ready}");
            }
            not_ready
        })?;
        if !was_ready {
            tracing::info!("ready again");
        }
        Ok(())
    }
}
