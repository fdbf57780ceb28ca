//! Probes whether the ledger and the store are usable and belong together, and reports how much of the process's
//! resources is in use.
//!
//! A single task probes both every few seconds. `/readyz` and writes only read the last outcome, so any number of
//! requests causes no additional probes.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use windlass_types::{ErrorChain, StoreId};

use super::background::BackgroundTask;
use crate::db::migrate::SchemaError;
use crate::db::{self, migrate, stores};
use crate::error::{Error, NotReady, Result};
use crate::maintenance::store_link;
use crate::resources::disk_space::approximate;
use crate::service::Service;

/// The pause between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// The timeout of a probe of the ledger or the store.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The background task that probes periodically. Logs each change of the outcome.
pub(super) struct Prober {
    service: Service,
    /// The identity that the ledger had when it last responded: the store is compared with it even if the ledger fails.
    expected: Option<StoreId>,
}

/// Why a probe failed, and the error, unless it was a timeout or a mismatch.
type Failure = (NotReady, Option<Error>);

impl Prober {
    pub(super) fn new(service: Service) -> Self {
        Self { service, expected: None }
    }

    /// Probes the ledger and the store at the same time, so that one that does not respond does not delay the other.
    async fn probe(&mut self) -> Vec<Failure> {
        let service = &self.service;
        let early = async {
            match self.expected {
                Some(id) => Some(service.probe_store(id).await),
                None => None,
            }
        };
        let (ledger, early) = tokio::join!(service.probe_ledger(), early);
        let store = match (&ledger, early) {
            (Ok(id), Some(outcome)) if self.expected == Some(*id) => outcome,
            // This is the first probe, or they were relinked.
            (Ok(id), _) => service.probe_store(*id).await,
            (Err(_), early) => early.unwrap_or(Ok(())),
        };
        self.expected = ledger.as_ref().ok().copied().or(self.expected);
        ledger.err().into_iter().chain(store.err()).collect()
    }
}

impl BackgroundTask for Prober {
    const NAME: &'static str = "prober";

    async fn pass(&mut self) -> bool {
        self.service.report_resources();
        let failures = self.probe().await;
        let last = self.service.readiness.replace(failures.iter().map(|it| it.0.clone()).collect());
        for (cause, error) in failures.iter().filter(|it| !last.contains(&it.0)) {
            let error = error.as_ref().map(|it| tracing::field::display(ErrorChain(it)));
            tracing::error!(reason = %cause, error, "not ready");
        }
        if failures.is_empty() && !last.is_empty() {
            tracing::info!("ready again");
        }
        failures.is_empty()
    }

    fn pause(&self) -> impl Future<Output = ()> + Send {
        sleep(PROBE_INTERVAL)
    }
}

impl Service {
    /// Sets the gauges of the connection pools and of the memory for bodies.
    fn report_resources(&self) {
        self.db.report();
        let (used, limit) = self.memory.usage();
        for (state, bytes) in [("used", used), ("limit", limit)] {
            metrics::gauge!("windlass_body_memory_bytes", "state" => state).set(approximate(bytes));
        }
    }

    /// Probes the ledger; returns the identity of its store.
    async fn probe_ledger(&self) -> Result<StoreId, Failure> {
        let ledger = async {
            // The ping also fails if the database is read-only.
            self.db.ping().await?;
            migrate::check_still_supported(&self.db).await?;
            stores::find(&self.db).await
        };
        let row = timeout(PROBE_TIMEOUT, ledger).await.map_err(|_| (NotReady::Database, None))?;
        let row = row.map_err(|error| (not_ready(&error), Some(error.into())))?;
        // The row existed at startup, and relinking replaces it in one transaction: it was deleted manually.
        row.map(|it| it.id).ok_or((NotReady::Database, None))
    }

    /// Probes whether the store can be read and has this identity.
    async fn probe_store(&self, expected: StoreId) -> Result<(), Failure> {
        match timeout(PROBE_TIMEOUT, store_link::verify(&self.blobs, expected)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::StoreMismatch(it))) => Err((it.into(), None)),
            Ok(Err(error)) => Err((NotReady::Store, Some(error))),
            Err(_) => Err((NotReady::Store, None)),
        }
    }
}

/// Which cause an error of the ledger is.
fn not_ready(error: &db::Error) -> NotReady {
    if let db::Error::Schema(SchemaError::Newer { .. }) = error { NotReady::Schema } else { NotReady::Database }
}
