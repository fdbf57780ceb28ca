//! The link between the ledger and the store: both hold one identity, and neither is used without the other.
//!
//! At a start, what each holds decides:
//!
//! | the ledger | the store | then |
//! | --- | --- | --- |
//! | linked | the same identity | they belong together |
//! | linked | another identity, or none | refused: a wrong setting, or a volume that is not mounted |
//! | not linked | an identity that is not the ledger's | refused: the store is another ledger's |
//! | not linked | no identity | linked, if the objects fit: a new ledger and an empty store do, and so do those of a release that knew no identities |
//!
//! An operator links them on purpose, as after a restore, by `windlass store link`: under a new identity, so
//! that a copy of the ledger that was left behind does not fit the store any more.

use super::{Error, Result, Service};
use crate::blobs::{self, BlobKey, Blobs, Identity, IfPresent};
use crate::crash::CrashPoint;
use crate::db::{self, parts, stores};
use crate::domain::StoreId;

/// How many of the ledger's objects are looked for in the store.
const SAMPLED_PARTS: u16 = 16;

/// How many of the store's objects are looked up in the ledger.
const SAMPLED_OBJECTS: usize = 1000;

const HINT: &str = "Check DATABASE_URL, WINDLASS_DATA_DIR and WINDLASS_STORE, and that the store's volume is mounted. \
                    If the two belong together, as after a restore, link them: `windlass store link`";

/// Why the ledger and the store are not used with each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreMismatch {
    /// The store has another identity.
    #[error("the store {store} belongs to another database: it is {found}, and this database has {expected}. {HINT}")]
    Other {
        /// Where the store is.
        store: String,
        /// The store's identity.
        found: StoreId,
        /// The ledger's.
        expected: StoreId,
    },
    /// The store has lost its identity, or is not there.
    #[error("the store {store} has no identity, and this database has {expected}. {HINT}")]
    Missing {
        /// Where the store is.
        store: String,
        /// The ledger's identity.
        expected: StoreId,
    },
    /// The store has an identity, and the ledger has none.
    #[error("the store {store} belongs to another database: it is {found}, and this database has no store. {HINT}")]
    Taken {
        /// Where the store is.
        store: String,
        /// The store's identity.
        found: StoreId,
    },
    /// What the store has for an identity is something else.
    #[error("the store {store} has an object `windlass-store.json` that is no identity. {HINT}")]
    Unreadable {
        /// Where the store is.
        store: String,
    },
    /// Neither has an identity, and the store is not empty.
    #[error("the store {store} holds objects, and this database knows none of them. {HINT}")]
    UnknownObjects {
        /// Where the store is.
        store: String,
    },
    /// Neither has an identity, and the ledger names objects.
    #[error("this database names objects, and the store {store} has none of them. {HINT}")]
    MissingObjects {
        /// Where the store is.
        store: String,
    },
}

/// What the ledger and the store hold of each other.
#[derive(Debug)]
pub struct StoreLink {
    /// Where the store is.
    pub store: String,
    /// The identity in the store, if it has one that can be read.
    pub found: Option<StoreId>,
    /// The identity in the ledger, if it has one.
    pub expected: Option<StoreId>,
    /// Of how many sampled Parts of the ledger the store has how many objects.
    pub parts: Sample,
    /// Of how many sampled objects of the store the ledger knows how many.
    pub objects: Sample,
}

/// How many of a sample were found on the other side.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sample {
    /// Those that were looked for.
    pub sampled: usize,
    /// Those that were found.
    pub found: usize,
}

impl Sample {
    fn fits(self) -> bool {
        self.sampled == 0 || self.found > 0
    }
}

impl Service {
    /// Makes sure that the ledger and the store belong together; links them if neither was linked before and
    /// their objects fit. Safe in any number of processes at once, and when it is interrupted.
    ///
    /// # Errors
    /// [`Error::StoreMismatch`] when they do not belong together, or when one of the two fails.
    pub async fn link_store(&self) -> Result<()> {
        let row = stores::find(&self.db).await?;
        if let Some(row) = row.filter(|it| it.linked_at.is_some()) {
            // A copy of a store may lack the directories that were empty.
            if matches!(self.blobs.identity().await, Ok(Some(found)) if found == row.id) {
                self.blobs.prepare().await?;
            }
            return verify(&self.blobs, row.id).await;
        }
        let found = self.blobs.identity().await.map_err(|error| unreadable(&self.blobs, error))?;
        // Read after the identity: another process that links them at this moment has committed its row before.
        let row = stores::find(&self.db).await?;
        match found {
            // An earlier start may have been interrupted after the store's half of the link.
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

    /// Writes the ledger's identity into the store, and records that it is there.
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

    /// Links the ledger and the store under a new identity, whatever they held before.
    ///
    /// # Errors
    /// When one of the two fails. If it was the store, the two do not fit until this is repeated.
    pub async fn relink_store(&self) -> Result<StoreId> {
        self.blobs.prepare().await?;
        let mut tx = self.db.begin().await?;
        stores::delete(&mut tx).await?;
        stores::insert_if_none(&mut tx, StoreId::generate()).await?;
        db::commit(tx).await?;
        CrashPoint::StoreNamed.passed();
        self.finish_link(IfPresent::Replace).await
    }

    /// What the ledger and the store hold of each other; changes nothing.
    ///
    /// # Errors
    /// When one of the two fails.
    pub async fn describe_store(&self) -> Result<StoreLink> {
        let expected = stores::find(&self.db).await?.map(|it| it.id);
        let found = match self.blobs.identity().await {
            Err(blobs::Error::BadIdentity) => None,
            found => found?,
        };
        let (parts, objects) = (self.sample_parts().await?, self.sample_objects().await?);
        Ok(StoreLink { store: self.blobs.to_string(), found, expected, parts, objects })
    }

    /// Whether a ledger and a store without identities fit each other.
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

/// Whether the store is the one with this identity.
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
