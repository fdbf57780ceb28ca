//! The contract over HTTP, on one screen: which path and method is which operation.
//!
//! Handlers parse, call the service once, and render. Only this module knows status codes.

mod answers;
mod auth;
mod body;
mod content;
mod error;
mod files;
pub mod form; // The fuzz target reads forms as the handlers do.
mod health;
mod json;
mod openapi;
mod query;
mod requests;
mod stamp;
mod uploads;

use std::net::TcpListener;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use tokio_util::sync::CancellationToken;

use self::error::ApiError;
pub use self::openapi::document;
use crate::service::Service;

/// How long an answer that came before the end of its body keeps reading that body, so that the
/// client sees the answer and not a broken pipe.
const LINGER: Duration = Duration::from_secs(5);

/// How long an idle connection is kept: longer than balancers keep theirs, so that they are the ones
/// to close it, and no request is sent into a connection that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

fn routes(config: &mut ServiceConfig) {
    let not_allowed = || web::to(method_not_allowed);
    config
        .service(web::resource("/livez").get(health::livez))
        .service(web::resource("/readyz").get(health::readyz))
        .service(web::resource("/metrics").get(health::metrics))
        .service(web::resource("/openapi.json").get(openapi::serve))
        .service(
            web::scope("/v1")
                .wrap(from_fn(auth::authenticate))
                .service(
                    web::resource("/uploads")
                        .get(uploads::list_uploads)
                        .post(uploads::create_upload)
                        .default_service(not_allowed()),
                )
                .service(web::resource("/uploads/{id}").get(uploads::retrieve_upload).default_service(not_allowed()))
                .service(
                    web::resource("/uploads/{id}/parts")
                        .get(uploads::list_upload_parts)
                        .post(uploads::add_upload_part)
                        .default_service(not_allowed()),
                )
                .service(
                    web::resource("/uploads/{id}/complete")
                        .post(uploads::complete_upload)
                        .default_service(not_allowed()),
                )
                .service(
                    web::resource("/uploads/{id}/cancel").post(uploads::cancel_upload).default_service(not_allowed()),
                )
                .service(
                    web::resource("/files")
                        .get(files::list_files)
                        .post(files::create_file)
                        .default_service(not_allowed()),
                )
                .service(
                    web::resource("/files/{id}")
                        .get(files::retrieve_file)
                        .delete(files::delete_file)
                        .default_service(not_allowed()),
                )
                .service(
                    web::resource("/files/{id}/content")
                        .get(content::download_file)
                        .head(content::download_file)
                        .default_service(not_allowed()),
                )
                .default_service(web::to(no_such_path)),
        )
        .default_service(web::to(no_such_path));
}

/// Serves until told to stop; then takes no new connection, and gives those that are open
/// `patience` to come to their end.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    stop: CancellationToken,
    patience: Duration,
) -> std::io::Result<()> {
    HttpServer::new(move || {
        App::new().app_data(Data::new(service.clone())).wrap(from_fn(stamp::stamp)).configure(routes)
    })
    // The database and the store have threads of their own; these only move bytes.
    .workers(std::thread::available_parallelism().map_or(2, usize::from))
    .worker_max_blocking_threads(1)
    .keep_alive(KEEP_ALIVE)
    .client_disconnect_timeout(LINGER)
    .shutdown_timeout(patience.as_secs())
    .shutdown_signal(stop.cancelled_owned())
    .listen(listener)?
    .run()
    .await
}

async fn no_such_path(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::no_such_path(request.method().as_str(), request.path()))
}

async fn method_not_allowed(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::method_not_allowed(request.method().as_str(), request.path()))
}
