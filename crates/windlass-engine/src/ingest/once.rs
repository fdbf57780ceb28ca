//! Idempotent requests: those with an idempotency key create an object once, and return the same response when they are
//! repeated.
//!
//! The response is recorded in the transaction of the creation, so a crash leaves both or neither. Of concurrent
//! requests with the same key, all read their bodies; the first to commit creates the object, and the others, which wait
//! for its commit at the unique index, discard theirs and return its response. So no request holds a lock while it reads
//! a body. A request whose key is known before its body is read only compares the content.

use std::time::Duration;

use uuid::Uuid;
use windlass_types::{IdempotencyKey, ProjectId, Sha256};

use crate::db::{Tx, idempotency};
use crate::error::{Error, Result};
use crate::failpoints::CrashPoint;
use crate::model::{Answer, DigestAlgorithm, Fingerprint, NewAnswer, RunningDigests};
use crate::service::Service;

/// How long a response is returned again.
const RETENTION: Duration = Duration::from_hours(24);

/// The key of an idempotent request that creates a `T`, and how its response is rendered.
#[derive(Debug, Clone)]
pub struct Once<T> {
    /// The key that the client sent.
    pub key: IdempotencyKey,
    /// Renders the body of the response.
    pub render: fn(&T) -> serde_json::Result<String>,
}

/// The result of a request that may have an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The request created this.
    Created(T),
    /// An earlier request with the same key created something.
    Repeated {
        /// Its id.
        id: Uuid,
        /// The body of the response.
        response: String,
    },
}

/// An idempotent request whose content is being received.
pub(crate) struct OnceIngest<T> {
    once: Once<T>,
    content: RunningDigests,
    answer: Option<Answer>,
}

/// An idempotent request that has been received completely.
#[derive(Debug, Clone)]
pub(crate) struct OnceRequest<T> {
    once: Once<T>,
    fingerprint: Fingerprint,
    answer: Option<Answer>,
}

impl<T> OnceIngest<T> {
    /// Whether there is a response to return, so that the content need not be stored.
    pub(crate) fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// Looks for a response again, which a concurrent request may have recorded meanwhile.
    pub(crate) async fn find_answer(&mut self, service: &Service, project: ProjectId) -> Result<bool> {
        self.answer = idempotency::find(&service.db, project, &self.once.key).await?;
        Ok(self.is_answered())
    }

    /// Adds the next bytes of the content.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.content.update(bytes);
    }

    /// The request, identified by its fields and its content.
    pub(crate) fn finish(self, identify: impl FnOnce(Sha256) -> Fingerprint) -> Result<OnceRequest<T>> {
        let Self { once, content, answer } = self;
        let content =
            content.finish().sha256.ok_or(Error::Bug("the content of an idempotent request is not hashed"))?;
        Ok(OnceRequest { once, fingerprint: identify(content), answer })
    }
}

impl<T> OnceRequest<T> {
    /// The response of the earlier request, if there was one before this request's body was read.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if it was another request.
    pub(crate) fn repeated(&mut self) -> Result<Option<Outcome<T>>> {
        self.answer.take().map(|it| self.repeat(it)).transpose()
    }

    /// The outcome of the creation: also the response of a concurrent request that was faster.
    pub(crate) fn outcome(&self, created: Result<T>) -> Result<Outcome<T>> {
        match created {
            Ok(created) => Ok(Outcome::Created(created)),
            Err(Error::AnsweredBefore(answer)) => self.repeat(*answer),
            Err(error) => Err(error),
        }
    }

    fn repeat(&self, answer: Answer) -> Result<Outcome<T>> {
        let Answer { fingerprint, created: id, response } = answer;
        let is_same = fingerprint == self.fingerprint.as_ref();
        if is_same { Ok(Outcome::Repeated { id, response }) } else { Err(Error::KeyReused) }
    }
}

impl Service {
    /// Begins an idempotent request whose content is hashed.
    pub(crate) async fn begin_once<T>(&self, project: ProjectId, once: Once<T>) -> Result<OnceIngest<T>> {
        let key = once.key.clone();
        let answer = self.run(move |it| async move { Ok(idempotency::find(&it.db, project, &key).await?) }).await?;
        Ok(OnceIngest { once, content: RunningDigests::by([DigestAlgorithm::Sha256]), answer })
    }

    /// Begins an idempotent request without content.
    pub(crate) async fn begin_once_without_content<T>(
        &self,
        project: ProjectId,
        once: Once<T>,
        fingerprint: Fingerprint,
    ) -> Result<OnceRequest<T>> {
        let OnceIngest { once, answer, .. } = self.begin_once(project, once).await?;
        Ok(OnceRequest { once, fingerprint, answer })
    }

    /// The outcome of a creation. One that was refused because of a quota may have been refused because of an earlier
    /// request with the same key, which has been answered meanwhile.
    pub(crate) async fn outcome_of_once<T>(
        &self,
        project: ProjectId,
        request: &OnceRequest<T>,
        created: Result<T>,
    ) -> Result<Outcome<T>> {
        if matches!(created, Err(Error::Quota(_)))
            && let Some(answer) = idempotency::find(&self.db, project, &request.once.key).await?
        {
            return request.repeat(answer);
        }
        request.outcome(created)
    }

    /// Records the response to a request that has created `object`, in the same transaction, right before its commit.
    ///
    /// # Errors
    /// [`Error::AnsweredBefore`] if another request with the same key was faster: then the transaction must not be
    /// committed.
    pub(crate) async fn record_answer<T>(
        &self,
        tx: &mut Tx,
        project: ProjectId,
        request: &OnceRequest<T>,
        id: Uuid,
        object: &T,
    ) -> Result<()> {
        let OnceRequest { once: Once { key, render }, fingerprint, .. } = request;
        let response = render(object).map_err(|_| Error::Bug("a response cannot be serialized"))?;
        let new = NewAnswer { key, fingerprint: *fingerprint, created: id, response };
        if !idempotency::insert(tx, project, &new, RETENTION).await? {
            // It may have expired between the two statements; a retry finds that.
            let answer = idempotency::find(&mut *tx, project, key).await?.ok_or(Error::Busy)?;
            // An earlier attempt of this request may have been committed.
            if answer.created != id {
                return Err(Error::AnsweredBefore(Box::new(answer)));
            }
        }
        CrashPoint::AnswerRecorded.passed();
        Ok(())
    }
}
