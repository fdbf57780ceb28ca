//! The operations on Files, except for downloads.

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use windlass_engine::model::{Digests, File, UploadSpec};
use windlass_engine::{Error, FileUpload, Once, Outcome, Service};
use windlass_types::{
    AnyPurpose, DeletedFileObject, ErrorResponse, FileLifetime, FileObject, Filename, ListObject, MimeType, ObjectKind,
    Order,
};

use super::auth::{AllowedPurposes, AuthenticatedProject};
use super::body::Body;
use super::error::ApiError;
use super::idempotency::{self, Key};
use super::lists;
use super::multipart_form::{ContentLimit, Field, Form};
use super::number::whole;
use super::query::Query;
use super::requests::{CreateFileForm, file_id, file_lifetime};
use super::responses::ToObject as _;
use super::subject::{Fact, note};

const PURPOSE: &str = "purpose";
const FILE: &str = "file";
const ANCHOR: &str = "expires_after[anchor]";
const SECONDS: &str = "expires_after[seconds]";

/// Creates a File of up to 512 MiB in one request. The form fields may be in any order.
#[utoipa::path(
    post, path = "/files", tag = "Files", operation_id = "createFile",
    request_body(content = CreateFileForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The File.", body = FileObject),
        (status = 400, description = "The request is invalid or exceeds a limit.", body = ErrorResponse),
        (status = 408, description = "The body stalled.", body = ErrorResponse),
        (status = 410, description = "The body took longer than the lifetime of an Upload.", body = ErrorResponse),
    )
)]
pub async fn create_file(
    service: Data<Service>,
    project: AuthenticatedProject,
    purposes: AllowedPurposes,
    request: HttpRequest,
    key: Key,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let mut once = key.once();
    let limits = service.limits();
    let limit = ContentLimit { content: limits.file_bytes, error: Error::FileTooLarge };
    let expected = limit.declared_length(&request)?;
    service.admit_upload(project.0)?;
    let mut form = Form::open(&request, body, limits, &limit, &[PURPOSE, FILE, ANCHOR, SECONDS])?;
    let mut sent = SentFile::default();
    while let Some(field) = form.next().await? {
        match field.name() {
            FILE => sent.file = Some(receive(&service, project, field, expected, sent.purpose, once.take()).await?),
            PURPOSE => {
                let parsed = purposes.parse(&field.text().await?);
                sent.purpose = Some(parsed.map_err(|it| ApiError::invalid(PURPOSE, it))?);
            }
            ANCHOR => sent.anchor = Some(field.text().await?),
            _ => sent.seconds = Some(seconds(&field.text().await?)?),
        }
    }
    let outcome = sent.finish().await?;
    note(Fact::File(match &outcome {
        Outcome::Created(file) => file.id,
        Outcome::Repeated { id, .. } => (*id).into(),
    }));
    Ok(idempotency::respond(outcome))
}

/// The form fields received so far.
#[derive(Default)]
struct SentFile {
    file: Option<ReceivedFile>,
    purpose: Option<AnyPurpose>,
    anchor: Option<String>,
    seconds: Option<i64>,
}

/// The field with the file.
struct ReceivedFile {
    filename: Filename,
    mime_type: MimeType,
    digests: Digests,
    upload: FileUpload,
}

impl SentFile {
    async fn finish(self) -> Result<Outcome<File>, ApiError> {
        let ReceivedFile { filename, mime_type, digests, upload } =
            self.file.ok_or_else(|| ApiError::missing(FILE, "the file to upload"))?;
        let purpose =
            self.purpose.ok_or_else(|| ApiError::missing(PURPOSE, "the purpose of the file, such as 'user_data'"))?;
        let file_lifetime = lifetime(self.anchor, self.seconds)?;
        let spec = |bytes| UploadSpec { filename, purpose, bytes, mime_type, file_lifetime };
        Ok(upload.finish(spec, digests).await?)
    }
}

async fn receive(
    service: &Service,
    project: AuthenticatedProject,
    mut field: Field<'_>,
    expected: Option<u64>,
    purpose: Option<AnyPurpose>,
    once: Option<Once<File>>,
) -> Result<ReceivedFile, ApiError> {
    let (filename, mime_type, digests) = (field.filename()?, field.mime_type()?, field.digests());
    let jsonl = service.begin_jsonl_validation(&filename, purpose)?;
    let mut upload = service.begin_file(project.0, expected, jsonl, once).await?;
    while let Some(bytes) = field.next().await? {
        upload.write(&bytes).await?;
    }
    Ok(ReceivedFile { filename, mime_type, digests, upload })
}

fn seconds(text: &str) -> Result<i64, ApiError> {
    whole(text).map_err(|error| ApiError::invalid(SECONDS, format!("'{SECONDS}' {error}.")))
}

fn lifetime(anchor: Option<String>, seconds: Option<i64>) -> Result<Option<FileLifetime>, ApiError> {
    match (anchor, seconds) {
        (None, None) => Ok(None),
        (Some(anchor), Some(seconds)) => file_lifetime(&anchor, seconds, [ANCHOR, SECONDS]).map(Some),
        (None, Some(_)) => Err(ApiError::missing(ANCHOR, "'created_at' if expires_after[seconds] is given")),
        (Some(_), None) => Err(ApiError::missing(SECONDS, "a number of seconds if expires_after[anchor] is given")),
    }
}

/// Lists the project's Files.
#[utoipa::path(
    get, path = "/files", tag = "Files", operation_id = "listFiles",
    params(
        ("purpose" = Option<AnyPurpose>, Query, description = "Only Files of this purpose."),
        ("limit" = Option<i64>, Query, description = "1 to 10,000; defaults to 10,000.", minimum = 1, maximum = 10_000),
        ("order" = Option<Order>, Query, description = "By `created_at`: `asc`, or `desc` (the default)."),
        ("after" = Option<String>, Query, description = "The id of the last File of the previous page."),
    ),
    responses(
        (status = 200, description = "A page of Files.", body = ListObject<FileObject>),
        (status = 400, description = "A parameter is invalid.", body = ErrorResponse),
        (status = 404, description = "`after` is not in the list.", body = ErrorResponse),
    )
)]
pub async fn list_files(
    service: Data<Service>,
    project: AuthenticatedProject,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (page, purpose) = {
        let query = Query::from(&request);
        (query.page()?, query.purpose()?)
    };
    let files = service.list_files(project.0, purpose, page).await?;
    lists::respond(&request, files)
}

/// Returns a File.
#[utoipa::path(
    get, path = "/files/{file_id}", tag = "Files", operation_id = "retrieveFile",
    params(("file_id" = String, Path)),
    responses(
        (status = 200, description = "The File.", body = FileObject),
        (status = 404, description = "The File was not found.", body = ErrorResponse),
    )
)]
pub async fn retrieve_file(
    service: Data<Service>,
    project: AuthenticatedProject,
    id: Path<String>,
) -> Result<Json<FileObject>, ApiError> {
    let id = file_id(&id)?;
    note(Fact::File(id));
    let file = service.get_file(project.0, id).await?;
    Ok(Json(file.to_object()))
}

/// Deletes a File.
#[utoipa::path(
    delete, path = "/files/{file_id}", tag = "Files", operation_id = "deleteFile",
    params(("file_id" = String, Path)),
    responses(
        (status = 200, description = "The File has been deleted.", body = DeletedFileObject),
        (status = 404, description = "The File was not found.", body = ErrorResponse),
    )
)]
pub async fn delete_file(
    service: Data<Service>,
    project: AuthenticatedProject,
    id: Path<String>,
) -> Result<Json<DeletedFileObject>, ApiError> {
    let id = file_id(&id)?;
    note(Fact::File(id));
    service.delete_file(project.0, id).await?;
    Ok(Json(DeletedFileObject { object: ObjectKind::File, deleted: true, id }))
}
