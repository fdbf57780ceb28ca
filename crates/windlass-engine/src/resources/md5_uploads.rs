//! The Uploads whose MD5 this process is computing, and the projects that use `md5`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use windlass_types::{ProjectId, UploadId};

/// State of the MD5 computations of this process. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Md5Uploads(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Uploads with a Part in flight that continues the MD5. Other Parts received concurrently cannot continue it,
    /// because they would need the state at the end of that Part.
    in_progress: HashSet<UploadId>,
    /// Projects whose last completion was sent with an `md5`, as last reported by the ledger.
    wanted_by: HashSet<ProjectId>,
}

impl Md5Uploads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the project's last completion was sent with an `md5`, as last reported by the ledger. A Part that is
    /// stored in the ledger needs this before its only statement.
    pub(crate) fn is_wanted_by(&self, project: ProjectId) -> bool {
        self.lock().wanted_by.contains(&project)
    }

    /// Records whether the project's last completion was sent with an `md5`.
    pub(crate) fn set_wanted(&self, project: ProjectId, is_wanted: bool) {
        let wanted_by = &mut self.lock().wanted_by;
        if is_wanted {
            wanted_by.insert(project)
        } else {
            wanted_by.remove(&project)
        };
    }

    /// Claims the MD5 of an Upload for one Part. Returns false if another Part has it.
    pub(crate) fn begin(&self, upload: UploadId) -> bool {
        self.lock().in_progress.insert(upload)
    }

    /// Releases the claim.
    pub(crate) fn end(&self, upload: UploadId) {
        self.lock().in_progress.remove(&upload);
    }
}
