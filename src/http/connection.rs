//! A client's connection: what actix writes, and what a body sends past it. Through actix every byte would be
//! copied once more, and those of a file could not stay where the system keeps them.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::service::Stretch;

/// The connection as actix has it.
///
/// Invariant: what is sent past actix goes out when a flush finds everything written that came before it. So a
/// body says nothing more through actix until what it sent past it is gone.
pub struct Connection {
    socket: TcpStream,
    outlet: Outlet,
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
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, outlet: Outlet::default() }
    }

    /// Where a body sends what is not to go through actix.
    pub fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    /// actix flushes once the socket has taken all that it wrote.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, outlet } = self.get_mut();
        let mut sending = outlet.0.borrow_mut();
        while let Some(stretch) = sending.as_mut() {
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_io(Interest::WRITABLE, || stretch.send(&*socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => sent?,
            }
            if stretch.length() == 0 {
                *sending = None;
                // The body waits for that.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
