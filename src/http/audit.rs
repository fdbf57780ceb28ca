//! The audit trail of requests: which operations are recorded as what, and when. An event is committed before the
//! response is sent; if it cannot be, the response is 503 (docs/audit.md).

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{FORWARDED, HeaderMap, USER_AGENT, X_FORWARDED_FOR};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, ResponseError as _};
use uuid::Uuid;
use windlass_engine::Service;
use windlass_engine::model::{AuditAction as Action, AuditEvent, AuditObject, AuditOrigin, AuditOutcome as Outcome};

use super::access_log::RequestId;
use super::client_address;
use super::error::ApiError;
use super::request_metrics::Operation;
use super::subject::{Subject, with_subject};

/// What is recorded of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    /// Every request.
    As(Action),
    /// Only a request that is denied. Others take effect only through another operation, which is recorded.
    IfDenied(Action),
}

/// Every operation that needs a key or a signed URL. `HEAD` is recorded as `GET`, unless it has a row of its own.
const OPERATIONS: &[(&str, &str, Recorded)] = &[
    ("POST", "/v1/uploads", Recorded::As(Action::UploadCreate)),
    ("GET", "/v1/uploads", Recorded::As(Action::UploadList)),
    ("GET", "/v1/uploads/{id}", Recorded::As(Action::UploadRetrieve)),
    ("GET", "/v1/uploads/{id}/parts", Recorded::As(Action::UploadListParts)),
    ("POST", "/v1/uploads/{id}/parts", Recorded::IfDenied(Action::UploadAddPart)),
    ("POST", "/v1/uploads/{id}/complete", Recorded::As(Action::UploadComplete)),
    ("POST", "/v1/uploads/{id}/cancel", Recorded::As(Action::UploadCancel)),
    ("POST", "/v1/files", Recorded::As(Action::FileCreate)),
    ("GET", "/v1/files", Recorded::As(Action::FileList)),
    ("GET", "/v1/files/{id}", Recorded::As(Action::FileRetrieve)),
    ("DELETE", "/v1/files/{id}", Recorded::As(Action::FileDelete)),
    ("GET", "/v1/files/{id}/content", Recorded::As(Action::FileRead)),
    ("HEAD", "/v1/files/{id}/content", Recorded::As(Action::FileRetrieve)),
    ("POST", "/v1/files/{id}/signed_url", Recorded::As(Action::SignedUrlCreate)),
    ("POST", "/v1/files/signed_url", Recorded::As(Action::SignedUrlCreate)),
    ("GET", "/v1/usage", Recorded::As(Action::UsageRetrieve)),
    ("GET", "/signed/{token}", Recorded::As(Action::FileRead)),
    ("HEAD", "/signed/{token}", Recorded::As(Action::FileRetrieve)),
    ("PUT", "/signed/{token}", Recorded::As(Action::FileCreate)),
    ("GET", "/signed/{token}/{name}", Recorded::As(Action::FileRead)),
    ("HEAD", "/signed/{token}/{name}", Recorded::As(Action::FileRetrieve)),
    ("PUT", "/signed/{token}/{name}", Recorded::As(Action::FileCreate)),
];

impl Recorded {
    fn of(method: &str, route: &str) -> Option<Self> {
        let row = |method: &str| OPERATIONS.iter().find(|it| (it.0, it.1) == (method, route)).map(|it| it.2);
        row(method).or_else(|| if method == "HEAD" { row("GET") } else { None })
    }

    /// The operation that a request is for. As in the router, its path is the decoded one.
    fn of_request(request: &ServiceRequest) -> Option<Self> {
        let pattern = request.resource_map().match_pattern(request.match_info().as_str());
        let operation = Operation::new(request.method(), pattern.as_deref());
        let (method, route) = operation.names();
        Self::of(method, route)
    }
}

/// Middleware that records a request in the audit trail, if there is one.
///
/// # Errors
/// Those of the handlers; a request that cannot be recorded has an error response.
pub async fn record<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let Some(mut audited) = Audited::of(&request) else {
        return Ok(next.call(request).await?.map_into_left_body());
    };
    let response = with_subject(Rc::clone(&audited.subject), next.call(request)).await;
    let status =
        response.as_ref().map_or_else(|error| error.as_response_error().status_code(), ServiceResponse::status);
    if response.as_ref().is_ok_and(|it| is_overload(it.response().error())) {
        audited.is_recorded = true;
        return Ok(response?.map_into_left_body());
    }
    let events = audited.events(Some(status));
    if events.is_empty() {
        return Ok(response?.map_into_left_body());
    }
    match audited.service.record_audit(events).await {
        Ok(()) => Ok(response?.map_into_left_body()),
        Err(error) => Ok(response?.into_response(ApiError::from(error).error_response()).map_into_right_body()),
    }
}

/// Whether a request was refused because of overload, which must take no statement.
fn is_overload(error: Option<&Error>) -> bool {
    error.and_then(Error::as_error::<ApiError>).is_some_and(ApiError::is_overload)
}

/// A request that has not been recorded yet. It is recorded on drop: then its client has disconnected.
struct Audited {
    service: Data<Service>,
    recorded: Recorded,
    subject: Rc<RefCell<Subject>>,
    origin: AuditOrigin,
    is_recorded: bool,
}

impl Audited {
    /// `None` if this request is not recorded.
    fn of(request: &ServiceRequest) -> Option<Self> {
        let service = request.app_data::<Data<Service>>().filter(|it| it.is_audited())?;
        let recorded = Recorded::of_request(request)?;
        let headers = request.headers();
        let origin = AuditOrigin {
            address: client_address::of(request),
            forwarded_for: forwarded_for(headers),
            request_id: request.extensions().get::<RequestId>().map(|it| it.0.clone()),
            user_agent: headers.get(USER_AGENT).and_then(|it| beginning(&String::from_utf8_lossy(it.as_bytes()))),
        };
        // A handler that is not reached cannot note it. The name at the end of a signed URL can be any text.
        let path = Some(request.match_info().as_str()).filter(|it| !it.starts_with("/signed/"));
        let object = path.and_then(|it| it.split('/').find_map(|it| it.parse::<AuditObject>().ok()));
        let subject = Rc::new(RefCell::new(Subject { object, ..Subject::default() }));
        Some(Self { service: service.clone(), recorded, subject, origin, is_recorded: false })
    }

    /// The events of the request; none if it need not be recorded. `None` stands for a response that does not exist.
    fn events(&mut self, status: Option<StatusCode>) -> Vec<AuditEvent> {
        self.is_recorded = true;
        let Subject { actor, project, is_new_project, object } = mem::take(&mut *self.subject.borrow_mut());
        let outcome = outcome(status);
        let (action, is_due) = match self.recorded {
            Recorded::As(action) => (action, status != Some(StatusCode::TOO_MANY_REQUESTS)),
            Recorded::IfDenied(action) => (action, outcome == Outcome::Denied),
        };
        // Without a valid key or URL, anyone could fill the table.
        let Some(actor) = actor.filter(|_| is_due || is_new_project) else { return Vec::new() };
        let origin = mem::take(&mut self.origin);
        let event = AuditEvent {
            id: Uuid::now_v7(),
            action,
            outcome,
            status: status.map(|it| it.as_u16()),
            actor,
            project,
            object,
            origin,
        };
        let new_project = is_new_project.then(|| AuditEvent {
            id: Uuid::now_v7(),
            action: Action::ProjectCreate,
            outcome: Outcome::Ok,
            status: None,
            object: None,
            ..event.clone()
        });
        new_project.into_iter().chain(is_due.then_some(event)).collect()
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        if !self.is_recorded {
            let events = self.events(None);
            if !events.is_empty() {
                self.service.record_audit_in_background(events);
            }
        }
    }
}

fn outcome(status: Option<StatusCode>) -> Outcome {
    match status {
        None => Outcome::Unknown,
        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Outcome::Denied,
        Some(status) if status.is_client_error() || status.is_server_error() => Outcome::Failed,
        Some(_) => Outcome::Ok,
    }
}

fn beginning(text: &str) -> Option<String> {
    let text = &text[..text.floor_char_boundary(AuditOrigin::MAX_BYTES)];
    (!text.is_empty()).then(|| text.to_owned())
}

/// With several proxies, the end is what the last one added.
fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let all =
        |name| headers.get_all(name).map(|it| String::from_utf8_lossy(it.as_bytes())).collect::<Vec<_>>().join(", ");
    let text = Some(all(X_FORWARDED_FOR)).filter(|it| !it.is_empty()).unwrap_or_else(|| all(FORWARDED));
    let end = &text[text.ceil_char_boundary(text.len().saturating_sub(AuditOrigin::MAX_BYTES))..];
    (!end.is_empty()).then(|| end.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::http::header::{HeaderName, HeaderValue};
    use windlass_engine::model::Limits;

    use super::*;
    use crate::http::document;

    /// What needs neither a key nor a signed URL.
    const WITHOUT_KEY: [&str; 4] = ["/livez", "/readyz", "/metrics", "/openapi.json"];

    #[test]
    fn every_operation_has_an_action_and_every_action_of_a_request_has_an_operation() {
        let document = serde_json::to_value(document(&Limits::default())).unwrap();
        let mut documented = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let route = path.replace("{upload_id}", "{id}").replace("{file_id}", "{id}");
            for method in methods.as_object().unwrap().keys().map(|it| it.to_uppercase()) {
                let route = if WITHOUT_KEY.contains(&route.as_str()) { route.clone() } else { format!("/v1{route}") };
                let has_action = Recorded::of(&method, &route).is_some();
                assert_eq!(has_action, !WITHOUT_KEY.contains(&route.as_str()), "{method} {route}");
                documented.insert((method, route));
            }
        }
        assert!(documented.len() > 20, "{documented:?}");
        for (method, route, _) in OPERATIONS.iter().filter(|it| !it.1.starts_with("/signed/")) {
            assert!(documented.contains(&((*method).to_owned(), (*route).to_owned())), "{method} {route}");
        }
    }

    #[test]
    fn the_texts_of_headers_are_bounded() {
        let (long, mut headers) = ("é".repeat(200), HeaderMap::new());
        assert_eq!(forwarded_for(&headers), None);
        headers.append(FORWARDED, HeaderValue::from_static("for=192.0.2.1"));
        assert_eq!(forwarded_for(&headers).as_deref(), Some("for=192.0.2.1"));
        headers.append(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_bytes(long.as_bytes()).unwrap());
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.2"));
        let end = forwarded_for(&headers).unwrap();
        assert!(end.len() <= 256 && end.ends_with("éé, 192.0.2.2"), "{end}");
        assert_eq!(beginning(&long).unwrap(), "é".repeat(128));
        assert_eq!(beginning(""), None);
    }
}
