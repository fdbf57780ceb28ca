//! Lists, read from the ledger in batches that are bounded in rows and in bytes. The next batch is read once the client
//! has received the previous one, so a long list or a slow client holds little memory, and no database connection.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use windlass_types::{AnyPurpose, FileId, Order, PageLimit, PageRequest, PartId, ProjectId, UploadId};

use crate::db::{self, Db, Position, files, parts, uploads};
use crate::error::{Error, Result};
use crate::model::{File, Part, Upload, UploadSpec, UploadState};
use crate::resources::fair_queue::Precedence;
use crate::service::Service;

/// The maximum number of rows in a batch. Most lists consist of a single batch.
const MAX_ROWS: usize = 200;

/// The minimum number of rows that are requested for a batch, unless fewer are left.
const MIN_ROWS: usize = 16;

/// The maximum size of a batch in bytes of JSON, unless a single row is larger.
const BATCH_BYTES: usize = 64 * 1024;

/// The memory reserved for a list of several batches: one batch as JSON, and its copy that is being sent.
const LIST_KIB: u32 = 128;

/// The approximate size of an object in JSON, without the strings of variable length.
const OBJECT_OVERHEAD_BYTES: usize = 320;

/// A list being read.
pub struct List<T: ListItem> {
    service: Service,
    project: ProjectId,
    of: T::Of,
    order: Order,
    next: Next,
    /// The memory for the response; `None` if the list has a single batch.
    _memory: Option<OwnedSemaphorePermit>,
}

/// The position where a list continues.
#[derive(Clone, Copy)]
struct Next {
    after: Option<Position>,
    /// How many items of the page have not been read yet.
    left: usize,
    /// How many rows to read next.
    rows: usize,
}

/// Consecutive items of a list. The number of batches in memory is bounded, so drop each as soon as it is serialized.
pub struct Batch<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Whether the page ends with this batch.
    pub is_last: bool,
    /// Whether the list has more items after this batch.
    pub has_more: bool,
    _reader: OwnedSemaphorePermit,
}

/// An object that can be listed.
pub trait ListItem: Sized + Send + 'static {
    /// The scope of a list, such as a project.
    type Of: Send + Sync + 'static;

    /// Reads at most `rows` rows after a position in the list.
    fn read(
        db: &Db,
        of: &Self::Of,
        after: Option<Position>,
        order: Order,
        rows: i64,
    ) -> impl Future<Output = db::Result<Vec<Self>>> + Send;

    /// The position of this object in its list.
    fn position(&self) -> Position;

    /// The approximate size of this object in JSON.
    fn bytes(&self) -> usize;
}

impl ListItem for Upload {
    type Of = ProjectId;

    async fn read(db: &Db, of: &ProjectId, after: Option<Position>, order: Order, rows: i64) -> db::Result<Vec<Self>> {
        uploads::list(db, *of, after, order, rows).await
    }

    fn position(&self) -> Position {
        Position::of(self.created_at, self.id.uuid())
    }

    fn bytes(&self) -> usize {
        let UploadSpec { filename, mime_type, .. } = &self.spec;
        let file = if let UploadState::Completed(Some(file)) = &self.state { file.bytes() } else { 0 };
        OBJECT_OVERHEAD_BYTES + filename.as_str().len() + mime_type.as_str().len() + file
    }
}

impl ListItem for File {
    /// The project, and the purpose if the list is restricted to one.
    type Of = (ProjectId, Option<AnyPurpose>);

    async fn read(
        db: &Db,
        (project, purpose): &Self::Of,
        after: Option<Position>,
        order: Order,
        rows: i64,
    ) -> db::Result<Vec<Self>> {
        files::list(db, *project, purpose.map(AnyPurpose::as_str), after, order, rows).await
    }

    fn position(&self) -> Position {
        Position::of(self.created_at, self.id.uuid())
    }

    fn bytes(&self) -> usize {
        OBJECT_OVERHEAD_BYTES + self.filename.as_str().len()
    }
}

impl ListItem for Part {
    type Of = UploadId;

    async fn read(db: &Db, of: &UploadId, after: Option<Position>, _: Order, rows: i64) -> db::Result<Vec<Self>> {
        parts::list(db, *of, after, rows).await
    }

    fn position(&self) -> Position {
        Position::of(self.created_at, self.id.uuid())
    }

    fn bytes(&self) -> usize {
        OBJECT_OVERHEAD_BYTES
    }
}

impl Service {
    /// Lists the project's Uploads. Returns the list, and its first batch.
    ///
    /// # Errors
    /// [`Error::NoSuchCursor`]; [`Error::Overloaded`]; [`Error::BusySending`] if unread responses use up the memory or too
    /// many lists are being read; or when the ledger fails.
    pub async fn list_uploads(
        &self,
        project: ProjectId,
        page: PageRequest<UploadId>,
    ) -> Result<(List<Upload>, Batch<Upload>)> {
        self.admit(&self.queues.statements, project, Precedence::New)?;
        let begin = move |it: Self| async move {
            let after = match page.after {
                Some(id) => Some(it.cursor(id, uploads::find_position(&it.db, project, id)).await?),
                None => None,
            };
            List::begin(it, project, project, page.order, after, page.limit).await
        };
        self.run_without_timeout(begin).await
    }

    /// Lists the project's Files, of one purpose or of all. Returns the list, and its first batch.
    ///
    /// # Errors
    /// Those of [`Self::list_uploads`].
    pub async fn list_files(
        &self,
        project: ProjectId,
        purpose: Option<AnyPurpose>,
        page: PageRequest<FileId>,
    ) -> Result<(List<File>, Batch<File>)> {
        self.admit(&self.queues.statements, project, Precedence::New)?;
        let begin = move |it: Self| async move {
            let after = match page.after {
                Some(id) => Some(it.cursor(id, files::find_position(&it.db, project, id)).await?),
                None => None,
            };
            List::begin(it, project, (project, purpose), page.order, after, page.limit).await
        };
        self.run_without_timeout(begin).await
    }

    /// Lists the stored Parts of an Upload, the oldest first, for example to resume it. Returns the list, and its first
    /// batch.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], and those of [`Self::list_uploads`].
    pub async fn list_parts(
        &self,
        project: ProjectId,
        id: UploadId,
        after: Option<PartId>,
        limit: PageLimit,
    ) -> Result<(List<Part>, Batch<Part>)> {
        self.admit(&self.queues.statements, project, Precedence::New)?;
        let begin = move |it: Self| async move {
            it.with_db_timeout(it.find_upload(project, id)).await?;
            let after = match after {
                Some(part) => Some(it.cursor(part, parts::find_position(&it.db, id, part)).await?),
                None => None,
            };
            List::begin(it, project, id, Order::Ascending, after, limit).await
        };
        self.run_without_timeout(begin).await
    }

    /// The position of the object that a page begins after, given the query that finds it.
    async fn cursor(
        &self,
        id: impl ToString,
        found: impl Future<Output = db::Result<Option<Position>>>,
    ) -> Result<Position> {
        self.with_db_timeout(found).await?.ok_or_else(|| Error::NoSuchCursor(id.to_string()))
    }
}

impl<T: ListItem> List<T> {
    async fn begin(
        service: Service,
        project: ProjectId,
        of: T::Of,
        order: Order,
        after: Option<Position>,
        limit: PageLimit,
    ) -> Result<(Self, Batch<T>)> {
        let first = Next { after, left: limit.get(), rows: MAX_ROWS };
        let mut list = Self { service, project, of, order, next: first, _memory: None };
        let batch = list.read_next(Precedence::New).await?;
        if batch.is_last {
            return Ok((list, batch));
        }
        if let Some(memory) = list.service.try_reserve_to_send(LIST_KIB) {
            return Ok((Self { _memory: Some(memory), ..list }, batch));
        }
        // A list that waits for memory must not hold any.
        drop(batch);
        let memory = list.service.reserve_to_send(LIST_KIB.into()).await?;
        let mut list = Self { next: first, _memory: Some(memory), ..list };
        let batch = list.read_next(Precedence::New).await?;
        Ok((list, batch))
    }

    /// Reads the next batch, if the previous one was not the last.
    ///
    /// # Errors
    /// When the ledger fails, [`Error::Busy`], or [`Error::BusySending`] if too many lists are being read.
    pub async fn next(mut self) -> Result<(Self, Batch<T>)> {
        let service = self.service.clone();
        let read = |_: Service| async move {
            let batch = self.read_next(Precedence::UnderWay).await?;
            Ok((self, batch))
        };
        service.run_without_timeout(read).await
    }

    async fn read_next(&mut self, precedence: Precedence) -> Result<Batch<T>> {
        let Next { after, left, rows } = self.next;
        let rows = rows.min(left);
        let _turn = self.service.turn(&self.service.queues.statements, self.project, precedence).await?;
        let reader = Arc::clone(&self.service.list_readers).acquire_owned();
        let reader = timeout(self.service.limits.queue_timeout, reader).await.map_err(|_| Error::BusySending)?;
        let one_more = i64::try_from(rows + 1).unwrap_or(i64::MAX);
        let found = T::read(&self.service.db, &self.of, after, self.order, one_more);
        let mut items = self.service.with_db_timeout(found).await?;
        let has_more = truncate_to_batch(&mut items, rows);
        self.next = Next {
            after: items.last().map(T::position).or(after),
            left: left - items.len(),
            rows: rows_after(items.iter().map(T::bytes).sum(), items.len()),
        };
        let is_last = !has_more || self.next.left == 0;
        Ok(Batch { items, is_last, has_more, _reader: reader.map_err(|_| Error::ShuttingDown)? })
    }
}

/// Truncates the items to one batch. Returns whether any were removed.
fn truncate_to_batch<T: ListItem>(items: &mut Vec<T>, rows: usize) -> bool {
    let sizes = items.iter().map(T::bytes).scan(0, |sum, bytes| {
        *sum += bytes;
        Some(*sum)
    });
    let fitting = sizes.take_while(|sum| *sum <= BATCH_BYTES).count().max(1).min(rows);
    let has_more = items.len() > fitting;
    items.truncate(fitting);
    has_more
}

/// How many rows to read next, given the size of the last batch in bytes and items.
fn rows_after(bytes: usize, count: usize) -> usize {
    (BATCH_BYTES * count).checked_div(bytes).unwrap_or(MAX_ROWS).clamp(MIN_ROWS, MAX_ROWS)
}
