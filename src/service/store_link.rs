//! The link between the ledger and the store: both hold the same identity, and neither is used without the other.
//!
//! The outcome at startup depends on what each of them holds:
//!
//! | ledger | store | outcome |
//! | --- | --- | --- |
//! | linked | the same identity | they belong together |
//! | linked | another identity, or none | rejected: misconfiguration, or a volume that is not mounted |
//! | not linked | an identity that is not the ledger's | rejected: the store belongs to another ledger |
//! | not linked | no identity | linked, if their objects match |
//!
//! Objects match for a new ledger and an empty store, and for a ledger and its store from a release without identities.
//!
//! An operator can link them explicitly with `windlass store link`, for example after a restore. That generates a new
//! identity, so that an old copy of the ledger no longer matches the store.

use super::{Error, Result, Service};
use crate::blobs::{self, BlobKey, Blobs, Identity, IfPresent};
use crate::crash::CrashPoint;
use crate::db::{self, parts, stores};
use crate::domain::StoreId;

/// How many of the ledger's objects are looked up in the store.
const SAMPLED_PARTS: u16 = 16;

/// How many of the store's objects are looked up in the ledger.
const SAMPLED_OBJECTS: usize = 1000;

const HINT: &str = "Check DATABASE_URL, WINDLASS_DATA_DIR and WINDLASS_STORE, and that the store's volume is mounted. \
                    If the two belong together, as after a restore, link them: `windlass store link`";

/// Why the ledger and the store cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreMismatch {
    /// The store has a different identity.
    #[error("the store {store} belongs to another database: it is {found}, and this database has {expected}. {HINT}")]
    Other {
        /// Location of the store.
        store: String,
        /// The store's identity.
        found: StoreId,
        /// The ledger's identity.
        expected: StoreId,
    },
    /// The store's identity is missing, or the store itself is.
    #[error("the store {store} has no identity, and this database has {expected}. {HINT}")]
    Missing {
        /// Location of the store.
        store: String,
        /// The ledger's identity.
        expected: StoreId,
    },
    /// The store has an identity, but the ledger has none.
    #[error("the store {store} belongs to another database: it is {found}, and this database has no store. {HINT}")]
    Taken {
        /// Location of the store.
        store: String,
        /// The store's identity.
        found: StoreId,
    },
    /// The store's identity object cannot be parsed.
    #[error("the store {store} has an object `windlass-store.json` that is no identity. {HINT}")]
    Unreadable {
        /// Location of the store.
        store: String,
    },
    /// Neither has an identity, the ledger has no objects, and none of the store's sampled objects are in the ledger.
    #[error("the store {store} holds objects, and this database knows none of them. {HINT}")]
    UnknownObjects {
        /// Location of the store.
        store: String,
    },
    /// Neither has an identity, and none of the ledger's sampled objects are in the store.
    #[error("this database names objects, and the store {store} has none of them. {HINT}")]
    MissingObjects {
        /// Location of the store.
        store: String,
    },
}

/// The state of the link between the ledger and the store.
#[derive(Debug)]
pub struct StoreLink {
    /// Location of the store.
    pub store: String,
    /// The identity in the store, if there is a valid one.
    pub found: Option<StoreId>,
    /// The identity in the ledger, if there is one.
    pub expected: Option<StoreId>,
    /// How many Parts of the ledger were sampled, and how many of those have an object in the store.
    pub parts: Sample,
    /// How many objects of the store were sampled, and how many of those are in the ledger.
    pub objects: Sample,
}

/// The size of a sample, and how much of it was found on the other side.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sample {
    /// Number of items looked up.
    pub sampled: usize,
    /// Number of items found.
    pub found: usize,
}

impl Sample {
    fn fits(self) -> bool {
        self.sampled == 0 || self.found > 0
    }
}

impl Service {
    /// Verifies that the ledger and the store belong together; links them if neither was linked before and their
    /// objects match. Safe to interrupt, and to run in any number of processes at once.
    ///
    /// # Errors
    /// [`Error::StoreMismatch`] when they do not belong together; other errors when either of them fails.
    pub async fn link_store(&self) -> Result<()> {
        let row = stores::find(&self.db).await?;
        if let Some(row) = row.filter(|it| it.linked_at.is_some()) {
            // A copy of a store may lack directories that were empty.
            if matches!(self.blobs.identity().await, Ok(Some(found)) if found == row.id) {
                self.blobs.prepare().await?;
            }
            return verify(&self.blobs, row.id).await;
        }
        let found = self.blobs.identity().await.map_err(|error| unreadable(&self.blobs, error))?;
        // Read after the identity: a process that links them concurrently commits its row before writing the identity.
        let row = stores::find(&self.db).await?;
        match found {
            // An earlier startup may have been interrupted after writing the identity to the store.
            Some(found) if row.is_some_and(|it| it.id == found) => {}
            Some(found) => {
                let store = self.blobs.to_string();
                let mismatch = match row {
                    Some(row) => StoreMismatch::Other { store, found, expected: row.id },
                    None => StoreMismatch::Taken { store, found },
                };
                return Err(mismatch.into());
            }
            None => {
                self.check_objects().await?;
                self.blobs.prepare().await?;
                stores::insert_if_none(&self.db, StoreId::generate()).await?;
                CrashPoint::StoreNamed.passed();
            }
        }
        self.finish_link(IfPresent::Keep).await.map(drop)
    }

    /// Writes the ledger's identity to the store, and records that it is there.
    async fn finish_link(&self, if_present: IfPresent) -> Result<StoreId> {
        let row = stores::find(&self.db).await?.ok_or(Error::Interrupted)?;
        self.blobs.write_identity(row.id, if_present).await?;
        CrashPoint::StoreIdentityWritten.passed();
        verify(&self.blobs, row.id).await?;
        stores::mark_linked(&self.db, row.id).await?;
        CrashPoint::StoreLinked.passed();
        tracing::info!(store = %self.blobs, store.id = %row.id, "the database and the store are linked");
        Ok(row.id)
    }

    /// Links the ledger and the store under a new identity, regardless of their previous ones.
    ///
    /// # Errors
    /// When either of them fails. If it was the store, the two do not match until this is repeated.
    pub async fn relink_store(&self) -> Result<StoreId> {
        self.blobs.prepare().await?;
        let mut tx = self.db.begin().await?;
        stores::delete(&mut tx).await?;
        stores::insert_if_none(&mut tx, StoreId::generate()).await?;
        db::commit(tx).await?;
        CrashPoint::StoreNamed.passed();
        self.finish_link(IfPresent::Replace).await
    }

    /// Describes the link between the ledger and the store, without changing anything.
    ///
    /// # Errors
    /// When either of them fails.
    pub async fn describe_store(&self) -> Result<StoreLink> {
        let expected = stores::find(&self.db).await?.map(|it| it.id);
        let found = match self.blobs.identity().await {
            Err(blobs::Error::BadIdentity) => None,
            found => found?,
        };
        let (parts, objects) = (self.sample_parts().await?, self.sample_objects().await?);
        Ok(StoreLink { store: self.blobs.to_string(), found, expected, parts, objects })
    }

    /// Checks that the objects of a ledger and a store without identities match.
    async fn check_objects(&self) -> Result<()> {
        let store = self.blobs.to_string();
        let parts = self.sample_parts().await?;
        if !parts.fits() {
            return Err(StoreMismatch::MissingObjects { store }.into());
        }
        if parts.sampled == 0 && !self.sample_objects().await?.fits() {
            return Err(StoreMismatch::UnknownObjects { store }.into());
        }
        Ok(())
    }

    async fn sample_parts(&self) -> Result<Sample> {
        let mut sample = Sample::default();
        for part in parts::sample_objects(&self.db, SAMPLED_PARTS).await? {
            sample.sampled += 1;
            sample.found += usize::from(self.blobs.has(BlobKey::from(part)).await?);
        }
        Ok(sample)
    }

    async fn sample_objects(&self) -> Result<Sample> {
        let mut listing = self.blobs.list();
        let mut sampled = Vec::new();
        while sampled.len() < SAMPLED_OBJECTS
            && let Some(object) = listing.recv().await.transpose()?
        {
            sampled.extend(object.key.map(BlobKey::part));
        }
        let found = parts::list_known(&self.db, &sampled).await?.len();
        Ok(Sample { sampled: sampled.len(), found })
    }
}

/// Checks that the store has the expected identity.
pub(super) async fn verify(blobs: &Blobs, expected: StoreId) -> Result<()> {
    let store = || blobs.to_string();
    match blobs.verify(expected).await.map_err(|error| unreadable(blobs, error))? {
        Identity::Expected => Ok(()),
        Identity::Other(found) => Err(StoreMismatch::Other { store: store(), found, expected }.into()),
        Identity::Missing => Err(StoreMismatch::Missing { store: store(), expected }.into()),
    }
}

fn unreadable(blobs: &Blobs, error: blobs::Error) -> Error {
    if matches!(error, blobs::Error::BadIdentity) {
        return StoreMismatch::Unreadable { store: blobs.to_string() }.into();
    }
    error.into()
}
