//! The link between the ledger and the store: both hold the same identity, and they are used only with each other.
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

use windlass_types::StoreId;

use crate::db::{self, parts, stores};
use crate::error::{Error, Result, StoreMismatch};
use crate::failpoints::CrashPoint;
use crate::service::Service;
use crate::store::{self, BlobStore, Identity, IfPresent, ObjectKey};

/// The maximum number of the ledger's objects that are looked up in the store.
const SAMPLED_PARTS: u16 = 16;

/// The maximum number of the store's objects that are looked up in the ledger.
const SAMPLED_OBJECTS: usize = 1000;

/// The state of the link between the ledger and the store.
#[derive(Debug)]
pub struct StoreLink {
    /// The location of the store.
    pub store: String,
    /// The identity in the store, if there is a valid one.
    pub found: Option<StoreId>,
    /// The identity in the ledger, if there is one.
    pub expected: Option<StoreId>,
    /// Parts in the ledger that were sampled, and those of them that have an object in the store.
    pub parts: Sample,
    /// Objects in the store that were sampled, and those of them that have a row in the ledger.
    pub objects: Sample,
}

/// The size of a sample, and how much of it was found on the other side.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sample {
    /// The number of items that were looked up.
    pub sampled: usize,
    /// The number of items that were found.
    pub found: usize,
}

impl Sample {
    /// Whether the sample is consistent with a link: it is empty, or at least one item was found.
    fn fits(self) -> bool {
        self.sampled == 0 || self.found > 0
    }
}

impl Service {
    /// Verifies that the ledger and the store belong together; links them if neither was linked before and their
    /// objects match. Safe to interrupt, and to run in any number of processes at once.
    ///
    /// # Errors
    /// [`Error::StoreMismatch`] if they do not belong together; other errors if either of them fails.
    pub async fn verify_or_link_store(&self) -> Result<()> {
        let row = stores::find(&self.db).await?;
        if let Some(row) = row.filter(|it| it.linked_at.is_some()) {
            // A copy of a store may lack directories that were empty.
            if matches!(self.blobs.identity().await, Ok(Some(found)) if found == row.id) {
                self.prepare_store().await?;
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
                self.prepare_store().await?;
                stores::insert_if_none(&self.db, StoreId::generate()).await?;
                CrashPoint::StoreNamed.passed();
            }
        }
        self.finish_link(IfPresent::Keep).await.map(drop)
    }

    /// Writes, reads and deletes a small object, to find out at startup what is wrong with the store. A full disk is
    /// only logged, since files can still be read and deleted.
    ///
    /// # Errors
    /// When an object cannot be written or read; the error describes what to change.
    pub async fn try_out_store(&self) -> Result<()> {
        match self.blobs.try_out().await {
            Err(error) if error.is_disk_full() => {
                tracing::warn!(store = %self.blobs, "the store's disk is full");
                Ok(())
            }
            tried => Ok(tried?),
        }
    }

    async fn prepare_store(&self) -> Result<()> {
        Ok(self.blobs.prepare().await.map_err(|it| self.blobs.explained(it))?)
    }

    /// Writes the ledger's identity to the store, and then marks the ledger as linked.
    async fn finish_link(&self, if_present: IfPresent) -> Result<StoreId> {
        let row = stores::find(&self.db).await?.ok_or(Error::Bug("the row of the store is missing"))?;
        self.blobs.write_identity(row.id, if_present).await.map_err(|it| self.blobs.explained(it))?;
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
    /// When either of them fails. If the store fails, the two do not match until this is repeated.
    pub async fn relink_store(&self) -> Result<StoreId> {
        self.prepare_store().await?;
        let mut tx = self.db.begin().await?;
        stores::delete(&mut tx).await?;
        stores::insert_if_none(&mut tx, StoreId::generate()).await?;
        db::commit(tx).await?;
        CrashPoint::StoreNamed.passed();
        self.finish_link(IfPresent::Replace).await
    }

    /// Describes the link between the ledger and the store. Changes nothing.
    ///
    /// # Errors
    /// When either of them fails.
    pub async fn describe_store(&self) -> Result<StoreLink> {
        let expected = stores::find(&self.db).await?.map(|it| it.id);
        let found = match self.blobs.identity().await {
            Err(store::Error::BadIdentity) => None,
            found => found.map_err(|error| unreadable(&self.blobs, error))?,
        };
        let (parts, objects) = (self.sample_parts().await?, self.sample_objects().await?);
        Ok(StoreLink { store: self.blobs.to_string(), found, expected, parts, objects })
    }

    /// Checks that the objects of the ledger and the store match, before they are linked for the first time.
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
            sample.found += usize::from(self.blobs.has(ObjectKey::from(part)).await?);
        }
        Ok(sample)
    }

    async fn sample_objects(&self) -> Result<Sample> {
        let mut listing = self.blobs.list();
        let mut sampled = Vec::new();
        while sampled.len() < SAMPLED_OBJECTS
            && let Some(object) = listing.recv().await.transpose()?
        {
            sampled.extend(object.key.map(ObjectKey::part));
        }
        let found = parts::list_known(&self.db, &sampled).await?.len();
        Ok(Sample { sampled: sampled.len(), found })
    }
}

/// Checks that the store has the expected identity.
///
/// # Errors
/// [`Error::StoreMismatch`] if it does not, or when the store fails.
pub(crate) async fn verify(blobs: &BlobStore, expected: StoreId) -> Result<()> {
    let store = || blobs.to_string();
    match blobs.verify(expected).await.map_err(|error| unreadable(blobs, error))? {
        Identity::Expected => Ok(()),
        Identity::Other(found) => Err(StoreMismatch::Other { store: store(), found, expected }.into()),
        Identity::Missing => Err(StoreMismatch::Missing { store: store(), expected }.into()),
    }
}

fn unreadable(blobs: &BlobStore, error: store::Error) -> Error {
    if matches!(error, store::Error::BadIdentity) {
        return StoreMismatch::Unreadable { store: blobs.to_string() }.into();
    }
    blobs.explained(error).into()
}
