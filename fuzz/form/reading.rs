//! Parses a form as the handlers do, from a body whose pieces arrive one after another.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::test::TestRequest;
use actix_web::{FromRequest as _, HttpRequest, dev};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use tokio::runtime::{Builder, Runtime};
use windlass::http::body::Body;
use windlass::http::multipart_form::{ContentLimit, Field, Form};
use windlass_engine::Error;
use windlass_engine::model::Limits;
use windlass_types::ByteCount;

use super::case::{BOUNDARIES, Case, Ending, KNOWN};

/// The result of parsing a form.
#[derive(Debug, Default)]
pub struct Reading {
    /// The fields that were read completely.
    pub fields: Vec<ReadField>,
    /// The content, so far, of a field that was not read completely.
    pub cut_off: Vec<u8>,
    /// The error, if there was one.
    pub refused: Option<String>,
}

/// A field as a handler receives it.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadField {
    /// Name of the field.
    pub name: String,
    /// File name; `None` if it is not a valid one.
    pub filename: Option<String>,
    /// Content type; `None` if it is not a valid one.
    pub mime_type: Option<String>,
    /// The whole content.
    pub content: Vec<u8>,
}

thread_local! {
    // The timeouts of bodies need a timer; none of them expires here.
    static CLOCK: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    static LIMITS: Limits = Limits::default();
    static REQUESTS: [HttpRequest; BOUNDARIES.len()] = BOUNDARIES.map(|boundary| {
        let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
        TestRequest::default().insert_header((CONTENT_TYPE, content_type)).to_http_request()
    });
}

const LIMIT: ContentLimit = ContentLimit { content: ByteCount::ZERO, error: Error::FileTooLarge };

/// Parses a case's form from a body that arrives in these pieces.
///
/// # Panics
/// If the parser waits without polling the body, or after its end.
pub fn read(case: &Case, pieces: Vec<Bytes>) -> Reading {
    let arrivals = Rc::new(RefCell::new(Arrivals::new(pieces, case.ending)));
    let form = REQUESTS.with(|it| {
        let request = &it[case.boundary];
        LIMITS.with(|it| Form::open(request, body(request, arrivals.clone()), it, &LIMIT, KNOWN))
    });
    let mut reading = Reading::default();
    CLOCK.with(|it| {
        let _clock = it.enter();
        let mut fields = pin!(read_fields(form.expect("a form"), &mut reading));
        while fields.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            arrivals.borrow_mut().arrive(case);
        }
    });
    reading
}

async fn read_fields(mut form: Form, reading: &mut Reading) {
    loop {
        match form.next().await {
            Ok(None) => return,
            Ok(Some(field)) => {
                if let Err(error) = read_field(field, reading).await {
                    reading.refused = Some(error);
                    return;
                }
            }
            Err(error) => {
                reading.refused = Some(error.to_string());
                return;
            }
        }
    }
}

async fn read_field(mut field: Field<'_>, reading: &mut Reading) -> Result<(), String> {
    let name = field.name().to_owned();
    let filename = field.filename().ok().map(|it| it.as_str().to_owned());
    let mime_type = field.mime_type().ok().map(|it| it.as_str().to_owned());
    let content = if name == KNOWN[0] {
        field.text().await.map_err(|it| it.to_string())?.into_bytes()
    } else {
        while let Some(bytes) = field.next().await.map_err(|it| it.to_string())? {
            reading.cut_off.extend_from_slice(&bytes);
        }
        std::mem::take(&mut reading.cut_off)
    };
    reading.fields.push(ReadField { name, filename, mime_type, content });
    Ok(())
}

/// A connection. As in actix, bytes arrive between two polls, never during one.
struct Arrivals {
    coming: VecDeque<Bytes>,
    here: Option<Bytes>,
    ending: Ending,
    over: bool,
    wanted: bool,
}

impl Arrivals {
    fn new(pieces: Vec<Bytes>, ending: Ending) -> Self {
        Self { coming: pieces.into(), here: None, ending, over: false, wanted: false }
    }

    fn arrive(&mut self, case: &Case) {
        assert!(self.wanted && !self.over, "waits without polling the body, or after its end: {case:?}");
        self.wanted = false;
        self.here = self.coming.pop_front();
        self.over = self.here.is_none() || self.coming.is_empty() && self.ending == Ending::AtOnce;
    }

    fn poll(&mut self) -> Poll<Option<Result<Bytes, PayloadError>>> {
        match self.here.take() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None if !self.over => {
                self.wanted = true;
                Poll::Pending
            }
            None if self.ending == Ending::Broken => Poll::Ready(Some(Err(PayloadError::Incomplete(None)))),
            None => Poll::Ready(None),
        }
    }
}

fn body(request: &HttpRequest, arrivals: Rc<RefCell<Arrivals>>) -> Body {
    let body = Box::pin(stream::poll_fn(move |_| arrivals.borrow_mut().poll()));
    Body::from_request(request, &mut dev::Payload::Stream { payload: body })
        .now_or_never()
        .and_then(Result::ok)
        .expect("a body")
}
