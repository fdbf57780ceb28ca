//! The socket that accepts connections: how it is opened, and how it is closed while clients connect to it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::time::sleep;

/// Length of the accept queue; the kernel caps it at `net.core.somaxconn`. A burst of clients overflows the standard
/// library's 128, and TCP then retries their handshakes after a second or more.
const BACKLOG: i32 = 4096;

/// How long the server continues to accept after new handshakes have been stopped: enough to take everything from the
/// accept queue and to read the requests. It is less than a second, when clients repeat their handshakes.
const QUEUE_TIME: Duration = Duration::from_millis(200);

/// A filter for the packets of a listener that drops those with the TCP flag SYN, in classic BPF.
fn without_handshakes() -> [SockFilter; 4] {
    [
        // Load the byte with the flags; a packet begins with its TCP header.
        SockFilter::new(0x30, 0, 0, 13),
        // Skip the next instruction unless SYN is set.
        SockFilter::new(0x45, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ]
}

/// Listens on the first of these addresses that can be bound.
///
/// # Errors
/// If none can be bound.
pub fn bind(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addresses)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Stops new connections on a listener that the server still accepts from, and returns when the server has taken those
/// that exist.
///
/// The kernel resets the connections in the accept queue of a socket that is closed, and a proxy must not send a `POST`
/// again whose connection was reset. So handshakes are ignored first: clients repeat them a second later, and get
/// "connection refused", after which a proxy may try another replica with any request.
pub async fn close_without_resets(listener: TcpListener) {
    match SockRef::from(&listener).attach_filter(&without_handshakes()) {
        Ok(()) => sleep(QUEUE_TIME).await,
        Err(error) => tracing::debug!(%error, "connections that arrive now may be reset"),
    }
}
