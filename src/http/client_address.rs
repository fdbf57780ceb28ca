//! The address of a client: that of its connection. Behind a proxy, that is the proxy's: what `X-Forwarded-For` says is
//! not trusted, since any client can send it.

use std::net::IpAddr;

use actix_web::dev::ServiceRequest;

/// The address that the request came from.
pub fn of(request: &ServiceRequest) -> Option<IpAddr> {
    request.peer_addr().map(|it| it.ip().to_canonical())
}
