//! `windlass health`: checks the running service over HTTP, as the health check of a container without a shell.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::Listen;

/// Timeout for connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum size of a response, in bytes.
const MAX_RESPONSE: u64 = 64 * 1024;

/// What a health check tests.
#[derive(Debug, Clone, Copy)]
pub enum Probe {
    /// Whether the process responds.
    Live,
    /// Whether its database and its store can be used.
    Ready,
}

/// Why the service is not healthy, or cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// The port to connect to is unknown.
    #[error("the address {0} lets the system choose a port: set WINDLASS_LISTEN to the address of the service")]
    AnyPort(Listen),
    /// The host name to listen on cannot be resolved.
    #[error("the address {0} cannot be resolved")]
    Unresolved(Listen, #[source] io::Error),
    /// Nothing listens on the address, or what does sent no HTTP response.
    #[error("no response from http://{0}{1}")]
    Silent(Listen, &'static str, #[source] io::Error),
    /// The response has another status than 200.
    #[error("http://{0}{1} returned {2}")]
    Refused(Listen, &'static str, String),
}

/// Sends a probe to the service that listens on this address, and returns the body of the response. On an address for
/// every interface, it uses the loopback interface.
///
/// # Errors
/// If the response is not a 200.
pub fn check(listen: &Listen, probe: Probe) -> Result<String, Unhealthy> {
    let path = match probe {
        Probe::Live => "/livez",
        Probe::Ready => "/readyz",
    };
    let addresses = listen.addresses().map_err(|error| Unhealthy::Unresolved(listen.clone(), error))?;
    if addresses.iter().any(|it| it.port() == 0) {
        return Err(Unhealthy::AnyPort(listen.clone()));
    }
    let mut response = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        response = get(on_loopback(address), path);
        if response.is_ok() {
            break;
        }
    }
    let response = response.map_err(|error| Unhealthy::Silent(listen.clone(), path, error))?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.lines().next().and_then(|it| it.split_once(' ')).map_or("", |(_, status)| status);
    if status.split(' ').next() == Some("200") {
        return Ok(body.trim().to_owned());
    }
    Err(Unhealthy::Refused(listen.clone(), path, format!("{status} {}", body.trim())))
}

/// Replaces the address of every interface by a loopback address.
fn on_loopback(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() });
    }
    address
}

/// Sends a GET request of HTTP/1.0, whose response ends with the connection.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response).into_owned();
    if response.starts_with("HTTP/1.") { Ok(response) } else { Err(io::ErrorKind::InvalidData.into()) }
}
