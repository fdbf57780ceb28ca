//! The `OpenAPI` document. It is generated from the handlers and the wire types; this module adds what all operations
//! have in common and what depends on the settings.

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::web::Data;
use bytes::Bytes;
use utoipa::OpenApi;
use utoipa::openapi::encoding::Encoding;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, ParameterStyle, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Header, HeaderBuilder, Object, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
    Type,
};
use windlass_engine::model::Limits;
use windlass_types::{AnyPurpose, IdempotencyKey, Order};

use super::{download, files, signed_urls, uploads, usage};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Windlass",
        description = "OpenAI's Uploads and Files API on your own Postgres and storage. Anything that is not part of OpenAI's API is marked as an extension.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers(
        (url = "/v1"),
        (url = "/openai/v1", description = "The same API for clients of Azure OpenAI."),
        (url = "/openai", description = "The same API for older clients of Azure OpenAI; `api-version` is ignored."),
    ),
    security(("ApiKeyAuth" = []), ("AzureApiKeyAuth" = [])),
    tags((name = "Uploads", description = "Large files, in parts."), (name = "Files", description = "The finished files."),
        (name = "Usage", description = "What a project uses.")),
    components(schemas(Order, AnyPurpose)),
    paths(
        uploads::create_upload, uploads::list_uploads, uploads::retrieve_upload, uploads::add_upload_part,
        uploads::list_upload_parts, uploads::complete_upload, uploads::cancel_upload,
        files::create_file, files::list_files, files::retrieve_file, files::delete_file, download::download_file,
        signed_urls::create_download_url, signed_urls::create_upload_url, usage::retrieve_usage,
    ),
)]
struct Document;

/// A response that every operation may return.
struct Common {
    status: &'static str,
    name: &'static str,
    description: &'static str,
    /// The name and the description of an additional header, if there is one.
    header: Option<(&'static str, &'static str)>,
}

const COMMON: [Common; 7] = [
    Common { status: "400", name: "BadRequest", description: "The request is invalid.", header: None },
    Common {
        status: "401",
        name: "Unauthorized",
        description: "The key is missing, unknown, revoked or expired, or two headers carry different keys.",
        header: Some(("www-authenticate", "The scheme of the key: `Bearer`.")),
    },
    Common {
        status: "403",
        name: "Forbidden",
        description: "The key lacks the scope for the operation, or may not act for the project.",
        header: None,
    },
    Common {
        status: "429",
        name: "TooManyRequests",
        description: "The key has sent too many requests or bytes, or the address too many wrong keys. Retry the request.",
        header: Some(("retry-after", "Seconds until the request should be retried.")),
    },
    Common {
        status: "431",
        name: "RequestHeadTooLarge",
        description: "The request line and the headers are too large.",
        header: None,
    },
    Common {
        status: "500",
        name: "InternalError",
        description: "Internal error; the server log has the details.",
        header: None,
    },
    Common {
        status: "503",
        name: "Unavailable",
        description: "The server cannot reach its storage, or has no memory or disk space left. Retry the request.",
        header: Some(("retry-after", "Seconds until the request should be retried.")),
    },
];

/// The OpenAPI document of a service with these limits.
pub fn document(limits: &Limits) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key.")).build();
    let azure = ApiKeyValue::with_description("api-key", "An API key, in the header of Azure OpenAI's clients.");
    components.add_security_scheme("ApiKeyAuth", SecurityScheme::Http(bearer));
    components.add_security_scheme("AzureApiKeyAuth", SecurityScheme::ApiKey(ApiKey::Header(azure)));
    components.headers.insert("RequestId".to_owned(), header("The id of the request in the server's log.").into());
    for common in &COMMON {
        components.responses.insert(common.name.to_owned(), common.response().into());
    }
    bound(components, limits);
    for path in document.paths.paths.values_mut() {
        path.head = path.get.as_ref().map(head);
        complete(path);
    }
    if let Some(create_file) = document.paths.paths.get_mut("/files").and_then(|it| it.post.as_mut()) {
        put_in_brackets(create_file, "expires_after");
    }
    document
}

/// The document, rendered as JSON once.
pub struct Rendered(Bytes);

impl Rendered {
    /// Renders the document of a service with these limits.
    ///
    /// # Errors
    /// None in practice: every value in the document can be represented in JSON.
    pub fn of(limits: &Limits) -> serde_json::Result<Self> {
        Ok(Self(serde_json::to_vec(&document(limits))?.into()))
    }
}

/// Serves the document.
pub async fn serve(document: Data<Rendered>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(document.0.clone())
}

fn header(description: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(description)).build()
}

impl Common {
    fn response(&self) -> Response {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorResponse"))).build();
        let response = ResponseBuilder::new().description(self.description).content("application/json", body);
        let own = self.header.into_iter();
        let mut response = own.fold(response, |it, (name, meaning)| it.header(name, header(meaning))).build();
        add_request_id(&mut response);
        response
    }
}

fn add_request_id(response: &mut Response) {
    response.headers.insert("x-request-id".to_owned(), RefOr::Ref(Ref::new("#/components/headers/RequestId")));
}

/// Adds the configured limits, which the derived schemas cannot express.
fn bound(components: &mut Components, limits: &Limits) {
    if let Some(RefOr::T(Schema::Object(bytes))) = property(components, "CreateUploadRequest", "bytes") {
        bytes.maximum = Some(limits.upload_bytes.get().into());
    }
    if let Some(RefOr::T(Schema::Object(bytes))) = property(components, "CreateUploadUrlRequest", "max_bytes") {
        bytes.maximum = Some(limits.file_bytes.get().into());
    }
}

fn property<'c>(components: &'c mut Components, schema: &str, name: &str) -> Option<&'c mut RefOr<Schema>> {
    match components.schemas.get_mut(schema)? {
        RefOr::T(Schema::Object(object)) => object.properties.get_mut(name),
        RefOr::T(_) | RefOr::Ref(_) => None,
    }
}

/// Derives the documentation of `HEAD` from `GET`, without the body and the ranges, which only `GET` has (RFC 9110,
/// section 14.2).
fn head(get: &Operation) -> Operation {
    let mut head = get.clone();
    head.operation_id = head.operation_id.map(|it| format!("{it}Head"));
    head.summary = Some("Extension: the headers of the response to `GET`.".to_owned());
    head.description = None;
    head.extensions.get_or_insert_default().insert("x-windlass-extension".to_owned(), true.into());
    if let Some(parameters) = &mut head.parameters {
        parameters.retain(|it| !matches!(it, RefOr::T(it) if ["range", "if-range"].contains(&it.name.as_str())));
    }
    head.responses.responses.retain(|status, _| !["206", "416"].contains(&status.as_str()));
    for common in &COMMON {
        head.responses.responses.insert(common.status.to_owned(), common.response().into());
    }
    for response in head.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    head
}

/// The headers with digests of a request's body.
const DIGESTS: [(&str, &str); 3] = [
    (
        "content-digest",
        "Extension: digests of the body (RFC 9530), by `sha-256`, `sha-512` or `md5`. A form field can have them, too.",
    ),
    ("repr-digest", "Extension: as `content-digest`, since the body is not encoded."),
    ("content-md5", "Extension: the MD5 of the body, in base64."),
];

/// The operations that a client can repeat with an idempotency key.
const IDEMPOTENT: [&str; 3] = ["createUpload", "addUploadPart", "createFile"];

/// Adds the headers that several operations have: digests of the body, and the idempotency key.
fn add_headers(operation: &mut Operation) {
    let string = || Object::builder().schema_type(Type::String);
    let optional = |name: &str, description: &str, schema: Object| {
        let header = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::False);
        header.description(Some(description)).schema(Some(schema)).build()
    };
    let parameters = operation.parameters.get_or_insert_default();
    if IDEMPOTENT.iter().any(|it| operation.operation_id.as_deref() == Some(it)) {
        let key = string().min_length(Some(1)).max_length(Some(IdempotencyKey::MAX_LENGTH)).pattern(Some("^[ -~]+$"));
        let description = "Extension: repeating the same request with the same key within 24 hours creates nothing, and \
                           has the same response.";
        parameters.push(optional("idempotency-key", description, key.build()).into());
        if let Some(RefOr::T(created)) = operation.responses.responses.get_mut("200") {
            let replayed = header("Extension: `true` if the response is that of an earlier request with the same key.");
            created.headers.insert("idempotent-replayed".to_owned(), replayed.into());
        }
    }
    if operation.request_body.is_some() {
        let digests = DIGESTS.map(|(name, description)| optional(name, description, string().build()).into());
        parameters.extend(digests);
    }
}

/// Adds the common headers and responses and the request id to every operation.
fn complete(path: &mut PathItem) {
    for operation in [&mut path.get, &mut path.post, &mut path.delete, &mut path.head].into_iter().flatten() {
        add_headers(operation);
        for common in &COMMON {
            let response = || RefOr::Ref(Ref::from_response_name(common.name));
            operation.responses.responses.entry(common.status.to_owned()).or_insert_with(response);
        }
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                add_request_id(response);
            }
        }
    }
}

/// Documents that the members of an object are form fields with names such as `expires_after[seconds]`.
fn put_in_brackets(form: &mut Operation, object: &str) {
    if let Some(RefOr::T(body)) = &mut form.request_body
        && let Some(RefOr::T(content)) = body.content.get_mut("multipart/form-data")
    {
        let brackets = Encoding::builder().style(Some(ParameterStyle::DeepObject)).explode(Some(true)).build();
        content.encoding.insert(object.to_owned(), brackets);
    }
}
