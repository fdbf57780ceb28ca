//! The connection to a client, with a bypass around actix for the bytes of files: actix would copy them once more, and
//! could not send them from the page cache.

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
use windlass_engine::FileSlice;

use super::activity::{Activity, LINGER};
use super::connections::Place;

/// TCP keep-alive (tcp(7)): `TCP_KEEPIDLE`.
const PROBE_AFTER: Duration = Duration::from_mins(1);
/// `TCP_KEEPINTVL`.
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// `TCP_KEEPCNT`.
const PROBES: u32 = 4;

/// The number of bytes discarded per read.
const DISCARD_STEP: usize = 16 * 1024;

/// How to read from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Read.
    Go,
    /// Let the parser process the bytes read so far, then poll again.
    Pause,
    /// Wait until the handler has consumed the bytes read so far, which wakes the connection.
    Wait,
    /// Read, and discard the bytes.
    Discard,
    /// Report the end of the stream: the connection is being closed.
    Stop,
}

/// Whether more responses may follow the flushed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// More responses may follow.
    Some,
    /// The flushed response was the last one on this connection.
    Last,
}

/// The connection that is passed to actix.
///
/// Invariant: bytes that bypass actix are sent by a flush, when all bytes that actix wrote before have been sent. So a
/// body passes no more bytes to actix until the queue is empty.
pub struct Connection {
    sendfile_queue: SendfileQueue,
    /// Bytes that have been read but may not be parsed yet.
    rest: Bytes,
    /// `None` once the connection is dropped.
    place: Option<Place>,
}

/// The bypass around actix: holds at most one slice of a file to be sent.
#[derive(Clone, Default)]
pub struct SendfileQueue(Rc<RefCell<Option<FileSlice>>>);

impl SendfileQueue {
    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Queues a slice, which the next flush sends. The queue must be empty.
    pub fn send(&self, slice: FileSlice) {
        debug_assert!(self.is_empty(), "the previous slice has not been sent yet");
        self.0.replace((slice.length() > 0).then_some(slice));
    }
}

impl Connection {
    /// Wraps an accepted socket. TCP detects an unreachable peer: by `TCP_USER_TIMEOUT`, a minute longer than
    /// `send_timeout`, if sent bytes are unacknowledged, otherwise by keep-alive probes.
    pub fn new(place: Place, send_timeout: Duration) -> Self {
        // Longer, so that a reachable client that does not read is closed by the watchdog, which counts it.
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
        Self { sendfile_queue: SendfileQueue::default(), rest: Bytes::new(), place: Some(place) }
    }

    /// The queue for bytes that bypass actix.
    pub fn sendfile_queue(&self) -> SendfileQueue {
        self.sendfile_queue.clone()
    }

    /// The state of the connection. `None` once it is dropped.
    pub fn activity(&self) -> Option<&Rc<Activity>> {
        self.place.as_ref().map(Place::activity)
    }

    fn parts(&self) -> io::Result<(RefMut<'_, TcpStream>, &SendfileQueue, &Place)> {
        let place = self.place.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok((place.socket()?, &self.sendfile_queue, place))
    }
}

/// Writes the bytes that precede all others: see [`Activity::ahead`].
///
/// # Errors
/// `TimedOut` if pending output is to be discarded, or an I/O error.
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

/// Discards what the client still sends, up to the end of the stream or the limit. actix would first collect it in a
/// buffer that it does not release.
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

    /// actix calls this when the socket has accepted all of its bytes.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut socket, queue, place) = self.get_mut().parts()?;
        ready!(poll_ahead(&mut socket, place, cx))?;
        let mut sending = queue.0.borrow_mut();
        while let Some(slice) = sending.as_mut() {
            let Poll::Ready(writable) = socket.poll_write_ready(cx) else {
                place.sent(0, true);
                return Poll::Pending;
            };
            writable?;
            let before = slice.length();
            match socket.try_io(Interest::WRITABLE, || slice.send(&*socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => sent?,
            }
            place.sent(before - slice.length(), false);
            if slice.length() == 0 {
                *sending = None;
                // The body returned `Pending` while the queue was not empty.
                cx.waker().wake_by_ref();
            }
        }
        if place.flushed() == Flushed::Last {
            // Marks the end of the response for the client, before the rest of the body has been discarded.
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
    /// Lingers if needed: closing a socket that still receives data resets the connection and may lose the response.
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && !thread::panicking()
            && place.dropped()
        {
            rt::spawn(linger(place));
        }
    }
}

/// Sends the rest of an error response, then discards what the client still sends, up to a limit of bytes and time.
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
