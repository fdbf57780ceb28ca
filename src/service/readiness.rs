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

    /// Probes until told to stop. The log gets a line whenever the outcome changes.
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
            // It tells as well whether the database takes writes.
            self.db.ping().await?;
            stores::find(&self.db).await
        };
        let row = timeout(PROBE_TIMEOUT, ledger).await.map_err(|_| (NotReady::Database, None))?;
        let row = row.map_err(|error| (NotReady::Database, Some(error.into())))?;
        // There is none for a moment where it is linked anew.
        let row = row.ok_or((NotReady::Database, None))?;
        match timeout(PROBE_TIMEOUT, store_link::verify(&self.blobs, row.id)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::StoreMismatch(it))) => Err((it.into(), None)),
            Ok(Err(error)) => Err((NotReady::Store, Some(error))),
            Err(_) => Err((NotReady::Store, None)),
        }
    }
}
