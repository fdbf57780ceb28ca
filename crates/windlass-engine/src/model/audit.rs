//! Events of the audit trail: who did what, when and from where.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use uuid::Uuid;
use windlass_types::{FileId, KeyId, ProjectId, ProjectName, UploadId};

/// Declares an enum of which each value has a name, in the ledger and on the command line.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident, $($(#[$value_doc:meta])* $value:ident = $name:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$value_doc])* $value,)+
        }

        impl $type {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }
        }

        impl FromStr for $type {
            type Err = NotANameOf;

            fn from_str(text: &str) -> Result<Self, NotANameOf> {
                let found = Self::ALL.iter().copied().find(|it| it.as_str() == text);
                found.ok_or(NotANameOf(&[$($name),+]))
            }
        }
    };
}

/// The error for a text that is none of these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANameOf(&'static [&'static str]);

impl fmt::Display for NotANameOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it must be one of {}", self.0.join(", "))
    }
}

impl std::error::Error for NotANameOf {}

named! {
    /// What was done, or tried.
    AuditAction,
    /// An Upload was created.
    UploadCreate = "upload.create",
    /// Uploads were listed.
    UploadList = "upload.list",
    /// The state of an Upload was read.
    UploadRetrieve = "upload.retrieve",
    /// A Part was added.
    UploadAddPart = "upload.add_part",
    /// The Parts of an Upload were listed.
    UploadListParts = "upload.list_parts",
    /// An Upload was completed.
    UploadComplete = "upload.complete",
    /// An Upload was cancelled.
    UploadCancel = "upload.cancel",
    /// A File was created in one request.
    FileCreate = "file.create",
    /// Files were listed.
    FileList = "file.list",
    /// The name, the size and other properties of a File were read.
    FileRetrieve = "file.retrieve",
    /// The content of a File was read, or some of it.
    FileRead = "file.read",
    /// A File was deleted.
    FileDelete = "file.delete",
    /// A URL was signed.
    SignedUrlCreate = "signed_url.create",
    /// The secret that signs URLs was replaced.
    SignedUrlRotateSecret = "signed_url.rotate_secret",
    /// What a project uses was read.
    UsageRetrieve = "usage.retrieve",
    /// A key was created.
    KeyCreate = "key.create",
    /// The rates of a key were changed.
    KeyChange = "key.change",
    /// A key was revoked.
    KeyRevoke = "key.revoke",
    /// A project was created.
    ProjectCreate = "project.create",
    /// The limits of a project were changed.
    ProjectChange = "project.change",
}

named! {
    /// How it ended.
    AuditOutcome,
    /// It was done.
    Ok = "ok",
    /// The key may not do this, or not in this project.
    Denied = "denied",
    /// It failed.
    Failed = "failed",
    /// The client disconnected before there was a response. It may have been done.
    Unknown = "unknown",
}

named! {
    /// By which right it was done.
    AuditVia,
    /// With an API key.
    Key = "key",
    /// With a signed URL.
    SignedUrl = "signed_url",
    /// By a command of the operator.
    CommandLine = "command_line",
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditActor {
    /// The owner of a key.
    Key(KeyId),
    /// Whoever has a URL that was signed with this key.
    SignedUrl(KeyId),
    /// The user who runs a command, as `user@host`.
    Operator(String),
}

/// A project of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditProject {
    /// The project with this id; its name is recorded.
    Id(ProjectId),
    /// The project with this name, if there is one.
    Name(ProjectName),
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditObject {
    /// An Upload.
    Upload(UploadId),
    /// A File.
    File(FileId),
    /// A key.
    Key(KeyId),
}

impl fmt::Display for AuditObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload(id) => id.fmt(f),
            Self::File(id) => id.fmt(f),
            Self::Key(id) => id.fmt(f),
        }
    }
}

impl FromStr for AuditObject {
    type Err = NotAnObject;

    fn from_str(text: &str) -> Result<Self, NotAnObject> {
        let file = text.parse().map(Self::File).ok();
        let other = || text.parse().map(Self::Upload).ok().or_else(|| text.parse().map(Self::Key).ok());
        file.or_else(other).ok_or(NotAnObject)
    }
}

/// The error for a text that is not the id of an [`AuditObject`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be the id of a file (file-…), an upload (upload_…) or a key (key_…)")]
pub struct NotAnObject;

/// Where a request came from. The texts are those that the client or a proxy has sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditOrigin {
    /// The address of the client's connection.
    pub address: Option<IpAddr>,
    /// The end of `Forwarded` or `X-Forwarded-For`.
    pub forwarded_for: Option<String>,
    /// Id of the request.
    pub request_id: Option<String>,
    /// The beginning of `User-Agent`.
    pub user_agent: Option<String>,
}

impl AuditOrigin {
    /// The longest `forwarded_for` and `user_agent`, in bytes.
    pub const MAX_BYTES: usize = 256;
}

/// An event to be recorded. The ledger adds the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Id of the event.
    pub id: Uuid,
    /// What was done.
    pub action: AuditAction,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// Who did it.
    pub actor: AuditActor,
    /// In which project.
    pub project: Option<AuditProject>,
    /// To what.
    pub object: Option<AuditObject>,
    /// From where.
    pub origin: AuditOrigin,
}

/// A recorded event.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Id of the event.
    pub id: Uuid,
    /// When it was recorded, by the database's clock.
    pub at: DateTime<Utc>,
    /// What was done.
    pub action: String,
    /// How it ended.
    pub outcome: String,
    /// The status of the response, if there was one.
    pub status: Option<i32>,
    /// By which right.
    pub via: String,
    /// The key that was used, or that signed the URL.
    pub key: Option<KeyId>,
    /// Who ran the command.
    pub operator: Option<String>,
    /// The name of the project.
    pub project: Option<String>,
    /// The id of the object.
    pub object: Option<String>,
    /// The address of the client's connection.
    pub address: Option<String>,
    /// The end of `Forwarded` or `X-Forwarded-For`, as it was sent.
    pub forwarded_for: Option<String>,
    /// Id of the request.
    pub request_id: Option<String>,
    /// The beginning of `User-Agent`, as it was sent.
    pub user_agent: Option<String>,
}

/// Which events are exported.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only those of a project.
    pub project: Option<ProjectName>,
    /// Only those of an action.
    pub action: Option<AuditAction>,
    /// Only those of the owner of a key, and of whoever has a URL that was signed with it.
    pub key: Option<KeyId>,
    /// Only those about an object. A File and the Upload that it was created from are one object.
    pub object: Option<AuditObject>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_parsed_and_an_unknown_one_is_refused_with_those_that_exist() {
        for action in AuditAction::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
        }
        let refused = "file.reed".parse::<AuditAction>().unwrap_err().to_string();
        assert!(refused.contains("file.read, file.delete"), "{refused}");
    }

    #[test]
    fn an_object_is_a_file_an_upload_or_a_key() {
        let objects = [
            AuditObject::File(UploadId::generate().file()),
            AuditObject::Upload(UploadId::generate()),
            AuditObject::Key(KeyId::generate()),
        ];
        for object in objects {
            assert_eq!(object.to_string().parse(), Ok(object));
        }
        for text in ["", "file", "part_0192f0c1a2b37c4d8e5f60718293a4b5", "upload-0192f0c1a2b37c4d8e5f60718293a4b5"] {
            assert_eq!(text.parse::<AuditObject>(), Err(NotAnObject), "{text}");
        }
    }
}
