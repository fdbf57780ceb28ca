//! A client's connection: what actix writes, and what a body sends past it. Through actix every byte would be
//! copied once more, and those of a file could not stay where the system keeps them.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt;
use bytes::{Buf as _, Bytes};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf, copy, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::activity::{Activity, Cut, Flushed, LINGER, LINGER_BYTES, Reading};
use super::connections::Place;
use crate::service::Stretch;

/// After how much silence the peer of an idle connection is probed, how often, and how many probes may be lost.
const PROBE_AFTER: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// The connection as actix has it.
///
/// Invariant: what is sent past actix goes out when a flush finds everything written that came before it. So a
/// body says nothing more through actix until what it sent past it is gone.
pub struct Connection {
    /// Taken when the connection is dropped.
    socket: Option<TcpStream>,
    outlet: Outlet,
    place: Option<Place>,
}

/// The way past actix: holds what is to be sent next, if anything.
#[derive(Clone, Default)]
pub struct Outlet(Rc<RefCell<Option<Stretch>>>);

impl Outlet {
    /// Whether all of it is gone.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Sends bytes with the next flush. There must be none on their way.
    pub fn send(&self, stretch: Stretch) {
        debug_assert!(self.is_empty(), "what was to be sent before is not gone yet");
        self.0.replace((stretch.length() > 0).then_some(stretch));
    }
}

impl Connection {
    /// Takes an accepted socket. A peer that is gone is noticed by TCP: a minute after `send_timeout` if it has been
    /// sent something, else by probes.
    pub fn new(socket: TcpStream, place: Place, send_timeout: Duration) -> Self {
        // Longer, so that a client that is there and does not read is closed by the watchdog, which counts it.
        let milliseconds = u32::try_from((send_timeout + PROBE_AFTER).as_millis()).unwrap_or(u32::MAX);
        let set = || -> rustix::io::Result<()> {
            sockopt::set_tcp_nodelay(&socket, true)?;
            sockopt::set_socket_keepalive(&socket, true)?;
            sockopt::set_tcp_keepidle(&socket, PROBE_AFTER)?;
            sockopt::set_tcp_keepintvl(&socket, PROBE_EVERY)?;
            sockopt::set_tcp_keepcnt(&socket, PROBES)?;
            #[cfg(target_os = "linux")]
            sockopt::set_tcp_user_timeout(&socket, milliseconds)?;
            Ok(())
        };
        if let Err(error) = set() {
            tracing::debug!(%error, "a socket option is not supported");
        }
        Self { socket: Some(socket), outlet: Outlet::default(), place: Some(place) }
    }

    /// Where a body sends what is not to go through actix.
    pub fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }

    /// What the connection is doing.
    pub fn activity(&self) -> Option<&Rc<Activity>> {
        self.place.as_ref().map(Place::activity)
    }

    fn parts(&mut self) -> io::Result<(&mut TcpStream, &Outlet, &Place)> {
        let Self { socket, outlet, place } = self;
        match (socket, place) {
            (Some(socket), Some(place)) => Ok((socket, outlet, place)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Writes what goes before anything else.
fn poll_ahead(socket: &mut TcpStream, ahead: &RefCell<Bytes>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut ahead = ahead.borrow_mut();
    while !ahead.is_empty() {
        let written = ready!(Pin::new(&mut *socket).poll_write(cx, &ahead))?;
        ahead.advance(written);
    }
    Poll::Ready(Ok(()))
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (socket, _, place) = self.get_mut().parts()?;
        place.register(cx);
        match place.reading() {
            Reading::Stop => return Poll::Ready(Ok(())),
            Reading::Pause => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Reading::Wait => return Poll::Pending,
            Reading::Go => {}
        }
        let before = into.filled().len();
        ready!(Pin::new(socket).poll_read(cx, into))?;
        place.received(into.filled().len() - before);
        place.shed_heads();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (socket, _, place) = self.get_mut().parts()?;
        if place.why_cut() == Some(Cut::NotReading) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let intercepted = place.intercept(bytes);
        if intercepted > 0 {
            return Poll::Ready(Ok(intercepted));
        }
        ready!(poll_ahead(socket, place.ahead(), cx))?;
        let written = Pin::new(socket).poll_write(cx, bytes);
        match &written {
            Poll::Ready(Ok(count)) => place.sent(*count as u64, false),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => place.sent(0, true),
        }
        written
    }

    /// actix flushes once the socket has taken all that it wrote.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, outlet, place) = self.get_mut().parts()?;
        if place.why_cut() == Some(Cut::NotReading) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(poll_ahead(socket, place.ahead(), cx))?;
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
            // The client need not wait for the end of the connection until the rest of its body has been discarded.
            ready!(Pin::new(socket).poll_shutdown(cx)).ok();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, _, place) = self.get_mut().parts()?;
        ready!(poll_ahead(socket, place.ahead(), cx))?;
        Pin::new(socket).poll_shutdown(cx)
    }
}

impl Drop for Connection {
    /// A client that is still sending when the socket is closed may never see what it was sent.
    fn drop(&mut self) {
        if let (Some(socket), Some(place)) = (self.socket.take(), self.place.take())
            && place.is_refused()
        {
            rt::spawn(linger(socket, place));
        }
    }
}

/// Sends the rest of a refusal, and discards what the client still sends, within bounds of bytes and time.
async fn linger(mut socket: TcpStream, place: Place) {
    let ahead = place.ahead().take();
    let discard = async {
        socket.write_all(&ahead).await?;
        socket.shutdown().await?;
        copy(&mut (&mut socket).take(LINGER_BYTES), &mut sink()).await
    };
    timeout(LINGER, discard).await.ok();
}
