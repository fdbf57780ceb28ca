//! The `OpenAPI` document, generated from the handlers and the wire types. What every operation has in common, and
//! what depends on the settings, is added here.

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::web::Data;
use bytes::Bytes;
use utoipa::OpenApi;
use utoipa::openapi::encoding::Encoding;
use utoipa::openapi::path::{Operation, ParameterStyle, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Header, HeaderBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Schema, Type,
};

use super::requests::{OrderName, PurposeFilterName};
use super::{content, files, uploads};
use crate::domain::Limits;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Windlass",
        description = "OpenAI's Uploads and Files API on your own Postgres and storage. What is not in OpenAI's contract is marked as an extension.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers(
        (url = "/v1"),
        (url = "/openai/v1", description = "The same for clients of Azure OpenAI."),
        (url = "/openai", description = "The same for older clients of Azure OpenAI, whose `api-version` is ignored."),
    ),
    security(("ApiKeyAuth" = []), ("AzureApiKeyAuth" = [])),
    tags((name = "Uploads", description = "Large files, in parts."), (name = "Files", description = "The finished files.")),
    components(schemas(OrderName, PurposeFilterName)),
    paths(
        uploads::create_upload, uploads::list_uploads, uploads::retrieve_upload, uploads::add_upload_part,
        uploads::list_upload_parts, uploads::complete_upload, uploads::cancel_upload,
        files::create_file, files::list_files, files::retrieve_file, files::delete_file, content::download_file,
    ),
)]
struct Document;

/// A response that every operation may give.
struct Common {
    status: &'static str,
    name: &'static str,
    description: &'static str,
    /// The name and the meaning of a header of its own.
    header: Option<(&'static str, &'static str)>,
}

const COMMON: [Common; 5] = [
    Common { status: "400", name: "BadRequest", description: "The request is invalid.", header: None },
    Common {
        status: "401",
        name: "Unauthorized",
        description: "The key is missing, unknown or revoked, or two headers carry different keys.",
        header: Some(("www-authenticate", "The scheme of the key: `Bearer`.")),
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

/// The document of a service with these limits.
pub fn document(limits: &Limits) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key.")).build();
    let azure = ApiKeyValue::with_description("api-key", "An API key, as clients of Azure OpenAI send it.");
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

/// The document in JSON, rendered once.
pub struct Rendered(Bytes);

impl Rendered {
    /// Renders it.
    ///
    /// # Errors
    /// None in practice: every value in it has a form in JSON.
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

/// Adds the constraints that the derived schemas cannot express.
fn bound(components: &mut Components, limits: &Limits) {
    if let Some(RefOr::T(Schema::Object(bytes))) = property(components, "CreateUploadRequest", "bytes") {
        bytes.maximum = Some(limits.upload_bytes.get().into());
    }
    if let Some(RefOr::T(Schema::Array(part_ids))) = property(components, "CompleteUploadRequest", "part_ids") {
        part_ids.unique_items = true;
    }
}

fn property<'c>(components: &'c mut Components, schema: &str, name: &str) -> Option<&'c mut RefOr<Schema>> {
    match components.schemas.get_mut(schema)? {
        RefOr::T(Schema::Object(object)) => object.properties.get_mut(name),
        RefOr::T(_) | RefOr::Ref(_) => None,
    }
}

/// Documents `HEAD` like `GET`, except for the body and the ranges, which only `GET` has (RFC 9110, 14.2).
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

/// Adds what every operation has in common.
fn complete(path: &mut PathItem) {
    for operation in [&mut path.get, &mut path.post, &mut path.delete, &mut path.head].into_iter().flatten() {
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

/// In a form, the members of an object are fields with names such as `expires_after[seconds]`.
fn put_in_brackets(form: &mut Operation, object: &str) {
    if let Some(RefOr::T(body)) = &mut form.request_body
        && let Some(RefOr::T(content)) = body.content.get_mut("multipart/form-data")
    {
        let brackets = Encoding::builder().style(Some(ParameterStyle::DeepObject)).explode(Some(true)).build();
        content.encoding.insert(object.to_owned(), brackets);
    }
}
