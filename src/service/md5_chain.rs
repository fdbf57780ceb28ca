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
use crate::domain::{Md5Digest, Md5Link, Part, PartId, ProjectId, UploadId};

/// What this process knows of MD5s under way.
#[derive(Clone, Default)]
pub(super) struct Chains(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The Uploads of which it receives a Part that goes on with the MD5. Parts that come beside it
    /// cannot: they do not know what it will be.
    under_way: HashSet<UploadId>,
    /// The projects that want it, as the ledger said last.
    wanted_by: HashSet<ProjectId>,
}

impl Chains {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a project wants it, as far as is known: a Part that is written by one statement cannot ask before.
    pub(super) fn are_wanted_by(&self, project: ProjectId) -> bool {
        self.lock().wanted_by.contains(&project)
    }

    /// Keeps in mind whether a project wants it.
    pub(super) fn learn(&self, project: ProjectId, wants_md5: bool) {
        let wanted_by = &mut self.lock().wanted_by;
        if wants_md5 {
            wanted_by.insert(project)
        } else {
            wanted_by.remove(&project)
        };
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
        self.chains.lock().under_way.remove(&self.upload);
    }
}

impl Service {
    /// Goes on with the MD5 after the Part that came last, where that has one.
    pub(super) async fn continue_md5(&self, upload: UploadId) -> Result<Option<LinkUnderWay>> {
        if !self.chains.lock().under_way.insert(upload) {
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
        let links: HashMap<_, _> = self.patiently(md5_links::list(&self.db, upload)).await?.into_iter().collect();
        let before = [None].into_iter().chain(ids.iter().copied().map(Some));
        let unbroken = ids.iter().zip(before).map_while(|(id, before)| links.get(id).filter(|it| it.follows == before));
        let digests = unbroken.enumerate().filter_map(|(at, link)| Some((at + 1, Md5Digest::resume(&link.state)?)));
        Ok(digests.last().unwrap_or_default())
    }
}
