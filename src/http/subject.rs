//! What a request is about: who acts, for which project, on which object. It is noted as soon as it is known, once, for
//! the lines of the log and for the audit trail.

use std::cell::RefCell;
use std::rc::Rc;

use tracing::Span;
use tracing::field::display;
use windlass_engine::model::{AuditActor, AuditObject, AuditProject};
use windlass_types::{FileId, KeyId, PartId, ProjectId, ProjectName, UploadId};

tokio::task_local! {
    static SUBJECT: Rc<RefCell<Subject>>;
}

/// What is known about an audited request.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    pub actor: Option<AuditActor>,
    pub project: Option<AuditProject>,
    pub is_new_project: bool,
    pub object: Option<AuditObject>,
}

/// Something that is known about a request.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The key that it was sent with.
    Key(KeyId),
    /// The key that has signed its URL.
    SignedUrl(KeyId),
    /// The project that it is for.
    Project(ProjectId),
    /// The name of the project that it would be for, if its key could act for it.
    NamedProject(ProjectName),
    /// The request has created its project.
    NewProject,
    /// An Upload.
    Upload(UploadId),
    /// A Part.
    Part(PartId),
    /// A File.
    File(FileId),
}

/// Notes a fact about the current request. The span of the request declares the fields (`access_log.rs`).
pub fn note(fact: Fact) {
    let span = Span::current();
    match &fact {
        Fact::Key(id) | Fact::SignedUrl(id) => span.record("key.id", display(id)),
        Fact::Project(id) => span.record("project.id", display(id)),
        Fact::Upload(id) => span.record("upload.id", display(id)),
        Fact::Part(id) => span.record("part.id", display(id)),
        Fact::File(id) => span.record("file.id", display(id)),
        Fact::NamedProject(_) | Fact::NewProject => &span,
    };
    // Without an audit trail, there is no subject.
    SUBJECT.try_with(|it| it.borrow_mut().add(fact)).ok();
}

/// Runs a request, whose facts are added to `subject`.
pub async fn with_subject<T>(subject: Rc<RefCell<Subject>>, request: impl Future<Output = T>) -> T {
    SUBJECT.scope(subject, request).await
}

impl Subject {
    fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Key(id) => self.actor = Some(AuditActor::Key(id)),
            Fact::SignedUrl(id) => self.actor = Some(AuditActor::SignedUrl(id)),
            Fact::Project(id) => self.project = Some(AuditProject::Id(id)),
            Fact::NamedProject(name) => self.project = Some(AuditProject::Name(name)),
            Fact::NewProject => self.is_new_project = true,
            Fact::Upload(id) => self.object = Some(AuditObject::Upload(id)),
            Fact::File(id) => self.object = Some(AuditObject::File(id)),
            Fact::Part(_) => {}
        }
    }
}
