//! Authentication by API key, before the body or any parameter of a request is read.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest, ResponseError as _};
use windlass_engine::model::{Caller, Grant, KeyRecord, Scope};
use windlass_engine::{self as engine, Service};
use windlass_types::{AnyPurpose, ProjectId, Purpose};

use super::api_key::{self, API_KEY};
use super::client_address;
use super::connection::activity::Activity;
use super::error::ApiError;
use super::subject::{Fact, note};
use super::wrong_keys::{TOO_MANY_WRONG_KEYS, WrongKeys};
use super::{rates, signed_urls};

/// The caller that [`authenticate`] has found.
fn authenticated(request: &HttpRequest) -> Result<Caller, ApiError> {
    request.extensions().get::<Caller>().copied().ok_or_else(ApiError::no_key)
}

/// Project that the request is for. As an argument of a handler, it proves that the request was authenticated.
#[derive(Clone, Copy)]
pub struct AuthenticatedProject(pub ProjectId);

impl FromRequest for AuthenticatedProject {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticated(request).map(|caller| Self(caller.project)))
    }
}

/// The caller of the request, for operations that need more than its project.
#[derive(Clone, Copy)]
pub struct AuthenticatedCaller(pub Caller);

impl FromRequest for AuthenticatedCaller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticated(request).map(Self))
    }
}

/// The purposes that the caller may give to new Files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AllowedPurposes {
    /// Those that OpenAI's clients may use.
    Client,
    /// All, for service keys.
    All,
}

impl AllowedPurposes {
    /// The purposes that this caller may use.
    pub fn of(caller: Caller) -> Self {
        if caller.is_service { Self::All } else { Self::Client }
    }

    /// Parses a purpose.
    ///
    /// # Errors
    /// A message that lists the allowed purposes.
    pub fn parse(self, text: &str) -> Result<AnyPurpose, String> {
        match self {
            Self::Client => {
                text.parse::<Purpose>().map(AnyPurpose::from).map_err(|error| format!("{error} - 'purpose'"))
            }
            Self::All => text.parse::<AnyPurpose>().map_err(|error| format!("{error} - 'purpose'")),
        }
    }
}

impl FromRequest for AllowedPurposes {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticated(request).map(Self::of))
    }
}

/// Header in which a service key's request names the project that it is for, as OpenAI's clients do.
const OPENAI_PROJECT: HeaderName = HeaderName::from_static("openai-project");

/// An additional header that names the project, such as one that a gateway sets to the name of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectHeader(HeaderName);

/// The error for a text that cannot be a [`ProjectHeader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be the name of a header, such as X-MaaS-Username, but not of one with another meaning for this service"
)]
pub struct BadProjectHeader;

impl FromStr for ProjectHeader {
    type Err = BadProjectHeader;

    fn from_str(text: &str) -> Result<Self, BadProjectHeader> {
        let header: HeaderName = text.parse().map_err(|_| BadProjectHeader)?;
        let has_other_meaning = [AUTHORIZATION, API_KEY, HOST, ORIGIN, CONTENT_TYPE, CONTENT_LENGTH].contains(&header);
        if has_other_meaning { Err(BadProjectHeader) } else { Ok(Self(header)) }
    }
}

/// Middleware that rejects requests without a valid key. `OPTIONS` is exempt: browsers send it without a key, and its
/// response contains nothing that is not in the OpenAPI document.
///
/// # Errors
/// Those of the handlers; an authentication error is a response.
pub async fn authenticate<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if request.method() == Method::OPTIONS {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    match admit(&request).await {
        Ok(caller) => {
            note(Fact::Project(caller.project));
            if caller.is_new_project {
                note(Fact::NewProject);
            }
            request.extensions_mut().insert(caller);
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(error) => Ok(request.into_response(error.error_response()).map_into_right_body()),
    }
}

/// Authenticates the key, counts the request for its rates, and only then authorizes the request, which may create a
/// project.
async fn admit(request: &ServiceRequest) -> Result<Caller, ApiError> {
    let service = request.app_data::<Data<Service>>().ok_or_else(ApiError::no_key)?;
    let key = known_key(request, service).await?;
    note(Fact::Key(key.id));
    if let Grant::Project(project) = key.grant {
        note(Fact::Project(project));
    }
    if let Some(activity) = request.conn_data::<Rc<Activity>>() {
        activity.trust();
    }
    rates::admit(request.request(), key.id, key.rates)?;
    let headers = request.headers();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD) || signed_urls::signs_download(request.path());
    let scope = if reads { Scope::Read } else { Scope::Write };
    let additional = request.app_data::<Data<ProjectHeader>>().map(|it| it.0.clone());
    let named = [OPENAI_PROJECT].into_iter().chain(additional).flat_map(|it| headers.get_all(it));
    // A value that is not text names no project, but must not be ignored.
    let projects: Vec<_> = named.map(|it| it.to_str().map(str::trim).unwrap_or_default()).collect();
    let authorized = service.authorize(&key, scope, &projects).await;
    if let Err(engine::Error::ProjectNotAllowed(name)) = &authorized
        && let Ok(name) = name.parse()
    {
        note(Fact::NamedProject(name));
    }
    Ok(authorized?)
}

/// Finds the key of a request, unless its address has sent too many wrong ones.
async fn known_key(request: &ServiceRequest, service: &Service) -> Result<Arc<KeyRecord>, ApiError> {
    let key = api_key::of(request.headers())?;
    let (hash, address) = (key.hash(), client_address::of(request));
    let wrong_keys = request.app_data::<Data<WrongKeys>>();
    if let Some(Err(wait)) = wrong_keys.map(|it| it.check(address, &hash, Instant::now())) {
        return Err(ApiError::rate_limited(wait, TOO_MANY_WRONG_KEYS));
    }
    let found = service.find_key(&key).await;
    if let (Some(wrong_keys), Ok(_) | Err(engine::Error::UnknownKey)) = (wrong_keys, &found) {
        wrong_keys.record(address, &hash, found.is_ok(), Instant::now());
    }
    Ok(found?)
}
