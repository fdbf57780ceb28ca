//! The specification of Windlass as an executable model without files, database or network. A request is one step from
//! a state (`World`) to another, with the responses that it may have.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::operations::{
    Answer, Ask, Claim, Declared, FileView, Minutes, Name, Paging, PartView, Project, Purpose, Refusal, Request,
    UploadView, content, crc64, md5,
};
use super::paging::page;
use super::quotas::{Amount, Assumed, Forms};

/// The limits of the program under test, in bytes.
pub const PART_BYTES: usize = 100;
pub const UPLOAD_BYTES: usize = 400;
pub const FILE_BYTES: usize = 250;

const UPLOAD_LIFETIME: Minutes = 60;
const BATCH_LIFETIME: Minutes = 30 * 24 * 60;
/// The minimum time for which the row of an ended Upload is kept.
const RETENTION: Minutes = 7 * 24 * 60;

/// The state of the system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct World {
    pub(super) now: Minutes,
    pub(super) uploads: BTreeMap<Name, Upload>,
    /// What forms use that are not files.
    pub(super) forms: Forms,
    /// What is assumed about usage that is not known exactly, during one request.
    pub(super) assumed: Assumed,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Upload {
    pub(super) project: Project,
    /// False for the internal Upload of a file that was sent in one request.
    visible: bool,
    created: Minutes,
    pub(super) declared: Declared,
    pub(super) state: State,
    /// The stored Parts that are listed, with their sizes.
    parts: BTreeMap<Name, usize>,
    /// The Parts that were stored and are now garbage.
    discarded: BTreeSet<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Pending,
    Completed(File),
    Cancelled { at: Minutes },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    parts: Vec<Name>,
    content: Bytes,
    md5: Option<String>,
    pub(super) deleted: Option<Minutes>,
}

use Refusal as R;

impl World {
    /// The state after some time. Expiry changes no row until the sweep, but the responses do not show that.
    pub fn later(self, minutes: Minutes) -> Self {
        Self { now: self.now + minutes, ..self }
    }

    /// The states that sweeps at unknown times may have led to, as far as this request can distinguish them.
    pub fn perhaps_swept(&self, request: &Request) -> Vec<Self> {
        let seen: Vec<Name> = match &request.ask {
            Ask::AddPart { upload: it, .. }
            | Ask::Complete { upload: it, .. }
            | Ask::Cancel(it)
            | Ask::GetUpload(it)
            | Ask::ListParts(it, _) => vec![*it],
            Ask::ListUploads(_) => self.uploads.keys().copied().filter(|it| self.uploads[it].visible).collect(),
            Ask::ListFiles(_, paging) => paging.after.into_iter().collect(),
            Ask::CreateUpload(_) | Ask::CreateFile(_) | Ask::GetFile(_) | Ask::Download(..) | Ask::DeleteFile(_) => {
                Vec::new()
            }
        };
        if let Ask::CreateUpload(_) | Ask::CreateFile(_) = request.ask {
            return [Assumed::Least, Assumed::Most].map(|assumed| Self { assumed, ..self.clone() }).into();
        }
        let mut worlds = vec![self.clone()];
        for name in seen {
            let Some(it) = self.uploads.get(&name).filter(|it| it.project == request.by) else { continue };
            let Some(at) = it.ended(self.now) else { continue };
            for number in 0..worlds.len() {
                if matches!(request.ask, Ask::ListParts(..)) {
                    let mut swept = worlds[number].clone();
                    swept.uploads.get_mut(&name).expect("the upload exists").discard(|_| true);
                    worlds.push(swept);
                }
                if self.now >= at + RETENTION {
                    let mut forgotten = worlds[number].clone();
                    forgotten.uploads.remove(&name);
                    worlds.push(forgotten);
                }
            }
        }
        worlds
    }

    /// Performs a request. Returns the allowed responses. `ages` are the names of all objects from the oldest to the
    /// newest: the order of those created concurrently is known only to the database.
    pub fn perform(&mut self, request: &Request, ages: &[Name]) -> Vec<Answer> {
        let by = request.by;
        match &request.ask {
            Ask::CreateUpload(declared) => self.create_upload(request.name, by, *declared),
            Ask::AddPart { upload, bytes, truncated } => self.add_part(request.name, by, *upload, *bytes, *truncated),
            Ask::Complete { upload, parts, md5 } => self.complete(by, *upload, parts, *md5),
            Ask::Cancel(upload) => self.cancel(by, *upload),
            Ask::GetUpload(upload) => match self.upload(by, *upload) {
                None => refused(&[R::NoSuchUpload]),
                Some(it) => vec![Answer::Upload(it.view(*upload, self.now))],
            },
            Ask::ListUploads(paging) => self.list_uploads(by, paging, ages),
            Ask::ListParts(upload, paging) => self.list_parts(by, *upload, paging, ages),
            Ask::CreateFile(declared) => self.create_file(request.name, by, *declared),
            Ask::GetFile(file) => match self.file(by, *file) {
                None => refused(&[R::NoSuchFile]),
                Some((upload, it)) => vec![Answer::File(it.view(*file, upload.declared))],
            },
            Ask::ListFiles(purpose, paging) => self.list_files(by, *purpose, paging, ages),
            Ask::Download(file, range) => self.download(by, *file, *range),
            Ask::DeleteFile(file) => self.delete_file(by, *file),
        }
    }

    fn create_upload(&mut self, name: Name, project: Project, declared: Declared) -> Vec<Answer> {
        let exceeds = self.exceeds_a_quota(project, Amount::of_upload(declared.bytes));
        if declared.bytes > UPLOAD_BYTES {
            return refused(&[R::TooLarge]);
        }
        if exceeds {
            return refused(&[R::Quota]);
        }
        let upload = Upload::new(project, self.now, declared);
        let answer = Answer::Upload(upload.view(name, self.now));
        self.uploads.insert(name, upload);
        vec![answer]
    }

    /// Stores a Part completely or not at all, and only while its Upload is pending.
    fn add_part(&mut self, name: Name, by: Project, upload: Name, bytes: usize, truncated: bool) -> Vec<Answer> {
        let now = self.now;
        let Some(it) = self.upload_mut(by, upload) else { return refused(&[R::NoSuchUpload]) };
        let why_not =
            [it.why_ended(now), (bytes == 0).then_some(R::Empty), (bytes > PART_BYTES).then_some(R::TooLarge)];
        let why_not: Vec<_> = why_not.into_iter().flatten().collect();
        if !why_not.is_empty() || truncated {
            return refused(&why_not);
        }
        it.parts.insert(name, bytes);
        vec![Answer::Part(PartView { name, upload, bytes })]
    }

    /// Makes the listed Parts, in this order, the declared File. That is final; repeating it with the same list returns
    /// the same File.
    fn complete(&mut self, by: Project, upload: Name, parts: &[Name], claim: Claim) -> Vec<Answer> {
        let now = self.now;
        let repeated = parts.iter().collect::<BTreeSet<_>>().len() < parts.len();
        let Some(it) = self.upload_mut(by, upload) else {
            return refused(
                &[Some(R::NoSuchUpload), repeated.then_some(R::RepeatedPart)].into_iter().flatten().collect::<Vec<_>>(),
            );
        };
        let same_again = matches!(&it.state, State::Completed(file) if file.parts == parts);
        let file_is_gone = same_again && it.file(now).is_none();
        let fit = parts.iter().all(|part| it.parts.contains_key(part))
            && parts.iter().map(|part| it.parts[part]).sum::<usize>() == it.declared.bytes;
        let why_not = [
            it.why_ended(now).filter(|_| !same_again),
            repeated.then_some(R::RepeatedPart),
            (!fit && !file_is_gone).then_some(R::PartsDoNotFit),
            (claim == Claim::Wrong).then_some(R::WrongMd5),
        ];
        let why_not: Vec<_> = why_not.into_iter().flatten().collect();
        if file_is_gone {
            // It is unspecified how long the part list of a deleted File is kept.
            let perhaps = if why_not.is_empty() { vec![Answer::Upload(it.view(upload, now))] } else { Vec::new() };
            return [perhaps, refused(&why_not), refused(&[R::NotPending, R::PartsDoNotFit])].concat();
        }
        if !why_not.is_empty() {
            return refused(&why_not);
        }
        if !same_again {
            let content: Vec<u8> = parts.iter().flat_map(|part| content(*part, it.parts[part])).collect();
            it.discard(|part| !parts.contains(part));
            it.state = State::Completed(File {
                parts: parts.to_vec(),
                md5: (claim == Claim::Right).then(|| md5(&content)),
                content: content.into(),
                deleted: None,
            });
        }
        vec![Answer::Upload(it.view(upload, now))]
    }

    fn cancel(&mut self, by: Project, upload: Name) -> Vec<Answer> {
        let now = self.now;
        let Some(it) = self.upload_mut(by, upload) else { return refused(&[R::NoSuchUpload]) };
        if let Some(why_not) = it.why_ended(now) {
            return refused(&[why_not]);
        }
        it.discard(|_| true);
        it.state = State::Cancelled { at: now };
        vec![Answer::Upload(it.view(upload, now))]
    }

    fn create_file(&mut self, name: Name, project: Project, declared: Declared) -> Vec<Answer> {
        let exceeds = self.exceeds_a_quota(project, Amount::of_file(declared.bytes));
        if declared.bytes > FILE_BYTES {
            let why_not = [Some(R::TooLarge), exceeds.then_some(R::Quota)];
            return refused(&why_not.into_iter().flatten().collect::<Vec<_>>());
        }
        if exceeds {
            return refused(&[R::Quota]);
        }
        let content = content(name, declared.bytes).into();
        let file = File { parts: vec![name], content, md5: None, deleted: None };
        let answer = Answer::File(file.view(name, declared));
        let state = State::Completed(file);
        self.uploads.insert(name, Upload { visible: false, state, ..Upload::new(project, self.now, declared) });
        vec![answer]
    }

    fn list_uploads(&self, by: Project, paging: &Paging, ages: &[Name]) -> Vec<Answer> {
        let mine = |it: &&Name| self.upload(by, **it).is_some();
        if paging.after.is_some_and(|it| !mine(&&it)) {
            return refused(&[R::NoSuchCursor]);
        }
        let names = self.uploads.keys().filter(mine).copied();
        vec![Answer::Uploads(page(names, paging, ages).of(|it| self.uploads[&it].view(it, self.now)))]
    }

    fn list_parts(&self, by: Project, upload: Name, paging: &Paging, ages: &[Name]) -> Vec<Answer> {
        let Some(it) = self.upload(by, upload) else { return refused(&[R::NoSuchUpload]) };
        let list = page(it.parts.keys().copied(), paging, ages);
        let list = Answer::Parts(list.of(|name| PartView { name, upload, bytes: it.parts[&name] }));
        match paging.after {
            // It is unspecified how long a discarded Part remains a valid cursor.
            Some(after) if it.discarded.contains(&after) => vec![list, Answer::Refused(R::NoSuchCursor)],
            Some(after) if !it.parts.contains_key(&after) => refused(&[R::NoSuchCursor]),
            _ => vec![list],
        }
    }

    /// A cursor may be a deleted File, so that a client can delete files while it pages.
    fn list_files(&self, by: Project, purpose: Option<Purpose>, paging: &Paging, ages: &[Name]) -> Vec<Answer> {
        let ever = |it: Name| {
            self.uploads.get(&it).is_some_and(|it| it.project == by && matches!(it.state, State::Completed(_)))
        };
        if paging.after.is_some_and(|it| !ever(it)) {
            return refused(&[R::NoSuchCursor]);
        }
        let listed = |it: &Name| {
            self.file(by, *it).is_some_and(|(upload, _)| purpose.is_none_or(|it| it == upload.declared.purpose))
        };
        let names = self.uploads.keys().copied().filter(listed);
        let page = page(names, paging, ages);
        vec![Answer::Files(page.of(|name| {
            let upload = &self.uploads[&name];
            upload.file(self.now).expect("it is listed").view(name, upload.declared)
        }))]
    }

    fn download(&self, by: Project, file: Name, range: Option<(usize, Option<usize>)>) -> Vec<Answer> {
        let Some((_, it)) = self.file(by, file) else { return refused(&[R::NoSuchFile]) };
        let Some((first, last)) = range else {
            return vec![Answer::ContentStream { bytes: it.content.clone(), partial: false }];
        };
        let end = last.map_or(it.content.len(), |last| it.content.len().min(last + 1));
        if first >= end {
            return refused(&[R::OutsideTheFile]);
        }
        vec![Answer::ContentStream { bytes: it.content.slice(first..end), partial: true }]
    }

    fn delete_file(&mut self, by: Project, file: Name) -> Vec<Answer> {
        let now = self.now;
        if self.file(by, file).is_none() {
            return refused(&[R::NoSuchFile]);
        }
        self.uploads.get_mut(&file).expect("a file has an upload").delete_file(now);
        vec![Answer::Deleted(file)]
    }

    /// The project's Upload of this name. Internal Uploads of `POST /v1/files` are not visible.
    fn upload(&self, by: Project, name: Name) -> Option<&Upload> {
        self.uploads.get(&name).filter(|it| it.project == by && it.visible)
    }

    fn upload_mut(&mut self, by: Project, name: Name) -> Option<&mut Upload> {
        self.uploads.get_mut(&name).filter(|it| it.project == by && it.visible)
    }

    /// The project's File of this name, if it exists and has not expired.
    fn file(&self, by: Project, name: Name) -> Option<(&Upload, &File)> {
        let upload = self.uploads.get(&name).filter(|it| it.project == by)?;
        Some((upload, upload.file(self.now)?))
    }
}

impl Upload {
    fn new(project: Project, created: Minutes, declared: Declared) -> Self {
        let (parts, discarded) = (BTreeMap::new(), BTreeSet::new());
        Self { project, visible: true, created, declared, state: State::Pending, parts, discarded }
    }

    fn is_overdue(&self, now: Minutes) -> bool {
        self.state == State::Pending && now >= self.created + UPLOAD_LIFETIME
    }

    /// Why the Upload accepts no further changes. An overdue Upload is expired, swept or not.
    fn why_ended(&self, now: Minutes) -> Option<Refusal> {
        match self.state {
            State::Pending if self.is_overdue(now) => Some(R::Expired),
            State::Pending => None,
            State::Completed(_) | State::Cancelled { .. } => Some(R::NotPending),
        }
    }

    /// When the Upload or its File ended and its Parts became garbage.
    pub(super) fn ended(&self, now: Minutes) -> Option<Minutes> {
        match &self.state {
            State::Cancelled { at } => Some(*at),
            State::Pending => Some(self.created + UPLOAD_LIFETIME).filter(|at| now >= *at),
            State::Completed(file) => {
                file.deleted.or_else(|| lifetime(self.declared).map(|it| self.created + it).filter(|at| now >= *at))
            }
        }
    }

    /// The File, from completion until it is deleted or expires, swept or not. Its lifetime counts from the creation of
    /// the Upload.
    fn file(&self, now: Minutes) -> Option<&File> {
        let State::Completed(file) = &self.state else { return None };
        self.ended(now).is_none().then_some(file)
    }

    fn delete_file(&mut self, now: Minutes) {
        if let State::Completed(file) = &mut self.state {
            file.deleted = Some(now);
        }
        self.discard(|_| true);
    }

    fn discard(&mut self, which: impl Fn(&Name) -> bool) {
        self.discarded.extend(self.parts.extract_if(.., |name, _| which(name)).map(|(name, _)| name));
    }

    fn view(&self, name: Name, now: Minutes) -> UploadView {
        let status = match self.state {
            State::Pending if self.is_overdue(now) => "expired",
            State::Pending => "pending",
            State::Completed(_) => "completed",
            State::Cancelled { .. } => "cancelled",
        };
        let file = self.file(now).map(|it| it.view(name, self.declared));
        UploadView { name, bytes: self.declared.bytes, purpose: self.declared.purpose, status, file }
    }
}

impl File {
    fn view(&self, name: Name, declared: Declared) -> FileView {
        let declared = Declared { lifetime: lifetime(declared), ..declared };
        FileView { name, declared, crc64: crc64(&self.content), md5: self.md5.clone() }
    }
}

/// The lifetime of a file: the requested one, or the default of its purpose.
fn lifetime(declared: Declared) -> Option<Minutes> {
    declared.lifetime.or((declared.purpose == Purpose::Batch).then_some(BATCH_LIFETIME))
}

/// A request that is wrong in several ways may be refused for any of them.
fn refused(why: &[Refusal]) -> Vec<Answer> {
    why.iter().map(|it| Answer::Refused(*it)).collect()
}
