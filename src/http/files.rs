//! The operations on Files, but for their content.

use actix_web::web::{Data, Json, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::answers::{DeletedFileBody, ErrorBody, FileBody, ListBody};
use super::auth::Asker;
use super::error::ApiError;
use super::form::{Field, Form};
use super::lists;
use super::number::whole;
use super::query::Query;
use super::requests::{CreateFileForm, OrderName, PurposeFilterName, file_id, file_lifetime};
use super::uploads::content_length;
use crate::domain::{Declaration, FileLifetime, Filename, Limits, MimeType, Purpose};
use crate::service::{Error, FormIntake, Service};

const PURPOSE: &str = "purpose";
const FILE: &str = "file";
const ANCHOR: &str = "expires_after[anchor]";
const SECONDS: &str = "expires_after[seconds]";

/// Sends a file of up to 512 MiB in one request. The form's fields may come in any order.
#[utoipa::path(
    post, path = "/files", tag = "Files", operation_id = "createFile",
    request_body(content = CreateFileForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The File.", body = FileBody),
        (status = 400, description = "The request is invalid or exceeds a limit.", body = ErrorBody),
        (status = 408, description = "The body stalled.", body = ErrorBody),
        (status = 410, description = "The body took longer than the lifetime of an Upload.", body = ErrorBody),
    )
)]
pub async fn create_file(
    service: Data<Service>,
    asker: Asker,
    request: HttpRequest,
    body: Payload,
) -> Result<Json<FileBody>, ApiError> {
    let limits = service.limits();
    let expected = content_length(&request);
    if expected.is_some_and(|it| it > limits.file_bytes.get() + Limits::FORM_OVERHEAD_BYTES) {
        return Err(Error::FileTooLarge(limits.file_bytes).into());
    }
    let mut form = Form::open(&request, body, limits, limits.file_bytes.get(), &[PURPOSE, FILE, ANCHOR, SECONDS])?;
    let mut sent = SentFile::default();
    while let Some(field) = form.next().await? {
        match field.name() {
            FILE => sent.file = Some(receive(&service, asker, field, expected, sent.purpose).await?),
            PURPOSE => sent.purpose = Some(purpose(&field.text().await?)?),
            ANCHOR => sent.anchor = Some(field.text().await?),
            _ => sent.seconds = Some(seconds(&field.text().await?)?),
        }
    }
    Ok(Json(sent.finish().await?.into()))
}

/// The fields of a form that have been read so far.
#[derive(Default)]
struct SentFile {
    file: Option<(Filename, MimeType, FormIntake)>,
    purpose: Option<Purpose>,
    anchor: Option<String>,
    seconds: Option<i64>,
}

impl SentFile {
    async fn finish(self) -> Result<crate::domain::File, ApiError> {
        let (filename, mime_type, intake) = self.file.ok_or_else(|| ApiError::missing(FILE, "the file to be sent"))?;
        let purpose =
            self.purpose.ok_or_else(|| ApiError::missing(PURPOSE, "what the file is for, such as 'user_data'"))?;
        let file_lifetime = lifetime(self.anchor, self.seconds)?;
        let about = |bytes| Declaration { filename, purpose, bytes, mime_type, file_lifetime };
        Ok(intake.finish(about).await?)
    }
}

async fn receive(
    service: &Service,
    asker: Asker,
    mut field: Field<'_>,
    expected: Option<u64>,
    purpose: Option<Purpose>,
) -> Result<(Filename, MimeType, FormIntake), ApiError> {
    let (filename, mime_type) = (field.filename()?, field.mime_type()?);
    let jsonl = service.begin_jsonl(&filename, purpose)?;
    let mut intake = service.run(|it| it.begin_form(asker.0, expected, jsonl)).await?;
    while let Some(bytes) = field.next().await? {
        intake.write(&bytes).await?;
    }
    Ok((filename, mime_type, intake))
}

fn purpose(text: &str) -> Result<Purpose, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(PURPOSE, format!("{error} - 'purpose'")))
}

fn seconds(text: &str) -> Result<i64, ApiError> {
    whole(text).map_err(|error| ApiError::invalid(SECONDS, format!("'{SECONDS}' {error}.")))
}

fn lifetime(anchor: Option<String>, seconds: Option<i64>) -> Result<Option<FileLifetime>, ApiError> {
    match (anchor, seconds) {
        (None, None) => Ok(None),
        (Some(anchor), Some(seconds)) => file_lifetime(&anchor, seconds, [ANCHOR, SECONDS]).map(Some),
        (None, Some(_)) => Err(ApiError::missing(ANCHOR, "'created_at', where expires_after[seconds] is given")),
        (Some(_), None) => Err(ApiError::missing(SECONDS, "a number of seconds, where expires_after[anchor] is given")),
    }
}

/// The project's Files.
#[utoipa::path(
    get, path = "/files", tag = "Files", operation_id = "listFiles",
    params(
        ("purpose" = Option<PurposeFilterName>, Query, description = "Only Files of this purpose."),
        ("limit" = Option<i64>, Query, description = "1 to 10,000; the default is 10,000.", minimum = 1, maximum = 10_000),
        ("order" = Option<OrderName>, Query, description = "By `created_at`: `asc` or `desc`, which is the default."),
        ("after" = Option<String>, Query, description = "The id of the last File of the page before."),
    ),
    responses(
        (status = 200, description = "A page of Files.", body = ListBody<FileBody>),
        (status = 400, description = "A parameter is invalid.", body = ErrorBody),
        (status = 404, description = "`after` is not in the list.", body = ErrorBody),
    )
)]
pub async fn list_files(service: Data<Service>, asker: Asker, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let (page, purpose) = {
        let query = Query::from(&request);
        (query.page()?, query.purpose()?)
    };
    let files = service.run_at_length(|it| it.list_files(asker.0, purpose, page)).await?;
    lists::answer::<FileBody>(&request, &service, files)
}

/// A File.
#[utoipa::path(
    get, path = "/files/{file_id}", tag = "Files", operation_id = "retrieveFile",
    params(("file_id" = String, Path)),
    responses(
        (status = 200, description = "The File.", body = FileBody),
        (status = 404, description = "The File was not found.", body = ErrorBody),
    )
)]
pub async fn retrieve_file(service: Data<Service>, asker: Asker, id: Path<String>) -> Result<Json<FileBody>, ApiError> {
    let id = file_id(&id)?;
    let file = service.run(|it| it.get_file(asker.0, id)).await?;
    Ok(Json(file.into()))
}

/// Deletes a File.
#[utoipa::path(
    delete, path = "/files/{file_id}", tag = "Files", operation_id = "deleteFile",
    params(("file_id" = String, Path)),
    responses(
        (status = 200, description = "It is deleted.", body = DeletedFileBody),
        (status = 404, description = "The File was not found.", body = ErrorBody),
    )
)]
pub async fn delete_file(
    service: Data<Service>,
    asker: Asker,
    id: Path<String>,
) -> Result<Json<DeletedFileBody>, ApiError> {
    let id = file_id(&id)?;
    service.run(|it| it.delete_file(asker.0, id)).await?;
    Ok(Json(id.into()))
}
