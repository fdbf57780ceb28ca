//! Tests the behaviour of actix-http's dispatcher that `socket.rs` relies on, so that an incompatible update of
//! actix-http fails here.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, MessageBody};
use actix_http::{HttpService, KeepAlive, Protocol, Response};
use actix_service::{Service as _, ServiceFactory as _, fn_service};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum number of bytes that the connection accepts per write.
const WRITE_BYTES: usize = 7;

/// The pieces of a body. `true`: queued for the next flush, bypassing the dispatcher; `false`: passed to it.
const PIECES: &[(bool, &str)] = &[
    (true, "<queued before anything else>"),
    (false, "<passed>"),
    (false, "<passed again>"),
    (true, "<queued>"),
    (true, "<queued again>"),
    (false, "<passed last>"),
];

/// The bytes that bypass the dispatcher, as in `SendfileQueue`.
type Queue = Rc<RefCell<Vec<u8>>>;

struct Body {
    queue: Queue,
    pieces: VecDeque<(bool, &'static str)>,
}

impl MessageBody for Body {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        if !this.queue.borrow().is_empty() {
            return Poll::Pending;
        }
        match this.pieces.pop_front() {
            None => Poll::Ready(None),
            Some((false, piece)) => Poll::Ready(Some(Ok(Bytes::from_static(piece.as_bytes())))),
            Some((true, piece)) => {
                this.queue.borrow_mut().extend_from_slice(piece.as_bytes());
                Poll::Pending
            }
        }
    }
}

/// A connection that accepts at most [`WRITE_BYTES`] per write, and sends the queue when it is flushed.
struct SlowConnection {
    request: &'static [u8],
    sent: Rc<RefCell<Vec<u8>>>,
    queue: Queue,
    is_busy: bool,
}

impl AsyncRead for SlowConnection {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.request.is_empty() {
            // The client sends nothing more and keeps the connection open.
            return Poll::Pending;
        }
        into.put_slice(self.request);
        self.request = b"";
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SlowConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_busy = !self.is_busy;
        if self.is_busy {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let accepted = &bytes[..bytes.len().min(WRITE_BYTES)];
        self.sent.borrow_mut().extend_from_slice(accepted);
        Poll::Ready(Ok(accepted.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queue = self.queue.borrow_mut();
        if !queue.is_empty() {
            self.sent.borrow_mut().append(&mut queue);
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[actix_web::test]
async fn queued_and_passed_bytes_are_sent_in_the_order_of_the_body() {
    let (queue, sent) = (Queue::default(), Rc::new(RefCell::new(Vec::new())));
    let connection = SlowConnection {
        request: b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        sent: Rc::clone(&sent),
        queue: Rc::clone(&queue),
        is_busy: false,
    };
    let handler = fn_service(move |_| {
        let mut response =
            Response::ok().set_body(Body { queue: Rc::clone(&queue), pieces: PIECES.iter().copied().collect() });
        response.head_mut().no_chunking(true);
        async move { Ok::<_, Infallible>(response) }
    });
    let dispatcher =
        HttpService::build().keep_alive(KeepAlive::Disabled).finish(handler).new_service(()).await.unwrap();
    dispatcher.call((connection, Protocol::Http1, None)).await.unwrap();
    let sent = String::from_utf8(sent.take()).unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, PIECES.iter().map(|(_, piece)| *piece).collect::<String>());
}
