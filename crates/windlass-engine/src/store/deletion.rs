//! Deletes objects of a bucket: in bulk if the store supports it, otherwise one by one.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore};
use windlass_types::ErrorChain;

use super::bucket::S3;
use super::explanation::status;
use crate::spawn::spawn;

/// Objects that could not be deleted, and the errors.
pub(super) type Failures = Vec<(Path, Error)>;

/// Deletes objects. Missing objects count as deleted.
pub(super) async fn delete(objects: &Arc<dyn ObjectStore>, s3: Option<&S3>, paths: Vec<Path>) -> Failures {
    let Some(s3) = s3 else { return at_once(Arc::clone(objects), paths).await.into_failures() };
    if s3.has_no_bulk_delete() {
        return one_by_one(&*s3.singly, paths).await;
    }
    // `object_store` panics if the response contains a key that was not in the request.
    let many = spawn(at_once(Arc::clone(objects), paths.clone())).await;
    let Outcome { left, mut failed, error } = many.unwrap_or_else(|_| Outcome {
        left: paths.into_iter().collect(),
        failed: Failures::new(),
        error: Some(Error::Generic { store: "S3", source: "malformed DeleteObjects response".into() }),
    });
    match error {
        Some(error) if !left.is_empty() && is_refusal(&error) => {
            let requested = left.len();
            let singly = one_by_one(&*s3.singly, left.into_iter().collect()).await;
            if singly.len() < requested {
                s3.record_no_bulk_delete(&error);
            }
            failed.extend(singly);
            failed
        }
        error => Outcome { left, failed, error }.into_failures(),
    }
}

/// The result of a bulk request.
struct Outcome {
    /// Objects missing from the response.
    left: HashSet<Path>,
    /// Objects with an error in the response.
    failed: Failures,
    /// The error of the request as a whole.
    error: Option<Error>,
}

impl Outcome {
    fn into_failures(self) -> Failures {
        let reason = self.error.map_or_else(|| "not confirmed".to_owned(), |it| ErrorChain(&it).to_string());
        let left = self.left.into_iter().map(|it| {
            let source = reason.clone().into();
            (it, Error::Generic { store: "delete", source })
        });
        self.failed.into_iter().chain(left).collect()
    }
}

async fn at_once(objects: Arc<dyn ObjectStore>, paths: Vec<Path>) -> Outcome {
    let mut outcome = Outcome { left: paths.iter().cloned().collect(), failed: Failures::new(), error: None };
    let mut results = objects.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
    while let Some(result) = results.next().await {
        match result {
            Ok(path) => drop(outcome.left.remove(&path)),
            // `path` is a key, and must not be percent-encoded again.
            Err(Error::NotFound { path, .. }) if Path::parse(&path).is_ok_and(|it| outcome.left.remove(&it)) => {}
            Err(error) => match named(&error).filter(|it| outcome.left.remove(it)) {
                Some(path) => outcome.failed.push((path, error)),
                None => outcome.error = Some(error),
            },
        }
    }
    outcome
}

async fn one_by_one(store: &dyn ObjectStore, paths: Vec<Path>) -> Failures {
    let results = store.delete_stream(stream::iter(paths.clone().into_iter().map(Ok)).boxed());
    // The results are in the order of the paths.
    let results = stream::iter(paths).zip(results);
    results
        .filter_map(async |(path, result)| match result {
            Ok(_) | Err(Error::NotFound { .. }) => None,
            Err(error) => Some((path, error)),
        })
        .collect()
        .await
}

/// The object that an error of a bulk request concerns, which is only available in its text.
fn named(error: &Error) -> Option<Path> {
    let text = error.to_string();
    let (_, rest) = text.split_once("failed for key ")?;
    Path::parse(rest.split_once(": ")?.0).ok()
}

/// Whether the store rejects the request permanently, so that a retry would fail as well.
fn is_refusal(error: &Error) -> bool {
    let text = ErrorChain(error).to_string();
    match status(&text) {
        Some(501) => true,
        Some(status) => (400..500).contains(&status) && !matches!(status, 408 | 429),
        None => text.contains("invalid DeleteObjects response") || text.contains("malformed DeleteObjects response"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn permanent_rejections_are_distinguished_from_transient_errors() {
        for (text, expected) in [
            ("Server returned non-2xx status code: 501 Not Implemented: ", true),
            ("Server returned non-2xx status code: 403 Forbidden: ", true),
            ("Server returned non-2xx status code: 405 Method Not Allowed: ", true),
            ("Got invalid DeleteObjects response: x", true),
            ("Server returned non-2xx status code: 503 Service Unavailable: ", false),
            ("Server returned non-2xx status code: 429 Too Many Requests: ", false),
            ("HTTP error: connection refused", false),
        ] {
            assert_eq!(is_refusal(&error(text)), expected, "{text}");
        }
    }

    #[test]
    fn the_key_is_extracted_from_the_text_of_an_error() {
        let failure =
            error("DeleteObjects request failed for key a b/parts/00/part_1: Locked: by law (code: AccessDenied)");
        assert_eq!(named(&failure), Path::parse("a b/parts/00/part_1").ok());
        assert_eq!(named(&error("something else")), None);
    }
}
