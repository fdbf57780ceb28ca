//! What is exported of spans: names and attributes of OpenTelemetry's semantic conventions. Only the fields that are
//! listed here are exported, so that no text from a client can be.

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents};

/// The name of a request's span.
pub(super) const REQUEST: &str = "request";

/// The attribute with the status of a response.
pub(super) const STATUS: &str = "http.response.status_code";

/// Fields of spans, and the attributes that they become.
const ATTRIBUTES: [(&str, &str); 15] = [
    ("id", "windlass.request.id"),
    ("method", "http.request.method"),
    ("route", "http.route"),
    (STATUS, STATUS),
    ("project.id", "windlass.project.id"),
    ("key.id", "windlass.key.id"),
    ("upload.id", "windlass.upload.id"),
    ("part.id", "windlass.part.id"),
    ("file.id", "windlass.file.id"),
    ("db.system.name", "db.system.name"),
    ("db.query.text", "db.query.text"),
    ("operation", "windlass.store.operation"),
    ("what", "windlass.wait.for"),
    ("failed", "windlass.failed"),
    ("error.type", "error.type"),
];

/// The methods that are named; any other is `_OTHER`, whatever the client sent.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// Routes without traces: probes and scrapes are frequent, and do nothing.
const UNTRACED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// The span as it is exported; `None` for one that is not.
pub(super) fn translated(mut span: SpanData) -> Option<SpanData> {
    let is_request = span.name == REQUEST;
    if !is_request && span.parent_span_id == SpanId::INVALID {
        return None;
    }
    let attributes = std::mem::take(&mut span.attributes);
    span.attributes = attributes.into_iter().filter_map(attribute).collect();
    span.events = SpanEvents::default();
    let text = |name: &str| find(&span, name).map(|it| it.as_str().into_owned());
    let (name, kind, failed) = match &*span.name {
        REQUEST => {
            let route = text("http.route");
            if route.as_deref().is_some_and(|it| UNTRACED.contains(&it)) {
                return None;
            }
            let method = text("http.request.method").filter(|it| it != "_OTHER").unwrap_or_else(|| "HTTP".to_owned());
            let name = route.map_or_else(|| method.clone(), |route| format!("{method} {route}"));
            (name, SpanKind::Server, matches!(find(&span, STATUS), Some(Value::I64(500..))))
        }
        "statement" => {
            let sql = text("db.query.text").unwrap_or_default();
            let word = sql.split_whitespace().next().unwrap_or("statement").to_lowercase();
            (format!("sql {word}"), SpanKind::Client, has_failed(&span))
        }
        "transaction" => ("sql transaction".to_owned(), SpanKind::Client, has_failed(&span)),
        "store" => {
            let operation = text("windlass.store.operation").unwrap_or_default();
            (format!("store {operation}"), SpanKind::Client, has_failed(&span))
        }
        "wait" => {
            let what = text("windlass.wait.for").unwrap_or_default();
            (format!("wait for {what}"), SpanKind::Internal, false)
        }
        _ => return None,
    };
    (span.name, span.span_kind) = (name.into(), kind);
    if failed {
        span.status = Status::error("");
    }
    Some(span)
}

fn has_failed(span: &SpanData) -> bool {
    find(span, "windlass.failed").is_some()
}

fn find<'s>(span: &'s SpanData, name: &str) -> Option<&'s Value> {
    span.attributes.iter().find(|it| it.key.as_str() == name).map(|it| &it.value)
}

fn attribute(KeyValue { key, value, .. }: KeyValue) -> Option<KeyValue> {
    let (_, name) = ATTRIBUTES.iter().find(|it| it.0 == key.as_str())?;
    let is_unknown = *name == "http.request.method" && !METHODS.contains(&&*value.as_str());
    Some(KeyValue::new(Key::from_static_str(name), if is_unknown { "_OTHER".into() } else { value }))
}
