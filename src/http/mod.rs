//! The contract over HTTP, on one screen: which path and method is which operation.
//!
//! Handlers parse, call the service once, and render. Only this module knows status codes.

mod answers;
mod auth;
mod body;
mod connection;
mod content;
mod error;
mod files;
pub mod form; // The fuzz target reads forms as the handlers do.
mod health;
mod json;
mod lists;
mod openapi;
mod query;
mod requests;
mod stamp;
mod uploads;

use std::net::TcpListener;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, Protocol};
use actix_server::Server;
use actix_service::{ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
use self::error::ApiError;
pub use self::openapi::document;
use crate::service::Service;

/// How long an answer that came before the end of its body keeps reading that body, so that the
/// client sees the answer and not a broken pipe.
const LINGER: Duration = Duration::from_secs(5);

/// How long the head of a connection's first request may take to come.
const FIRST_HEAD: Duration = Duration::from_secs(5);

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
    let address = listener.local_addr()?;
    let server = Server::build();
    let stopping = server.graceful_shutdown_signal();
    let connections = move || {
        let (service, stopping) = (service.clone(), stopping.clone());
        let app = App::new().app_data(Data::new(service)).wrap(from_fn(stamp::stamp)).configure(routes);
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(FIRST_HEAD)
            .client_disconnect_timeout(LINGER)
            .local_addr(address)
            .on_connect_ext(|connection: &Connection, data: &mut Extensions| drop(data.insert(connection.outlet())))
            .finish(map_config(app, |()| AppConfig::default()));
        fn_service(async |socket: TcpStream| {
            socket.set_nodelay(true).ok();
            let peer = socket.peer_addr().ok();
            Ok::<_, DispatchError>((Connection::new(socket), Protocol::Http1, peer))
        })
        .and_then(http)
    };
    server
        // The database and the store have threads of their own; these only move bytes.
        .workers(std::thread::available_parallelism().map_or(2, usize::from))
        .worker_max_blocking_threads(1)
        .shutdown_timeout(patience.as_secs())
        .shutdown_signal(stop.cancelled_owned())
        .listen("http", listener, connections)?
        .run()
        .await
}

async fn no_such_path(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::no_such_path(request.method().as_str(), request.path()))
}

async fn method_not_allowed(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::method_not_allowed(request.method().as_str(), request.path()))
}
