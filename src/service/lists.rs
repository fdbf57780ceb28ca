//! Lists, read from the ledger in batches that are bounded in rows and in bytes. The next batch is read once the client
//! has taken the previous one, so a long list or a slow client holds little memory, and no database connection.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{Error, Result, Service};
use crate::db::{self, Db, Position, files, parts, uploads};
use crate::domain::{
    Declaration, File, FileId, Order, PageLimit, PageRequest, Part, PartId, ProjectId, PurposeFilter, Upload, UploadId,
    UploadStatus,
};

/// How many batches are read at the same time: their rows are in memory until they have become text.
pub(super) const READ_AT_ONCE: usize = 8;

/// The maximum number of rows in a batch. Most lists have a single batch.
const MOST_ROWS: usize = 200;

/// The fewest rows that a batch is read with.
const FEWEST_ROWS: usize = 16;

/// The maximum size of a batch, unless a single row is larger.
const BATCH_BYTES: usize = 64 * 1024;

/// The memory reserved for a list of several batches: one batch as text, and its copy on its way to the client.
const LIST_KIB: u32 = 128;

/// The size of an object of a list in JSON, except for its names.
const AROUND_BYTES: usize = 320;

/// A list being read.
pub struct List<T: Listed> {
    service: Service,
    of: T::Of,
    order: Order,
    next: Next,
    /// Its memory, if it has several batches.
    _memory: Option<OwnedSemaphorePermit>,
}

/// Where a list continues.
#[derive(Clone, Copy)]
struct Next {
    after: Option<Position>,
    /// How many more the client wants.
    left: usize,
    /// How many rows to read.
    rows: usize,
}

/// The next items of a list.
pub struct Batch<T> {
    /// In their order.
    pub items: Vec<T>,
    /// Whether they are the last ones that were asked for.
    pub is_last: bool,
    /// Whether there are more after them.
    pub has_more: bool,
    _reader: OwnedSemaphorePermit,
}

/// What can be listed.
pub trait Listed: Sized + Send + 'static {
    /// What a list is restricted to.
    type Of: Send + Sync + 'static;

    /// Reads so many rows after a place in the list.
    fn read(
        db: &Db,
        of: &Self::Of,
        after: Option<Position>,
        order: Order,
        rows: i64,
    ) -> impl Future<Output = db::Result<Vec<Self>>> + Send;

    /// Where it stands in its list.
    fn position(&self) -> Position;

    /// About how many bytes it has in JSON.
    fn bytes(&self) -> usize;
}

impl Listed for Upload {
    type Of = ProjectId;

    async fn read(db: &Db, of: &ProjectId, after: Option<Position>, order: Order, rows: i64) -> db::Result<Vec<Self>> {
        uploads::list(db, *of, after, order, rows).await
    }

    fn position(&self) -> Position {
        Position::of(self.created_at, self.id.uuid())
    }

    fn bytes(&self) -> usize {
        let Declaration { filename, mime_type, .. } = &self.declaration;
        let file = if let UploadStatus::Completed(Some(file)) = &self.status { file.bytes() } else { 0 };
        AROUND_BYTES + filename.as_str().len() + mime_type.as_str().len() + file
    }
}

impl Listed for File {
    /// A project, and a purpose where not every File is wanted.
    type Of = (ProjectId, Option<PurposeFilter>);

    async fn read(
        db: &Db,
        (project, purpose): &Self::Of,
        after: Option<Position>,
        order: Order,
        rows: i64,
    ) -> db::Result<Vec<Self>> {
        files::list(db, *project, purpose.map(PurposeFilter::as_str), after, order, rows).await
    }

    fn position(&self) -> Position {
        Position::of(self.created_at, self.id.uuid())
    }

    fn bytes(&self) -> usize {
        AROUND_BYTES + self.filename.as_str().len()
    }
}

impl Listed for Part {
    type Of = UploadId;

    async fn read(db: &Db, of: &UploadId, after: Option<Position>, _: Order, rows: i64) -> db::Result<Vec<Self>> {
        parts::list(db, *of, after, rows).await
    }

    fn position(&self) -> Position {
        Position::of(self.created_at, self.id.uuid())
    }

    fn bytes(&self) -> usize {
        AROUND_BYTES
    }
}

impl Service {
    /// The project's Uploads: the list, and its first batch.
    ///
    /// # Errors
    /// [`Error::NoSuchCursor`], or [`Error::BusySending`] where too many lists are held by clients that do not read.
    pub async fn list_uploads(
        self,
        project: ProjectId,
        page: PageRequest<UploadId>,
    ) -> Result<(List<Upload>, Batch<Upload>)> {
        let after = match page.after {
            Some(id) => Some(self.place(id, uploads::find_position(&self.db, project, id)).await?),
            None => None,
        };
        List::begin(self, project, page.order, after, page.limit).await
    }

    /// The project's Files, of one purpose or of all: the list, and its first batch.
    ///
    /// # Errors
    /// As for Uploads.
    pub async fn list_files(
        self,
        project: ProjectId,
        purpose: Option<PurposeFilter>,
        page: PageRequest<FileId>,
    ) -> Result<(List<File>, Batch<File>)> {
        let after = match page.after {
            Some(id) => Some(self.place(id, files::find_position(&self.db, project, id)).await?),
            None => None,
        };
        List::begin(self, (project, purpose), page.order, after, page.limit).await
    }

    /// The stored Parts of an Upload, the oldest first; a client that resumes begins here.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], and as for Uploads.
    pub async fn list_parts(
        self,
        project: ProjectId,
        id: UploadId,
        after: Option<PartId>,
        limit: PageLimit,
    ) -> Result<(List<Part>, Batch<Part>)> {
        self.patiently(self.clone().get_upload(project, id)).await?;
        let after = match after {
            Some(part) => Some(self.place(part, parts::find_position(&self.db, id, part)).await?),
            None => None,
        };
        List::begin(self, id, Order::Ascending, after, limit).await
    }

    /// The position of a cursor.
    async fn place(
        &self,
        id: impl ToString,
        found: impl Future<Output = db::Result<Option<Position>>>,
    ) -> Result<Position> {
        self.patiently(found).await?.ok_or_else(|| Error::NoSuchCursor(id.to_string()))
    }
}

impl<T: Listed> List<T> {
    async fn begin(
        service: Service,
        of: T::Of,
        order: Order,
        after: Option<Position>,
        limit: PageLimit,
    ) -> Result<(Self, Batch<T>)> {
        let first = Next { after, left: limit.get(), rows: MOST_ROWS };
        let mut list = Self { service, of, order, next: first, _memory: None };
        let batch = list.next().await?;
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
        let batch = list.next().await?;
        Ok((list, batch))
    }

    /// The next batch; there is none after the last one.
    ///
    /// # Errors
    /// When the ledger fails, or is too busy.
    pub async fn next(&mut self) -> Result<Batch<T>> {
        let Next { after, left, rows } = self.next;
        let rows = rows.min(left);
        let reader = Arc::clone(&self.service.list_readers).acquire_owned();
        let reader = timeout(self.service.limits.buffer_wait, reader).await.map_err(|_| Error::BusySending)?;
        let one_more = i64::try_from(rows + 1).unwrap_or(i64::MAX);
        let found = T::read(&self.service.db, &self.of, after, self.order, one_more);
        let mut items = self.service.patiently(found).await?;
        let has_more = fit(&mut items, rows);
        self.next = Next {
            after: items.last().map(T::position).or(after),
            left: left - items.len(),
            rows: rows_of(items.iter().map(T::bytes).sum(), items.len()),
        };
        let is_last = !has_more || self.next.left == 0;
        Ok(Batch { items, is_last, has_more, _reader: reader.map_err(|_| Error::Interrupted)? })
    }
}

/// Truncates the items to one batch. Returns whether there were more.
fn fit<T: Listed>(items: &mut Vec<T>, rows: usize) -> bool {
    let sizes = items.iter().map(T::bytes).scan(0, |sum, bytes| {
        *sum += bytes;
        Some(*sum)
    });
    let fitting = sizes.take_while(|sum| *sum <= BATCH_BYTES).count().max(1).min(rows);
    let has_more = items.len() > fitting;
    items.truncate(fitting);
    has_more
}

/// How many rows to read next, given the size of the last batch.
fn rows_of(bytes: usize, count: usize) -> usize {
    (BATCH_BYTES * count).checked_div(bytes).unwrap_or(MOST_ROWS).clamp(FEWEST_ROWS, MOST_ROWS)
}
