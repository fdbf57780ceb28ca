//! The MD5 of a file, computed while its Parts arrive in sequence, so that completion need not read them back.
//!
//! Hashing costs more CPU time than all other work on a Part. It is therefore done only for projects whose last
//! completion was sent with an `md5`.
//!
//! Invariant: a Part's MD5 state covers exactly the bytes of the Parts that its links lead back to, and its own.
//! Whether these are the beginning of the file is decided at completion, by the order in the request.

use std::collections::HashMap;

use windlass_types::{Md5Digest, PartId, UploadId};

use crate::db::md5_states;
use crate::error::Result;
use crate::model::{Md5Link, Part};
use crate::resources::md5_uploads::Md5Uploads;
use crate::service::Service;

/// The MD5 computation of a Part that is being received. While it exists, no other Part of the Upload has one in this
/// process.
pub(crate) struct RunningMd5 {
    upload: UploadId,
    uploads: Md5Uploads,
    follows: Option<PartId>,
    digest: Md5Digest,
}

impl RunningMd5 {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The state to be stored in the Part's row.
    pub(crate) fn link(&self) -> Md5Link {
        Md5Link { follows: self.follows, state: self.digest.state() }
    }
}

impl Drop for RunningMd5 {
    fn drop(&mut self) {
        self.uploads.end(self.upload);
    }
}

impl Service {
    /// Resumes the MD5 after the Upload's latest stored Part. `None` if that Part has no valid MD5 state, or another
    /// Part of the Upload is being hashed in this process.
    pub(crate) async fn continue_md5(&self, upload: UploadId) -> Result<Option<RunningMd5>> {
        if !self.md5_uploads.begin(upload) {
            return Ok(None);
        }
        let mut md5 =
            RunningMd5 { upload, uploads: self.md5_uploads.clone(), follows: None, digest: Md5Digest::default() };
        if let Some((last, state)) = md5_states::find_last(&self.db, upload).await? {
            let Some(digest) = state.and_then(|it| Md5Digest::resume(&it)) else { return Ok(None) };
            (md5.follows, md5.digest) = (Some(last), digest);
        }
        Ok(Some(md5))
    }

    /// How many of `parts`, from the first on, are covered by an MD5 state, and the MD5 at the end of these.
    pub(crate) async fn covered_by_md5(&self, upload: UploadId, parts: &[Part]) -> Result<(usize, Md5Digest)> {
        let ids: Vec<_> = parts.iter().map(|part| part.id).collect();
        let links: HashMap<_, _> =
            self.with_db_timeout(md5_states::list(&self.db, upload)).await?.into_iter().collect();
        let before = [None].into_iter().chain(ids.iter().copied().map(Some));
        let unbroken = ids.iter().zip(before).map_while(|(id, before)| links.get(id).filter(|it| it.follows == before));
        let digests = unbroken.enumerate().filter_map(|(at, link)| Some((at + 1, Md5Digest::resume(&link.state)?)));
        Ok(digests.last().unwrap_or_default())
    }
}
