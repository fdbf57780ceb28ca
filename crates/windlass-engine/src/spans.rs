//! Spans for traces: what an operation does, and what it waits for. They are children of the operation's span, and there are
//! none outside of an operation, or while traces are off. They are never entered, so log lines do not have their fields.

use tracing::field::Empty;
use tracing::{Level, Span};

/// The target of these spans, which no log filter enables by default.
pub const TARGET: &str = "windlass::spans";

/// Creates a span with these fields, and `failed` to be recorded later.
macro_rules! child {
    ($name:literal, $($fields:tt)*) => {
        if is_wanted() {
            tracing::trace_span!(target: TARGET, $name, failed = Empty, $($fields)*)
        } else {
            Span::none()
        }
    };
}

/// Whether traces are on, and this is part of an operation.
fn is_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::TRACE) && !Span::current().is_none()
}

/// A statement outside of a transaction. Its text has no values, which are arguments.
pub(crate) fn statement(sql: &str) -> Span {
    child!("statement", db.system.name = "postgresql", db.query.text = sql)
}

/// A transaction, from its begin to its end.
pub(crate) fn transaction() -> Span {
    child!("transaction", db.system.name = "postgresql")
}

/// A statement of a transaction.
pub(crate) fn statement_of(transaction: &Span, sql: &str) -> Span {
    if transaction.is_none() {
        return Span::none();
    }
    tracing::trace_span!(
        target: TARGET, parent: transaction, "statement", failed = Empty, db.system.name = "postgresql",
        db.query.text = sql
    )
}

/// An operation of the store.
pub(crate) fn store(operation: &'static str) -> Span {
    child!("store", operation = operation)
}

/// Waiting for something that other operations use.
pub(crate) fn wait(what: &'static str) -> Span {
    child!("wait", what = what)
}

/// Runs work for as long as a span lasts, and records in it whether the work failed.
pub(crate) async fn recorded<T, E>(span: Span, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let result = work.await;
    if result.is_err() {
        fail(&span);
    }
    result
}

/// Records a failure.
pub(crate) fn fail(span: &Span) {
    span.record("failed", true);
}
