//! The vocabulary of the model: requests, responses, and the cases made of them.

use std::fmt;

use bytes::Bytes;
use md5::Digest as _;
use windlass_types::{Crc64Digest, Md5};

/// Time in a case. It advances only in jumps.
pub type Minutes = u64;

/// Identifies an object by the number of the request that creates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub u16);

impl Name {
    /// The name of no object: its id does not exist.
    pub const NOTHING: Self = Self(u16::MAX);
}

/// Two projects, which must not see each other's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Project {
    Own,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    UserData,
    Evals,
    Batch,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserData => "user_data",
            Self::Evals => "evals",
            Self::Batch => "batch",
        }
    }
}

/// The `md5` sent with a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    None,
    Right,
    Wrong,
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    pub after: Option<Name>,
    pub limit: usize,
    pub descending: bool,
}

impl Paging {
    /// The whole list.
    pub const ALL: Self = Self { after: None, limit: 10_000, descending: false };
}

/// What a request declares about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declared {
    pub bytes: usize,
    pub purpose: Purpose,
    pub lifetime: Option<Minutes>,
}

/// A request. A File has the same name as its Upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    CreateUpload(Declared),
    /// `truncated`: the client disconnects before the end of the body.
    AddPart {
        upload: Name,
        bytes: usize,
        truncated: bool,
    },
    Complete {
        upload: Name,
        parts: Vec<Name>,
        md5: Claim,
    },
    Cancel(Name),
    GetUpload(Name),
    ListUploads(Paging),
    ListParts(Name, Paging),
    CreateFile(Declared),
    GetFile(Name),
    ListFiles(Option<Purpose>, Paging),
    Download(Name, Option<(usize, Option<usize>)>),
    DeleteFile(Name),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub name: Name,
    pub by: Project,
    pub ask: Ask,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Upload(UploadView),
    Uploads(Page<UploadView>),
    Part(PartView),
    Parts(Page<PartView>),
    File(FileView),
    Files(Page<FileView>),
    ContentStream {
        bytes: Bytes,
        partial: bool,
    },
    Deleted(Name),
    Refused(Refusal),
    /// No response, or a server error: the outcome is unknown.
    Nothing(String),
    /// A response that the model does not define.
    Unexpected(String),
}

/// The kinds of client errors that can be distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NoSuchUpload,
    NoSuchFile,
    NoSuchCursor,
    NotPending,
    Expired,
    RepeatedPart,
    PartsDoNotFit,
    WrongMd5,
    Empty,
    TooLarge,
    Quota,
    OutsideTheFile,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadView {
    pub name: Name,
    pub bytes: usize,
    pub purpose: Purpose,
    pub status: &'static str,
    pub file: Option<FileView>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartView {
    pub name: Name,
    pub upload: Name,
    pub bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    pub name: Name,
    pub declared: Declared,
    pub crc64: String,
    pub md5: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub more: bool,
}

/// An event in the middle of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The program is killed, and restarted after the round.
    Kill,
    /// All its database connections are terminated.
    Cut,
    /// A `windlass sweep` runs at the same time.
    Sweep,
    /// A `windlass sweep` runs and is killed.
    SweepKilled,
}

impl Event {
    /// Whether it can leave a request without a response.
    pub fn is_a_fault(self) -> bool {
        matches!(self, Self::Kill | Self::Cut)
    }
}

/// Concurrent requests, and what happens meanwhile and afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    pub requests: Vec<Request>,
    /// An event, and the milliseconds after which it happens.
    pub event: Option<(Event, u64)>,
    /// By how much the clock advances after the round.
    pub jump: Minutes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub rounds: Vec<Round>,
}

impl Case {
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.rounds.iter().flat_map(|it| &it.requests)
    }
}

/// The bytes that the request of this name sends; those of different requests differ.
pub fn content(name: Name, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (usize::from(name.0) * (2 * at + 1) + at / 7).to_le_bytes()[0]).collect()
}

pub fn crc64(bytes: &[u8]) -> String {
    let mut digest = Crc64Digest::new();
    digest.update(bytes);
    digest.finish().to_string()
}

pub fn md5(bytes: &[u8]) -> String {
    Md5::from(<[u8; 16]>::from(md5::Md5::digest(bytes))).to_string()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NOTHING { write!(f, "#nothing") } else { write!(f, "#{}", self.0) }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let project = if self.by == Project::Other { " (the other project)" } else { "" };
        write!(f, "{}{project} ", self.name)?;
        match &self.ask {
            Ask::CreateUpload(it) => write!(f, "create an upload, {it}"),
            Ask::AddPart { upload, bytes, truncated: false } => write!(f, "add a part of {bytes} B to {upload}"),
            Ask::AddPart { upload, bytes, .. } => write!(f, "add a part of {bytes} B to {upload}, truncated"),
            Ask::Complete { upload, parts, md5 } => {
                let parts: Vec<_> = parts.iter().map(Name::to_string).collect();
                write!(f, "complete {upload} with [{}], md5: {md5:?}", parts.join(" "))
            }
            Ask::Cancel(it) => write!(f, "cancel {it}"),
            Ask::GetUpload(it) => write!(f, "get upload {it}"),
            Ask::ListUploads(it) => write!(f, "list uploads{it}"),
            Ask::ListParts(upload, it) => write!(f, "list parts of {upload}{it}"),
            Ask::CreateFile(it) => write!(f, "create a file, {it}"),
            Ask::GetFile(it) => write!(f, "get file {it}"),
            Ask::ListFiles(None, it) => write!(f, "list files{it}"),
            Ask::ListFiles(Some(purpose), it) => write!(f, "list files for {}{it}", purpose.as_str()),
            Ask::Download(it, None) => write!(f, "download {it}"),
            Ask::Download(it, Some((first, last))) => write!(f, "download {it} from {first} to {last:?}"),
            Ask::DeleteFile(it) => write!(f, "delete file {it}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload(it) => write!(f, "{it}"),
            Self::Uploads(it) => write!(f, "{it}"),
            Self::Part(it) => write!(f, "{it}"),
            Self::Parts(it) => write!(f, "{it}"),
            Self::File(it) => write!(f, "{it}"),
            Self::Files(it) => write!(f, "{it}"),
            Self::ContentStream { bytes, partial } => {
                let partial = if *partial { "part of it, " } else { "" };
                write!(f, "{partial}{} B with checksum {}", bytes.len(), crc64(bytes))
            }
            Self::Deleted(it) => write!(f, "{it} is deleted"),
            Self::Refused(why) => write!(f, "{why:?}"),
            Self::Nothing(why) => write!(f, "no response ({why})"),
            Self::Unexpected(what) => write!(f, "unexpected: {what}"),
        }
    }
}

impl fmt::Display for UploadView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} B for {}) {}", self.name, self.bytes, self.purpose.as_str(), self.status)?;
        self.file.as_ref().map_or(Ok(()), |it| write!(f, " as {it}"))
    }
}

impl fmt::Display for PartView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} B of {})", self.name, self.bytes, self.upload)
    }
}

impl fmt::Display for FileView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {} ({}, crc64 {}", self.name, self.declared, self.crc64)?;
        self.md5.as_ref().map_or(Ok(()), |it| write!(f, ", md5 {it}"))?;
        write!(f, ")")
    }
}

impl<T: fmt::Display> fmt::Display for Page<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<_> = self.items.iter().map(T::to_string).collect();
        write!(f, "[{}]{}", items.join(", "), if self.more { " and more" } else { "" })
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B for {}", self.bytes, self.purpose.as_str())?;
        self.lifetime.map_or(Ok(()), |it| write!(f, ", for {it} min"))
    }
}

impl fmt::Display for Paging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.descending {
            write!(f, ", newest first")?;
        }
        if self.limit < Self::ALL.limit {
            write!(f, ", {} at most", self.limit)?;
        }
        self.after.map_or(Ok(()), |it| write!(f, ", after {it}"))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, round) in self.rounds.iter().enumerate() {
            writeln!(f, "round {number}, concurrently:")?;
            for request in &round.requests {
                writeln!(f, "    {request}")?;
            }
            if let Some((event, after)) = round.event {
                writeln!(f, "    and after {after} ms: {event:?}")?;
            }
            if round.jump > 0 {
                writeln!(f, "  then {} min pass", round.jump)?;
            }
        }
        Ok(())
    }
}
