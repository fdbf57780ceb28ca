//! Tracks one request and its response on a connection. Handlers read the request's body through this module.
//!
//! actix-http drains a chunked body by itself once a handler has dropped it, and the connection gets stuck
//! (docs/upstream.md). So the body is held until the response has been produced: then actix sends `connection: close`,
//! discards what still arrives, up to the limit that [`Activity`] enforces, and closes the connection.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_http::{ConnectionType, Request};
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, EXPECT, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use bytes::Bytes;
use futures_util::Stream;
use pin_project_lite::pin_project;
use tokio::task::yield_now;

use super::activity::Activity;
use crate::http::access_log::BytesIn;

/// Middleware that tracks a request from its head to the end of its response.
///
/// # Errors
/// Those of the handlers.
pub async fn follow<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Followed<B>>, Error> {
    let activity = request.conn_data::<Rc<Activity>>().cloned();
    let body = activity.as_ref().and_then(|it| RequestBody::take(&mut request, it));
    if let Some(activity) = &activity {
        activity.begin(body.is_some(), content_length(request.headers()));
    }
    let bytes_in = body.as_ref().map(|it| it.0.borrow().bytes.clone()).unwrap_or_default();
    request.extensions_mut().insert(bytes_in);
    let is_upgrade = request.head().upgrade();
    let ended = Ended { activity, body };
    let mut response = next.call(request).await?;
    if !ended.has_whole_body() {
        // The rest may have been read already; actix parses it after it has polled the handler.
        yield_now().await;
    }
    ended.handled();
    // The HTTP library would echo the client's `connection: upgrade`, and does not detect a broken body.
    if is_upgrade || ended.is_broken() {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response.map_body(|_, inner| Followed { inner, _ended: ended }))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Delays `100 Continue` until a handler reads the body, so that a client without a valid key does not send it.
///
/// # Errors
/// None.
pub async fn delay_continue(request: Request) -> Result<Request, Error> {
    if let Some(activity) = request.conn_data::<Rc<Activity>>() {
        activity.delay_continue();
    }
    Ok(request)
}

pin_project! {
    /// A response's body. It is dropped when the response has been produced completely.
    pub struct Followed<B> {
        #[pin]
        inner: B,
        _ended: Ended,
    }
}

impl<B: MessageBody> MessageBody for Followed<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.inner.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        self.project().inner.poll_next(cx)
    }
}

/// Marks the end of a response, and holds the body of its request until then.
struct Ended {
    activity: Option<Rc<Activity>>,
    body: Option<RequestBody>,
}

impl Ended {
    /// Called when the handler has responded. Discards the rest of the body.
    fn handled(&self) {
        if let Some(activity) = &self.activity
            && !self.has_whole_body()
        {
            activity.discard_body();
        }
    }

    fn is_broken(&self) -> bool {
        self.body.as_ref().is_some_and(|it| it.0.borrow().is_broken)
    }

    fn has_whole_body(&self) -> bool {
        self.body.as_ref().is_none_or(RequestBody::has_ended)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            activity.answered();
        }
    }
}

/// The request body that handlers read.
#[derive(Clone)]
struct RequestBody(Rc<RefCell<Incoming>>);

struct Incoming {
    payload: Payload,
    activity: Rc<Activity>,
    /// Whether the client expects `100 Continue` before it sends the body.
    is_awaited: bool,
    /// The remaining bytes of a body whose end actix does not detect: it treats everything after an upgrade request as
    /// the body.
    left: Option<u64>,
    has_ended: bool,
    is_broken: bool,
    bytes: BytesIn,
}

impl RequestBody {
    /// Replaces the body of a request with this one. `None` if the request has none.
    fn take(request: &mut ServiceRequest, activity: &Rc<Activity>) -> Option<Self> {
        let payload = request.take_payload();
        if matches!(payload, Payload::None) {
            return None;
        }
        let headers = request.headers();
        let is_upgrade = headers.contains_key(UPGRADE) && !headers.contains_key(TRANSFER_ENCODING);
        let left = (is_upgrade || request.method() == Method::CONNECT).then(|| content_length(headers).unwrap_or(0));
        let is_awaited = headers.contains_key(EXPECT);
        let incoming = Incoming {
            payload,
            activity: activity.clone(),
            is_awaited,
            left,
            has_ended: left == Some(0),
            is_broken: false,
            bytes: BytesIn::default(),
        };
        let body = Self(Rc::new(RefCell::new(incoming)));
        request.set_payload(Payload::Stream { payload: Box::pin(body.clone()) });
        Some(body)
    }

    /// Discards the bytes that have arrived. Returns whether they complete the body.
    fn has_ended(&self) -> bool {
        let mut incoming = self.0.borrow_mut();
        incoming.is_awaited = false;
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(_))) = incoming.poll_next(&mut cx) {}
        incoming.has_ended && incoming.left.is_none()
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next(cx)
    }
}

impl Incoming {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let next = Pin::new(&mut self.payload).poll_next(cx);
        let next = self.counted(next);
        if self.has_ended {
            self.activity.has_read_body();
        }
        next
    }

    fn counted(
        &mut self,
        next: Poll<Option<Result<Bytes, PayloadError>>>,
    ) -> Poll<Option<Result<Bytes, PayloadError>>> {
        match next {
            Poll::Pending => {
                self.activity.has_caught_up();
                if std::mem::take(&mut self.is_awaited) {
                    self.activity.send_continue();
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(mut bytes))) => {
                self.is_awaited = false;
                if let Some(left) = &mut self.left {
                    bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= bytes.len() as u64;
                    self.has_ended = *left == 0;
                }
                self.activity.delivered(bytes.len());
                self.bytes.0.add(bytes.len() as u64);
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(error))) => {
                (self.has_ended, self.is_broken) = (true, true);
                self.activity.has_broken_body();
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.has_ended = true;
                Poll::Ready(if self.left.is_some() { Some(Err(PayloadError::Incomplete(None))) } else { None })
            }
        }
    }
}
