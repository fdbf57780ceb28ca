//! Which Parts are to be read, in order. Those of a File are looked up in batches: a reader holds few of them, however
//! many there are and however slow it is.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Error, Result, Service};
use crate::blobs::CHUNK_KIB;
use crate::db::parts;
use crate::domain::{FileId, Part};

/// How many Parts that are in the ledger are read together.
const CONTENTS_AT_ONCE: usize = 16;

/// How many bytes they have: half of a reader's memory, since an earlier one may not have been sent yet.
const CONTENTS_BYTES: u64 = CHUNK_KIB as u64 * 512;

/// How many Parts of a File are looked up together.
const PARTS_AT_ONCE: u16 = 500;

/// Stretches of Parts that are to be read, in order.
pub(super) struct Wanted {
    batch: VecDeque<(Part, Range<u64>)>,
    /// Where they are a File's, those that have not been looked up yet.
    rest: Option<Rest>,
}

/// The range of a File whose Parts have not been looked up yet.
struct Rest {
    file: FileId,
    left: Range<u64>,
}

impl Wanted {
    /// A stretch of a File.
    ///
    /// # Errors
    /// When the ledger fails, or the File's Parts have been deleted.
    pub(super) async fn of_file(service: &Service, file: FileId, left: Range<u64>) -> Result<Self> {
        let mut wanted = Self { batch: VecDeque::new(), rest: Some(Rest { file, left }) };
        wanted.look_up(service).await?;
        Ok(wanted)
    }

    /// Whole Parts.
    pub(super) fn whole(parts: &[Part]) -> Self {
        Self { batch: parts.iter().map(|part| (*part, 0..part.bytes.get())).collect(), rest: None }
    }

    /// Whether any of them may be in the ledger.
    pub(super) fn may_be_in_ledger(&self) -> bool {
        self.batch.iter().any(|(part, _)| part.in_ledger) || self.rest.as_ref().is_some_and(|it| !it.left.is_empty())
    }

    /// What is opened together next: an object, or some Parts that are all in the ledger.
    pub(super) async fn next(&mut self, service: &Service) -> Option<Vec<(Part, Range<u64>)>> {
        if self.batch.is_empty()
            && let Err(error) = self.look_up(service).await
        {
            // The client sees from the length how much is missing.
            tracing::error!(error = &error as &dyn std::error::Error, "download aborted");
            return None;
        }
        let first = self.batch.pop_front()?;
        let mut bytes = first.0.bytes.get();
        let mut together = vec![first];
        while together[0].0.in_ledger
            && together.len() < CONTENTS_AT_ONCE
            && let Some(next) = self.batch.pop_front_if(|(part, _)| {
                bytes += part.bytes.get();
                part.in_ledger && bytes <= CONTENTS_BYTES
            })
        {
            together.push(next);
        }
        Some(together)
    }

    async fn look_up(&mut self, service: &Service) -> Result<()> {
        let Some(Rest { file, left }) = &mut self.rest else { return Ok(()) };
        if left.is_empty() {
            return Ok(());
        }
        let mut attempts = service.attempts();
        let placed = loop {
            let found = parts::list_covering(&service.db, *file, left.start, left.end, PARTS_AT_ONCE);
            match service.patiently(found).await {
                Ok(placed) => break placed,
                Err(error) => attempts.after(error).await?,
            }
        };
        let wanted = left.clone();
        for it in placed {
            let within = |at: u64| at.saturating_sub(it.offset).min(it.part.bytes.get());
            let end = it.offset + it.part.bytes.get();
            if !(it.offset..end).contains(&left.start) {
                break;
            }
            self.batch.push_back((it.part, within(wanted.start)..within(wanted.end)));
            left.start = end.min(left.end);
        }
        // The Parts of a File that was deleted meanwhile may have been deleted, too.
        if self.batch.is_empty() { Err(Error::NoSuchFile(*file)) } else { Ok(()) }
    }
}
