//! Routes of one path: its methods, `HEAD` wherever there is `GET`, and for any other method a 405 with `Allow`
//! (RFC 9110, section 15.5.6). `OPTIONS` also returns `Allow`.

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder, ResponseError as _, Route, guard, web};

use super::error::ApiError;

/// A path and its methods.
pub struct Resource {
    inner: actix_web::Resource,
    allow: Vec<&'static str>,
}

/// A path without methods.
pub fn at(path: &str) -> Resource {
    Resource { inner: web::resource(path), allow: Vec::new() }
}

impl Resource {
    /// Adds `GET` and `HEAD`. The response to `HEAD` is sent without the body.
    pub fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let route = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        self.route(&["GET", "HEAD"], route.to(handler))
    }

    pub fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(&["POST"], web::post().to(handler))
    }

    pub fn put<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(&["PUT"], web::put().to(handler))
    }

    pub fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(&["DELETE"], web::delete().to(handler))
    }

    fn route(mut self, methods: &[&'static str], route: Route) -> Self {
        self.allow.extend(methods);
        Self { inner: self.inner.route(route), allow: self.allow }
    }
}

impl HttpServiceFactory for Resource {
    fn register(self, config: &mut AppService) {
        let allow = [&self.allow[..], &["OPTIONS"]].concat().join(", ");
        let other = move |request: HttpRequest| {
            let mut response = match *request.method() {
                Method::OPTIONS => HttpResponse::NoContent().finish(),
                _ => ApiError::method_not_allowed(request.method().as_str(), request.path(), &allow).error_response(),
            };
            if let Ok(allow) = HeaderValue::from_str(&allow) {
                response.headers_mut().insert(ALLOW, allow);
            }
            async { response }
        };
        self.inner.default_service(web::to(other)).register(config);
    }
}
