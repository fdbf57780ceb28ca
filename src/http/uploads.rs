//! The operations on Uploads.

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use windlass_engine::model::NewUpload;
use windlass_engine::{Error, Outcome, PartIngest, Service};
use windlass_types::{
    CompleteUploadRequest, CreateAnyUploadRequest, CreateUploadRequest, ErrorResponse, ListObject, Order, PartObject,
    UploadObject,
};

use super::auth::{AllowedPurposes, AuthenticatedProject};
use super::body::{Body, SmallBody, read_small};
use super::error::ApiError;
use super::idempotency::{self, Key};
use super::json;
use super::lists;
use super::multipart_form::{ContentLimit, Form};
use super::query::Query;
use super::requests::{AddUploadPartForm, spec, upload_id};
use super::responses::ToObject as _;
use super::subject::{Fact, note};

/// Creates an Upload. Parts can be added to it for an hour.
#[utoipa::path(
    post, path = "/uploads", tag = "Uploads", operation_id = "createUpload",
    request_body = CreateUploadRequest,
    responses(
        (status = 200, description = "The pending Upload.", body = UploadObject),
        (status = 400, description = "The request is invalid or exceeds a limit.", body = ErrorResponse),
        (status = 408, description = "The body stalled.", body = ErrorResponse),
    )
)]
pub async fn create_upload(
    service: Data<Service>,
    project: AuthenticatedProject,
    purposes: AllowedPurposes,
    key: Key,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    service.admit_upload(project.0)?;
    let body = read_small(body, &service, project.0).await?;
    let request = match purposes {
        AllowedPurposes::Client => json::read::<CreateUploadRequest>(&body.bytes)?.into(),
        AllowedPurposes::All => json::read::<CreateAnyUploadRequest>(&body.bytes)?,
    };
    let new = NewUpload::new(spec(request), service.limits()).map_err(Error::from)?;
    let outcome = match key.once() {
        None => Outcome::Created(service.create_upload(project.0, new).await?),
        Some(once) => service.create_upload_once(project.0, new, once).await?,
    };
    note(Fact::Upload(match &outcome {
        Outcome::Created(upload) => upload.id,
        Outcome::Repeated { id, .. } => (*id).into(),
    }));
    Ok(idempotency::respond(outcome))
}

/// Extension: lists the project's Uploads.
#[utoipa::path(
    get, path = "/uploads", tag = "Uploads", operation_id = "listUploads",
    extensions(("x-windlass-extension" = json!(true))),
    params(
        ("limit" = Option<i64>, Query, description = "1 to 10,000; defaults to 10,000.", minimum = 1, maximum = 10_000),
        ("order" = Option<Order>, Query, description = "By `created_at`: `asc`, or `desc` (the default)."),
        ("after" = Option<String>, Query, description = "The id of the last Upload of the previous page."),
    ),
    responses(
        (status = 200, description = "A page of Uploads.", body = ListObject<UploadObject>),
        (status = 400, description = "A parameter is invalid.", body = ErrorResponse),
        (status = 404, description = "`after` is not in the list.", body = ErrorResponse),
    )
)]
pub async fn list_uploads(
    service: Data<Service>,
    project: AuthenticatedProject,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let page = Query::from(&request).page()?;
    let uploads = service.list_uploads(project.0, page).await?;
    lists::respond(&request, uploads)
}

/// Extension: returns an Upload.
#[utoipa::path(
    get, path = "/uploads/{upload_id}", tag = "Uploads", operation_id = "retrieveUpload",
    extensions(("x-windlass-extension" = json!(true))),
    params(("upload_id" = String, Path)),
    responses(
        (status = 200, description = "The Upload.", body = UploadObject),
        (status = 404, description = "The Upload was not found.", body = ErrorResponse),
    )
)]
pub async fn retrieve_upload(
    service: Data<Service>,
    project: AuthenticatedProject,
    id: Path<String>,
) -> Result<Json<UploadObject>, ApiError> {
    let id = upload_id(&id)?;
    note(Fact::Upload(id));
    let upload = service.get_upload(project.0, id).await?;
    Ok(Json(upload.to_object()))
}

/// Extension: lists the stored parts, oldest first. A client can use them to resume an interrupted Upload.
#[utoipa::path(
    get, path = "/uploads/{upload_id}/parts", tag = "Uploads", operation_id = "listUploadParts",
    extensions(("x-windlass-extension" = json!(true))),
    params(
        ("upload_id" = String, Path),
        ("limit" = Option<i64>, Query, description = "1 to 10,000; defaults to 10,000.", minimum = 1, maximum = 10_000),
        ("after" = Option<String>, Query, description = "The id of the last part of the previous page."),
    ),
    responses(
        (status = 200, description = "A page of parts.", body = ListObject<PartObject>),
        (status = 400, description = "A parameter is invalid.", body = ErrorResponse),
        (status = 404, description = "The Upload was not found, or `after` is not in the list.", body = ErrorResponse),
    )
)]
pub async fn list_upload_parts(
    service: Data<Service>,
    project: AuthenticatedProject,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = upload_id(&id)?;
    note(Fact::Upload(id));
    let (after, limit) = {
        let query = Query::from(&request);
        (query.after()?, query.limit()?)
    };
    let parts = service.list_parts(project.0, id, after, limit).await?;
    lists::respond(&request, parts)
}

/// Adds a part of up to 64 MiB. Parts may be added in parallel and in any order.
#[utoipa::path(
    post, path = "/uploads/{upload_id}/parts", tag = "Uploads", operation_id = "addUploadPart",
    params(("upload_id" = String, Path)),
    request_body(content = AddUploadPartForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The stored part.", body = PartObject),
        (status = 400, description = "The Upload is not pending, or the part is invalid.", body = ErrorResponse),
        (status = 404, description = "The Upload was not found.", body = ErrorResponse),
        (status = 408, description = "The body stalled.", body = ErrorResponse),
        (status = 410, description = "The Upload has expired.", body = ErrorResponse),
    )
)]
pub async fn add_upload_part(
    service: Data<Service>,
    project: AuthenticatedProject,
    id: Path<String>,
    request: HttpRequest,
    key: Key,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let id = upload_id(&id)?;
    note(Fact::Upload(id));
    let limits = service.limits();
    let limit = ContentLimit { content: limits.part_bytes, error: Error::PartTooLarge };
    let expected = limit.declared_length(&request)?;
    let mut part = service.begin_part(project.0, id, expected, key.once()).await?;
    if let Err(error) = receive(&mut part, Form::open(&request, body, limits, &limit, &["data"])).await {
        part.check_upload().await?;
        return Err(error);
    }
    let outcome = part.finish().await?;
    note(Fact::Part(match &outcome {
        Outcome::Created(part) => part.id,
        Outcome::Repeated { id, .. } => (*id).into(),
    }));
    Ok(idempotency::respond(outcome))
}

async fn receive(part: &mut PartIngest, form: Result<Form, ApiError>) -> Result<(), ApiError> {
    let mut form = form?;
    let Some(mut data) = form.next().await? else {
        return Err(ApiError::missing("data", "a file field with the bytes of the part"));
    };
    while let Some(bytes) = data.next().await? {
        part.write(&bytes).await?;
    }
    drop(data);
    // Without the end of the form, the part may be truncated.
    form.next().await?;
    Ok(())
}

/// Creates a File from the listed parts. Repeating the same request returns the same File.
#[utoipa::path(
    post, path = "/uploads/{upload_id}/complete", tag = "Uploads", operation_id = "completeUpload",
    params(("upload_id" = String, Path)),
    request_body = CompleteUploadRequest,
    responses(
        (status = 200, description = "The completed Upload with its File.", body = UploadObject),
        (status = 400, description = "The Upload is not pending, or the parts do not match it.", body = ErrorResponse),
        (status = 404, description = "The Upload was not found.", body = ErrorResponse),
        (status = 408, description = "The body stalled.", body = ErrorResponse),
        (status = 410, description = "The Upload has expired.", body = ErrorResponse),
    )
)]
pub async fn complete_upload(
    service: Data<Service>,
    project: AuthenticatedProject,
    id: Path<String>,
    body: Body,
) -> Result<Json<UploadObject>, ApiError> {
    let id = upload_id(&id)?;
    note(Fact::Upload(id));
    let SmallBody { bytes, memory: _memory } = read_small(body, &service, project.0).await?;
    let CompleteUploadRequest { part_ids, md5 } = json::read(&bytes)?;
    // The memory stays reserved for the parsed list, which takes about as much as its text.
    drop(bytes);
    let upload = service.complete_upload(project.0, id, part_ids, md5).await?;
    Ok(Json(upload.to_object()))
}

/// Cancels an Upload. The body of the request is ignored.
#[utoipa::path(
    post, path = "/uploads/{upload_id}/cancel", tag = "Uploads", operation_id = "cancelUpload",
    params(("upload_id" = String, Path)),
    responses(
        (status = 200, description = "The cancelled Upload.", body = UploadObject),
        (status = 400, description = "The Upload is not pending.", body = ErrorResponse),
        (status = 404, description = "The Upload was not found.", body = ErrorResponse),
        (status = 410, description = "The Upload has expired.", body = ErrorResponse),
    )
)]
pub async fn cancel_upload(
    service: Data<Service>,
    project: AuthenticatedProject,
    id: Path<String>,
) -> Result<Json<UploadObject>, ApiError> {
    let id = upload_id(&id)?;
    note(Fact::Upload(id));
    let upload = service.cancel_upload(project.0, id).await?;
    Ok(Json(upload.to_object()))
}
