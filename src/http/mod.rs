//! The contract over HTTP, on one screen: which path and method is which operation.
//!
//! Handlers parse, call the service once, and render. Only this module knows status codes.

mod activity;
mod answers;
mod attachment;
mod auth;
mod body;
mod connection;
mod connections;
mod content;
mod content_coding;
mod cors;
mod error;
mod exchange;
mod files;
pub mod form; // The fuzz target reads forms as the handlers do.
mod health;
mod json;
mod lists;
mod number;
mod openapi;
mod output;
mod pipeline;
mod query;
mod refusal;
mod requests;
mod resource;
mod stamp;
mod trailing_slash;
mod unread;
mod uploads;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, KeepAlive, Protocol};
use actix_server::Server;
use actix_service::{Service as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
pub use self::connections::ConnectionLimits;
use self::connections::Connections;
use self::error::ApiError;
pub use self::openapi::document;
use self::resource::at;
use crate::domain::Origins;
use crate::service::Service;

/// The prefixes of the operations: OpenAI's, and the new and the old one of Azure's clients, whose `api-version` is
/// ignored. A prefix that another one begins with comes after it.
pub const PREFIXES: [&str; 3] = ["/v1", "/openai/v1", "/openai"];

fn routes(config: &mut ServiceConfig, cors_origins: Option<Data<Origins>>) {
    if let Some(origins) = cors_origins {
        config.app_data(origins);
    }
    config
        .service(at("/livez").get(health::livez))
        .service(at("/readyz").get(health::readyz))
        .service(at("/metrics").get(health::metrics))
        .service(at("/openapi.json").get(openapi::serve));
    for prefix in PREFIXES {
        let scope = web::scope(prefix).wrap(from_fn(content_coding::refuse)).wrap(from_fn(auth::authenticate));
        config.service(scope.configure(operations).default_service(web::to(no_such_path)));
    }
    config.default_service(web::to(no_such_path));
}

/// The operations of the contract and its extensions, all of which need a key.
fn operations(config: &mut ServiceConfig) {
    config
        .service(at("/uploads").get(uploads::list_uploads).post(uploads::create_upload))
        .service(at("/uploads/{id}").get(uploads::retrieve_upload))
        .service(at("/uploads/{id}/parts").get(uploads::list_upload_parts).post(uploads::add_upload_part))
        .service(at("/uploads/{id}/complete").post(uploads::complete_upload))
        .service(at("/uploads/{id}/cancel").post(uploads::cancel_upload))
        .service(at("/files").get(files::list_files).post(files::create_file))
        .service(at("/files/{id}").get(files::retrieve_file).delete(files::delete_file))
        .service(at("/files/{id}/content").get(content::download_file));
}

/// Serves until told to stop; then accepts no new connections, and gives those that are open `patience` to finish. Web
/// pages of `cors_origins` may use it.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    cors_origins: Option<Origins>,
    stop: CancellationToken,
    patience: Duration,
    limits: ConnectionLimits,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let server = Server::build();
    let stopping = server.graceful_shutdown_signal();
    let workers = limits.workers(std::thread::available_parallelism().map_or(2, usize::from));
    let limits = limits.for_worker(workers);
    let accepted = limits.accepted();
    let cors_origins = cors_origins.map(Data::new);
    let document = Data::new(openapi::Rendered::of(service.limits())?);
    let connections = move || {
        let (service, stopping, limits) = (service.clone(), stopping.clone(), limits.clone());
        let cors_origins = cors_origins.clone();
        let app = App::new()
            .app_data(Data::new(service))
            .app_data(document.clone())
            .wrap(from_fn(cors::preflight))
            .wrap_fn(|request, next| next.call(trailing_slash::removed(request)))
            // The last middleware is the first to see a request.
            .wrap(from_fn(stamp::stamp))
            .wrap(from_fn(exchange::follow))
            .configure(|config| routes(config, cors_origins));
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            // Idle connections and slow heads are timed by `connections`, for every request on a connection.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(activity::LINGER)
            .local_addr(address)
            .on_connect_ext(|connection: &Connection, data: &mut Extensions| {
                data.insert(connection.outlet());
                if let Some(activity) = connection.activity() {
                    data.insert(activity.clone());
                }
            })
            .expect(fn_service(exchange::delay_continue))
            .finish(map_config(app, |()| AppConfig::default()));
        let send_timeout = limits.send_timeout;
        let connections = Connections::new(limits);
        fn_service(move |socket: TcpStream| {
            let peer = socket.peer_addr().ok();
            let place = connections.admit(socket);
            async move {
                let place = place.ok_or(DispatchError::Io(ErrorKind::ConnectionAborted.into()))?;
                Ok::<_, DispatchError>((Connection::new(place, send_timeout), Protocol::Http1, peer))
            }
        })
        .and_then(http)
    };
    server
        // The database and the store have threads of their own; these only move bytes.
        .workers(workers)
        .worker_max_blocking_threads(1)
        .max_concurrent_connections(accepted)
        .shutdown_timeout(patience.as_secs())
        .shutdown_signal(stop.cancelled_owned())
        .listen("http", listener, connections)?
        .run()
        .await
}

async fn no_such_path(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    // It asks whether the server is there (RFC 9110, section 9.3.7).
    if request.method() == Method::OPTIONS && request.path() == "*" {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(ApiError::no_such_path(request.method().as_str(), request.path()))
}
