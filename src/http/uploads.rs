//! The operations on Uploads.

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Data, Json, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::answers::{ErrorBody, ListBody, PartBody, UploadBody};
use super::auth::Asker;
use super::body::{SmallBody, read_small};
use super::error::ApiError;
use super::form::Form;
use super::lists;
use super::query::Query;
use super::requests::{AddUploadPartForm, CompleteUploadBody, CreateUploadBody, OrderName, upload_id};
use crate::domain::{Limits, NewUpload};
use crate::service::{Error, Intake, Service};

/// Opens an Upload, to which parts can be added for an hour.
#[utoipa::path(
    post, path = "/uploads", tag = "Uploads", operation_id = "createUpload",
    request_body = CreateUploadBody,
    responses(
        (status = 200, description = "The Upload, pending.", body = UploadBody),
        (status = 400, description = "The request is invalid or exceeds a limit.", body = ErrorBody),
        (status = 408, description = "The body stalled.", body = ErrorBody),
    )
)]
pub async fn create_upload(service: Data<Service>, asker: Asker, body: Payload) -> Result<Json<UploadBody>, ApiError> {
    let declaration = CreateUploadBody::declaration(&read_small(body, &service, asker.0).await?.bytes)?;
    let new = NewUpload::new(declaration, service.limits()).map_err(Error::from)?;
    let upload = service.create_upload(asker.0, new).await?;
    Ok(Json(upload.into()))
}

/// Extension: the project's Uploads.
#[utoipa::path(
    get, path = "/uploads", tag = "Uploads", operation_id = "listUploads",
    extensions(("x-windlass-extension" = json!(true))),
    params(
        ("limit" = Option<i64>, Query, description = "1 to 10,000; the default is 10,000.", minimum = 1, maximum = 10_000),
        ("order" = Option<OrderName>, Query, description = "By `created_at`: `asc` or `desc`, which is the default."),
        ("after" = Option<String>, Query, description = "The id of the last Upload of the page before."),
    ),
    responses(
        (status = 200, description = "A page of Uploads.", body = ListBody<UploadBody>),
        (status = 400, description = "A parameter is invalid.", body = ErrorBody),
        (status = 404, description = "`after` is not in the list.", body = ErrorBody),
    )
)]
pub async fn list_uploads(
    service: Data<Service>,
    asker: Asker,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let page = Query::from(&request).page()?;
    let uploads = service.run_at_length(|it| it.list_uploads(asker.0, page)).await?;
    lists::answer::<UploadBody>(&request, &service, uploads)
}

/// Extension: an Upload in its current state.
#[utoipa::path(
    get, path = "/uploads/{upload_id}", tag = "Uploads", operation_id = "retrieveUpload",
    extensions(("x-windlass-extension" = json!(true))),
    params(("upload_id" = String, Path)),
    responses(
        (status = 200, description = "The Upload.", body = UploadBody),
        (status = 404, description = "The Upload was not found.", body = ErrorBody),
    )
)]
pub async fn retrieve_upload(
    service: Data<Service>,
    asker: Asker,
    id: Path<String>,
) -> Result<Json<UploadBody>, ApiError> {
    let id = upload_id(&id)?;
    let upload = service.run(|it| it.get_upload(asker.0, id)).await?;
    Ok(Json(upload.into()))
}

/// Extension: the parts that have arrived, the oldest first. A client that crashed can resume from them.
#[utoipa::path(
    get, path = "/uploads/{upload_id}/parts", tag = "Uploads", operation_id = "listUploadParts",
    extensions(("x-windlass-extension" = json!(true))),
    params(
        ("upload_id" = String, Path),
        ("limit" = Option<i64>, Query, description = "1 to 10,000; the default is 10,000.", minimum = 1, maximum = 10_000),
        ("after" = Option<String>, Query, description = "The id of the last part of the page before."),
    ),
    responses(
        (status = 200, description = "A page of parts.", body = ListBody<PartBody>),
        (status = 400, description = "A parameter is invalid.", body = ErrorBody),
        (status = 404, description = "The Upload was not found, or `after` is not in the list.", body = ErrorBody),
    )
)]
pub async fn list_upload_parts(
    service: Data<Service>,
    asker: Asker,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = upload_id(&id)?;
    let (after, limit) = {
        let query = Query::from(&request);
        (query.after()?, query.limit()?)
    };
    let parts = service.run_at_length(|it| it.list_parts(asker.0, id, after, limit)).await?;
    lists::answer::<PartBody>(&request, &service, parts)
}

/// Adds a part of up to 64 MiB. Parts may be added in parallel and in any order.
#[utoipa::path(
    post, path = "/uploads/{upload_id}/parts", tag = "Uploads", operation_id = "addUploadPart",
    params(("upload_id" = String, Path)),
    request_body(content = AddUploadPartForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The part, stored.", body = PartBody),
        (status = 400, description = "The Upload takes no more parts, or the part is too large or malformed.", body = ErrorBody),
        (status = 404, description = "The Upload was not found.", body = ErrorBody),
        (status = 408, description = "The body stalled.", body = ErrorBody),
        (status = 410, description = "The Upload has expired.", body = ErrorBody),
    )
)]
pub async fn add_upload_part(
    service: Data<Service>,
    asker: Asker,
    id: Path<String>,
    request: HttpRequest,
    body: Payload,
) -> Result<Json<PartBody>, ApiError> {
    let id = upload_id(&id)?;
    let limits = service.limits();
    let expected = content_length(&request);
    if expected.is_some_and(|it| it > limits.part_bytes.get() + Limits::FORM_OVERHEAD_BYTES) {
        return Err(Error::PartTooLarge(limits.part_bytes).into());
    }
    let mut intake = service.begin_part(asker.0, id, expected).await?;
    if let Err(error) = receive(&mut intake, &request, body, limits).await {
        intake.check_upload().await?;
        return Err(error);
    }
    Ok(Json(intake.finish().await?.into()))
}

async fn receive(intake: &mut Intake, request: &HttpRequest, body: Payload, limits: &Limits) -> Result<(), ApiError> {
    let mut form = Form::open(request, body, limits, limits.part_bytes.get(), &["data"])?;
    let Some(mut data) = form.next().await? else {
        return Err(ApiError::missing("data", "a file field with the bytes of the part"));
    };
    while let Some(bytes) = data.next().await? {
        intake.write(&bytes).await?;
    }
    drop(data);
    // Until the form's end has been seen, the part may have been cut off.
    form.next().await?;
    Ok(())
}

/// Makes the listed parts into a File. Repeating the same request returns the same File.
#[utoipa::path(
    post, path = "/uploads/{upload_id}/complete", tag = "Uploads", operation_id = "completeUpload",
    params(("upload_id" = String, Path)),
    request_body = CompleteUploadBody,
    responses(
        (status = 200, description = "The Upload, completed, with its File.", body = UploadBody),
        (status = 400, description = "The Upload has ended, or the parts do not fit.", body = ErrorBody),
        (status = 404, description = "The Upload was not found.", body = ErrorBody),
        (status = 408, description = "The body stalled.", body = ErrorBody),
        (status = 410, description = "The Upload has expired.", body = ErrorBody),
    )
)]
pub async fn complete_upload(
    service: Data<Service>,
    asker: Asker,
    id: Path<String>,
    body: Payload,
) -> Result<Json<UploadBody>, ApiError> {
    let id = upload_id(&id)?;
    let SmallBody { bytes, memory: _memory } = read_small(body, &service, asker.0).await?;
    let (order, md5) = CompleteUploadBody::parse(&bytes)?;
    // The parsed list of parts, for which the memory stays reserved, takes about as much as its text.
    drop(bytes);
    let upload = service.complete_upload(asker.0, id, order, md5).await?;
    Ok(Json(upload.into()))
}

/// Cancels an Upload. A body, if there is one, is ignored.
#[utoipa::path(
    post, path = "/uploads/{upload_id}/cancel", tag = "Uploads", operation_id = "cancelUpload",
    params(("upload_id" = String, Path)),
    responses(
        (status = 200, description = "The Upload, cancelled.", body = UploadBody),
        (status = 400, description = "The Upload has ended already.", body = ErrorBody),
        (status = 404, description = "The Upload was not found.", body = ErrorBody),
        (status = 410, description = "The Upload has expired.", body = ErrorBody),
    )
)]
pub async fn cancel_upload(
    service: Data<Service>,
    asker: Asker,
    id: Path<String>,
) -> Result<Json<UploadBody>, ApiError> {
    let id = upload_id(&id)?;
    let upload = service.run(|it| it.cancel_upload(asker.0, id)).await?;
    Ok(Json(upload.into()))
}

/// The length that the body declares, if it does; the HTTP library has validated it.
pub fn content_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
