//! The HTTP API: routes, middleware and server.
//!
//! Handlers parse the request, call the service, and render the result. Status codes occur only in this module.
//!
//! ```text
//! uploads, files, lists, download, signed_urls,      the operations
//! usage, health, openapi
//! requests, responses, json, query, number, range,   parsing of requests, rendering of responses
//! multipart_form, body, attachment, error, engine_error,
//! refusal
//! digests, idempotency                               what applies to requests with content
//! auth, api_key, rates, wrong_keys, cors, origins,   what applies to several operations
//! content_coding, resource, trailing_slash,
//! subject, access_log, request_metrics, audit,
//! client_address
//! connection                                         client connections, below the HTTP parser
//! ```

mod access_log;
pub mod api_key; // Public for the fuzz target.
mod attachment;
mod audit;
mod auth;
pub mod body; // Public for the fuzz targets, like the modules below.
mod client_address;
mod connection;
mod content_coding;
mod cors;
pub mod digests;
mod download;
mod engine_error;
mod error;
mod files;
mod health;
mod idempotency;
pub mod json; // Public for the fuzz target.
mod lists;
pub mod multipart_form;
mod number;
mod openapi;
mod origins;
mod public_url;
mod query;
pub mod range; // Public for the fuzz target.
mod rates;
mod refusal;
mod request_metrics;
mod requests;
mod resource;
mod responses;
mod signed_urls;
mod subject;
mod trailing_slash;
mod uploads;
mod usage;
mod wrong_keys;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

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
use windlass_engine::Service;
use windlass_types::ErrorChain;

pub use self::auth::{BadProjectHeader, ProjectHeader};
use self::connection::Connection;
pub use self::connection::connections::ConnectionLimits;
use self::connection::connections::Connections;
use self::error::ApiError;
pub use self::openapi::document;
pub use self::origins::{BadCorsOrigins, CorsOrigins};
pub use self::public_url::{BadPublicUrl, PublicUrl};
pub use self::rates::RateLimits;
use self::rates::Rates;
use self::resource::at;
use self::wrong_keys::WrongKeys;

/// Path prefixes of the operations: OpenAI's, then the current and the older one of Azure OpenAI, whose `api-version`
/// parameter is ignored. The first matching prefix wins, so `/openai/v1` comes before `/openai`.
pub const PREFIXES: [&str; 3] = ["/v1", "/openai/v1", "/openai"];

/// State that all workers share.
#[derive(Clone)]
struct Shared {
    document: Data<openapi::Rendered>,
    rates: Data<Rates>,
    wrong_keys: Data<WrongKeys>,
}

impl Shared {
    async fn of(service: &Service, settings: &Settings) -> serde_json::Result<Self> {
        let known = service.list_keys_used_lately(wrong_keys::MAX_KNOWN_KEYS).await.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "cannot read which keys were used lately");
            Vec::new()
        });
        Ok(Self {
            document: Data::new(openapi::Rendered::of(service.limits())?),
            rates: Data::new(Rates::new(settings.rates)),
            wrong_keys: Data::new(WrongKeys::new(settings.wrong_keys_per_minute, known, Instant::now())),
        })
    }
}

fn routes(config: &mut ServiceConfig, settings: &Settings, shared: &Shared) {
    let Shared { document, rates, wrong_keys } = shared.clone();
    config.app_data(document).app_data(rates).app_data(wrong_keys);
    let Settings { cors_origins, project_header, public_url, .. } = settings.clone();
    if let Some(origins) = cors_origins {
        config.app_data(Data::new(origins));
    }
    if let Some(header) = project_header {
        config.app_data(Data::new(header));
    }
    if let Some(url) = public_url {
        config.app_data(Data::new(url));
    }
    config
        .service(at("/livez").get(health::livez))
        .service(at("/readyz").get(health::readyz))
        .service(at("/metrics").get(health::metrics))
        .service(at("/openapi.json").get(openapi::serve));
    for prefix in PREFIXES {
        let scope = web::scope(prefix)
            .wrap(from_fn(content_coding::refuse))
            .wrap(from_fn(auth::authenticate))
            .wrap(from_fn(audit::record))
            .wrap(from_fn(rates::report));
        config.service(scope.configure(operations).default_service(web::to(no_such_path)));
    }
    let signed = web::scope(signed_urls::PREFIX)
        .wrap(from_fn(content_coding::refuse))
        .wrap(from_fn(audit::record))
        .wrap(from_fn(rates::report));
    let paths = ["/{token}", "/{token}/{name}"];
    let signed = paths
        .into_iter()
        .fold(signed, |it, path| it.service(at(path).get(signed_urls::download).put(signed_urls::upload)));
    config.service(signed.default_service(web::to(no_such_path))).default_service(web::to(no_such_path));
}

/// The operations of the contract and the extensions. All of them require a key.
fn operations(config: &mut ServiceConfig) {
    config
        .service(at("/uploads").get(uploads::list_uploads).post(uploads::create_upload))
        .service(at("/uploads/{id}").get(uploads::retrieve_upload))
        .service(at("/uploads/{id}/parts").get(uploads::list_upload_parts).post(uploads::add_upload_part))
        .service(at("/uploads/{id}/complete").post(uploads::complete_upload))
        .service(at("/uploads/{id}/cancel").post(uploads::cancel_upload))
        .service(at("/files").get(files::list_files).post(files::create_file))
        .service(at("/files/signed_url").post(signed_urls::create_upload_url))
        .service(at("/files/{id}/signed_url").post(signed_urls::create_download_url))
        .service(at("/files/{id}").get(files::retrieve_file).delete(files::delete_file))
        .service(at("/files/{id}/content").get(download::download_file))
        .service(at("/usage").get(usage::retrieve_usage));
}

/// Settings of the API.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Web pages of these origins may use the API; `None` turns CORS off.
    pub cors_origins: Option<CorsOrigins>,
    /// A header, besides `OpenAI-Project`, in which a service key's request may name the project.
    pub project_header: Option<ProjectHeader>,
    /// Where clients reach the service, for signed URLs; `None` to use the address of the request.
    pub public_url: Option<PublicUrl>,
    /// The rates of keys that have none of their own.
    pub rates: RateLimits,
    /// How many wrong keys an address may send per minute; `None` is unlimited.
    pub wrong_keys_per_minute: Option<u64>,
}

/// Serves HTTP on `listener` until `stop` is cancelled, then stops accepting connections and waits up to `patience` for
/// the open ones to finish. Web pages of `cors_origins` may use the API; `None` turns CORS off.
///
/// # Errors
/// When the server cannot be started on the listener, or fails.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    settings: Settings,
    stop: CancellationToken,
    patience: Duration,
    limits: ConnectionLimits,
) -> std::io::Result<()> {
    refusal::export();
    let address = listener.local_addr()?;
    let server = Server::build();
    let stopping = server.graceful_shutdown_signal();
    let workers = limits.workers(std::thread::available_parallelism().map_or(2, usize::from));
    let limits = limits.for_worker(workers);
    let accepted = limits.accepted();
    let shared = Shared::of(&service, &settings).await?;
    let connections = move || {
        let (service, stopping, limits, settings) =
            (service.clone(), stopping.clone(), limits.clone(), settings.clone());
        let app = App::new()
            .app_data(Data::new(service))
            .wrap(from_fn(cors::preflight))
            .wrap_fn(|request, next| next.call(trailing_slash::removed(request)))
            // actix calls the middleware that was added last first.
            .wrap(from_fn(access_log::record))
            .wrap(from_fn(connection::exchange::follow))
            .configure(|config| routes(config, &settings, &shared));
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            // `connections` enforces the timeouts for idle connections and for the head of every request.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(connection::activity::LINGER)
            .local_addr(address)
            .on_connect_ext(|connection: &Connection, data: &mut Extensions| {
                data.insert(connection.sendfile_queue());
                if let Some(activity) = connection.activity() {
                    data.insert(activity.clone());
                }
            })
            .expect(fn_service(connection::exchange::delay_continue))
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
        // The database and the store are accessed on other threads; workers do only network I/O.
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
    // `OPTIONS *` checks that the server responds (RFC 9110, section 9.3.7).
    if request.method() == Method::OPTIONS && request.path() == "*" {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(ApiError::no_such_path(request.method().as_str(), request.path()))
}
