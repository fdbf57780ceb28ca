//! A client's connection: what actix writes, and what bypasses it. Through actix every byte would be copied once more,
//! and the bytes of a file could not be sent from the page cache.

use std::cell::{RefCell, RefMut};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use actix_web::rt;
use bytes::{Buf as _, Bytes};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::activity::{Activity, LINGER};
use super::connections::Place;
use crate::service::Stretch;

/// TCP keep-alive: how long a silent peer goes unprobed, how often it is probed, and how many probes may be lost.
const PROBE_AFTER: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// How much is discarded at a time.
const DISCARD_STEP: usize = 16 * 1024;

/// Whether to read from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Yes.
    Go,
    /// Not before the parser has seen what has been read.
    Pause,
    /// Not before the handler has taken what has been read, which wakes the connection.
    Wait,
    /// Yes, but what is read is discarded.
    Discard,
    /// Never again: the connection ends.
    Stop,
}

/// Whether more responses may follow what has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// More responses may follow.
    Some,
    /// The last response on this connection.
    Last,
}

/// The connection as actix sees it.
///
/// Invariant: what bypasses actix is sent when a flush finds that everything before it has been written. So a body
/// passes nothing more to actix until what bypassed it has been sent.
pub struct Connection {
    outlet: Outlet,
    /// What was read and may not be parsed yet.
    rest: Bytes,
    /// Taken when the connection is dropped.
    place: Option<Place>,
}

/// Bypasses actix: holds what is to be sent next, if anything.
#[derive(Clone, Default)]
pub struct Outlet(Rc<RefCell<Option<Stretch>>>);

impl Outlet {
    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Sends bytes with the next flush. There must be none pending.
    pub fn send(&self, stretch: Stretch) {
        debug_assert!(self.is_empty(), "earlier bytes are still pending");
        self.0.replace((stretch.length() > 0).then_some(stretch));
    }
}

impl Connection {
    /// Wraps an accepted socket. TCP detects a peer that has disappeared: a minute after `send_timeout` if it has been
    /// sent something, else by probes.
    pub fn new(place: Place, send_timeout: Duration) -> Self {
        // Longer, so that a client that is connected but does not read is closed by the watchdog, which counts it.
        let milliseconds = u32::try_from((send_timeout + PROBE_AFTER).as_millis()).unwrap_or(u32::MAX);
        let set = || -> io::Result<()> {
            let socket = place.socket()?;
            sockopt::set_tcp_nodelay(&*socket, true)?;
            sockopt::set_socket_keepalive(&*socket, true)?;
            sockopt::set_tcp_keepidle(&*socket, PROBE_AFTER)?;
            sockopt::set_tcp_keepintvl(&*socket, PROBE_EVERY)?;
            sockopt::set_tcp_keepcnt(&*socket, PROBES)?;
            #[cfg(target_os = "linux")]
            sockopt::set_tcp_user_timeout(&*socket, milliseconds)?;
            Ok(())
        };
        if let Err(error) = set() {
            tracing::debug!(%error, "a socket option is not supported");
        }
        Self { outlet: Outlet::default(), rest: Bytes::new(), place: Some(place) }
    }

    /// Where a body sends what is not to go through actix.
    pub fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }

    /// What the connection is doing.
    pub fn activity(&self) -> Option<&Rc<Activity>> {
        self.place.as_ref().map(Place::activity)
    }

    fn parts(&self) -> io::Result<(RefMut<'_, TcpStream>, &Outlet, &Place)> {
        let place = self.place.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok((place.socket()?, &self.outlet, place))
    }
}

/// Writes the bytes that go before anything else.
///
/// # Errors
/// When the client is no longer waited for.
fn poll_ahead(socket: &mut TcpStream, place: &Place, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    if place.is_abandoned() {
        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
    }
    let mut ahead = place.ahead().borrow_mut();
    while !ahead.is_empty() {
        let Poll::Ready(written) = Pin::new(&mut *socket).poll_write(cx, &ahead) else {
            place.sent(0, true);
            return Poll::Pending;
        };
        ahead.advance(written?);
    }
    Poll::Ready(Ok(()))
}

/// Discards what the client still sends, to its end or as much as is allowed. actix would collect it first, in a buffer
/// that it keeps.
fn poll_discard(socket: &mut TcpStream, place: &Place, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut buffer = [MaybeUninit::uninit(); DISCARD_STEP];
    loop {
        let mut into = ReadBuf::uninit(&mut buffer);
        let read = ready!(Pin::new(&mut *socket).poll_read(cx, &mut into)).inspect_err(|_| place.received(0));
        place.received(into.filled().len());
        if read.is_err() || into.filled().is_empty() || place.reading() == Reading::Stop {
            return Poll::Ready(read);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { rest, place, .. } = self.get_mut();
        let place = place.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let mut socket = place.socket()?;
        place.register(cx);
        match place.reading() {
            Reading::Stop => return Poll::Ready(Ok(())),
            Reading::Pause => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Reading::Wait => return Poll::Pending,
            Reading::Discard => {
                rest.clear();
                return poll_discard(&mut socket, place, cx);
            }
            Reading::Go => {}
        }
        let before = into.filled().len();
        let step = place.read_step();
        if !rest.is_empty() {
            into.put_slice(&rest.split_to(step.min(rest.len()).min(into.remaining())));
        } else if step < into.remaining() {
            let mut start = ReadBuf::new(into.initialize_unfilled_to(step));
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut start)).inspect_err(|_| place.received(0))?;
            let read = start.filled().len();
            into.advance(read);
        } else {
            ready!(Pin::new(&mut *socket).poll_read(cx, into)).inspect_err(|_| place.received(0))?;
        }
        drop(socket);
        let read = &into.filled()[before..];
        let admitted = place.admit(read);
        if admitted < read.len() {
            *rest = [&read[admitted..], rest].concat().into();
            into.set_filled(before + admitted);
        }
        place.received(admitted);
        place.shed_heads();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (mut socket, _, place) = self.get_mut().parts()?;
        let intercepted = place.intercept(bytes);
        if intercepted > 0 {
            return Poll::Ready(Ok(intercepted));
        }
        ready!(poll_ahead(&mut socket, place, cx))?;
        let written = Pin::new(&mut *socket).poll_write(cx, bytes);
        match &written {
            Poll::Ready(Ok(count)) => place.sent(*count as u64, false),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => place.sent(0, true),
        }
        written
    }

    /// actix flushes once the socket has taken all that it wrote.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut socket, outlet, place) = self.get_mut().parts()?;
        ready!(poll_ahead(&mut socket, place, cx))?;
        let mut sending = outlet.0.borrow_mut();
        while let Some(stretch) = sending.as_mut() {
            let Poll::Ready(writable) = socket.poll_write_ready(cx) else {
                place.sent(0, true);
                return Poll::Pending;
            };
            writable?;
            let before = stretch.length();
            match socket.try_io(Interest::WRITABLE, || stretch.send(&*socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => sent?,
            }
            place.sent(before - stretch.length(), false);
            if stretch.length() == 0 {
                *sending = None;
                // The body waits for that.
                cx.waker().wake_by_ref();
            }
        }
        if place.flushed() == Flushed::Last {
            // So that the client sees the end of the response before the rest of its body has been discarded.
            ready!(Pin::new(&mut *socket).poll_shutdown(cx)).ok();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut socket, _, place) = self.get_mut().parts()?;
        ready!(poll_ahead(&mut socket, place, cx))?;
        Pin::new(&mut *socket).poll_shutdown(cx)
    }
}

impl Drop for Connection {
    /// Closing a socket that still receives data resets the connection, and the client may never see the response.
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && !thread::panicking()
            && place.dropped()
        {
            rt::spawn(linger(place));
        }
    }
}

/// Sends the rest of an error response, and discards what the client still sends, within limits on bytes and time.
async fn linger(place: Place) {
    place.linger();
    let mut is_shut_down = false;
    let discard = poll_fn(|cx| -> Poll<io::Result<()>> {
        place.register(cx);
        let mut socket = place.socket()?;
        if !is_shut_down {
            ready!(poll_ahead(&mut socket, &place, cx))?;
            ready!(Pin::new(&mut *socket).poll_shutdown(cx))?;
            is_shut_down = true;
        }
        poll_discard(&mut socket, &place, cx)
    });
    timeout(LINGER, discard).await.ok();
}
