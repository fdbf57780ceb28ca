//! The sequence of Parts to be read. Those of a File are loaded in batches, so that a reader's memory is bounded,
//! however many Parts there are and however slow it is.

use std::collections::VecDeque;
use std::ops::Range;

use windlass_types::{ErrorChain, FileId};

use crate::db::parts;
use crate::error::{Error, Result};
use crate::model::Part;
use crate::retry::retry;
use crate::service::Service;
use crate::store::CHUNK_KIB;

/// The maximum number of Parts in the ledger that are read together.
const CONTENTS_AT_ONCE: usize = 16;

/// Their maximum size in bytes: half of a reader's memory, since the previous bytes may not have been sent yet.
const CONTENTS_BYTES: u64 = CHUNK_KIB as u64 * 512;

/// The maximum number of Parts of a File that are loaded together.
const PARTS_AT_ONCE: u16 = 500;

/// The Parts to be read, each with a range, in order.
pub(crate) struct ManifestReader {
    batch: VecDeque<(Part, Range<u64>)>,
    /// For a File, the rest that has not been loaded yet.
    rest: Option<Rest>,
}

/// The range of a File whose Parts have not been loaded yet.
struct Rest {
    file: FileId,
    left: Range<u64>,
}

impl ManifestReader {
    /// A range of a File. Loads the first batch.
    ///
    /// # Errors
    /// When the ledger fails, or [`Error::NoSuchFile`] if the File's Parts have been deleted.
    pub(crate) async fn of_file(service: &Service, file: FileId, left: Range<u64>) -> Result<Self> {
        let mut manifest = Self { batch: VecDeque::new(), rest: Some(Rest { file, left }) };
        manifest.load_batch(service).await?;
        Ok(manifest)
    }

    /// The given Parts as a whole.
    pub(crate) fn of_parts(parts: &[Part]) -> Self {
        Self { batch: parts.iter().map(|part| (*part, 0..part.bytes.get())).collect(), rest: None }
    }

    /// Whether any of the Parts may be in the ledger.
    pub(crate) fn may_be_in_ledger(&self) -> bool {
        self.batch.iter().any(|(part, _)| part.in_ledger) || self.rest.as_ref().is_some_and(|it| !it.left.is_empty())
    }

    /// The next Parts to be read together: one that is an object, or several that are in the ledger. `None` at the end,
    /// or if the next batch cannot be loaded, which is logged.
    pub(crate) async fn next(&mut self, service: &Service) -> Option<Vec<(Part, Range<u64>)>> {
        if self.batch.is_empty()
            && let Err(error) = self.load_batch(service).await
        {
            // The client detects this by the announced length of the response.
            tracing::error!(error = %ErrorChain(&error), "download aborted: its parts cannot be loaded");
            return None;
        }
        let first = self.batch.pop_front()?;
        let mut bytes = first.0.bytes.get();
        let mut group = vec![first];
        while group[0].0.in_ledger
            && group.len() < CONTENTS_AT_ONCE
            && let Some(next) = self.batch.pop_front_if(|(part, _)| {
                bytes += part.bytes.get();
                part.in_ledger && bytes <= CONTENTS_BYTES
            })
        {
            group.push(next);
        }
        Some(group)
    }

    /// Loads the next batch of a File's Parts, if any are left.
    async fn load_batch(&mut self, service: &Service) -> Result<()> {
        let Some(Rest { file, left }) = &mut self.rest else { return Ok(()) };
        if left.is_empty() {
            return Ok(());
        }
        let (start, end) = (left.start, left.end);
        let find = || service.with_db_timeout(parts::list_covering(&service.db, *file, start, end, PARTS_AT_ONCE));
        let entries = retry!(service, find())?;
        for it in entries {
            let within = |at: u64| at.saturating_sub(it.offset).min(it.part.bytes.get());
            let part_end = it.offset + it.part.bytes.get();
            if !(it.offset..part_end).contains(&left.start) {
                break;
            }
            self.batch.push_back((it.part, within(start)..within(end)));
            left.start = part_end.min(left.end);
        }
        // If the File was deleted in the meantime, its Parts may be gone.
        if self.batch.is_empty() { Err(Error::NoSuchFile(*file)) } else { Ok(()) }
    }
}
