//! The MD5 of a file, computed while its Parts come one after another, so that nobody has to read
//! them again. It costs more than all the rest of receiving them: only what is stored in a project
//! whose last completion came with an `md5` has it.
//!
//! Invariant: a Part's state covers exactly the bytes of the Parts that its links lead back to, and its
//! own. Whether these are the file's beginning is decided at completion, by the client's order.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Result, Service};
use crate::db::md5_links;
use crate::domain::{Md5Digest, Md5Link, Part, PartId, UploadId};

/// The Uploads of which this process receives a Part that goes on with the MD5. Parts that come
/// beside it cannot: they do not know what it will be.
#[derive(Clone, Default)]
pub(super) struct Chains(Arc<Mutex<HashSet<UploadId>>>);

impl Chains {
    fn lock(&self) -> MutexGuard<'_, HashSet<UploadId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The MD5 under way in a Part that is being received.
pub(super) struct LinkUnderWay {
    upload: UploadId,
    chains: Chains,
    follows: Option<PartId>,
    digest: Md5Digest,
}

impl LinkUnderWay {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// What is to be written down with the Part.
    pub(super) fn link(&self) -> Md5Link {
        Md5Link { follows: self.follows, state: self.digest.state() }
    }
}

impl Drop for LinkUnderWay {
    fn drop(&mut self) {
        self.chains.lock().remove(&self.upload);
    }
}

impl Service {
    /// Goes on with the MD5 after the Part that came last, where that has one.
    pub(super) async fn continue_md5(&self, upload: UploadId) -> Result<Option<LinkUnderWay>> {
        if !self.chains.lock().insert(upload) {
            return Ok(None);
        }
        let mut link =
            LinkUnderWay { upload, chains: self.chains.clone(), follows: None, digest: Md5Digest::default() };
        if let Some((last, state)) = md5_links::find_last(&self.db, upload).await? {
            let Some(digest) = state.and_then(|it| Md5Digest::resume(&it)) else { return Ok(None) };
            (link.follows, link.digest) = (Some(last), digest);
        }
        Ok(Some(link))
    }

    /// How many of the Parts from the first one are covered, and their MD5 under way.
    pub(super) async fn covered_by_md5(&self, upload: UploadId, parts: &[Part]) -> Result<(usize, Md5Digest)> {
        let ids: Vec<_> = parts.iter().map(|part| part.id).collect();
        let links: HashMap<_, _> = self.patiently(md5_links::list(&self.db, upload, &ids)).await?.into_iter().collect();
        let before = [None].into_iter().chain(ids.iter().copied().map(Some));
        let unbroken = ids.iter().zip(before).map_while(|(id, before)| links.get(id).filter(|it| it.follows == before));
        let digests = unbroken.enumerate().filter_map(|(at, link)| Some((at + 1, Md5Digest::resume(&link.state)?)));
        Ok(digests.last().unwrap_or_default())
    }
}
