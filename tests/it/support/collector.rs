//! A collector of traces: it receives OTLP over HTTP, and keeps the spans.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A span that was received.
#[derive(Debug, Clone)]
pub struct Received {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub has_failed: bool,
    pub state: String,
}

/// What the collector has received.
#[derive(Debug, Default)]
struct State {
    heads: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

/// A collector on a free port.
pub struct Collector {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Collector {
    /// Starts it. If it hangs, it accepts connections, and never answers.
    pub async fn start(hangs: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let kept = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&kept), hangs));
            }
        });
        Self { address, state }
    }

    /// How many requests have begun.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().heads.len()
    }

    /// The heads of all requests, in lower case.
    pub fn heads(&self) -> String {
        self.state.lock().unwrap().heads.concat().to_lowercase()
    }

    /// Everything that was received, as text.
    pub fn text(&self) -> String {
        self.state.lock().unwrap().bodies.iter().map(|it| String::from_utf8_lossy(it)).collect()
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Received> {
        let bodies = self.state.lock().unwrap().bodies.clone();
        let requests = bodies.iter().map(|it| ExportTraceServiceRequest::decode(&**it).unwrap());
        let scopes = requests.flat_map(|it| it.resource_spans).flat_map(|it| it.scope_spans);
        scopes.flat_map(|it| it.spans).map(Received::from).collect()
    }
}

impl From<opentelemetry_proto::tonic::trace::v1::Span> for Received {
    fn from(span: opentelemetry_proto::tonic::trace::v1::Span) -> Self {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|it| format!("{it:02x}")).collect::<Vec<_>>().concat();
        let text = |value: Option<Value>| match value {
            Some(Value::StringValue(it)) => it,
            Some(Value::IntValue(it)) => it.to_string(),
            other => format!("{other:?}"),
        };
        let attributes = span.attributes.into_iter().map(|it| (it.key, text(it.value.and_then(|it| it.value))));
        Self {
            trace: hex(span.trace_id),
            id: hex(span.span_id),
            parent: hex(span.parent_span_id),
            name: span.name,
            attributes: attributes.collect(),
            has_failed: span.status.is_some_and(|it| it.code == 2),
            state: span.trace_state,
        }
    }
}

async fn serve(socket: TcpStream, state: Arc<Mutex<State>>, hangs: bool) {
    let mut socket = BufReader::new(socket);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(bytes) = line.to_lowercase().strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        state.lock().unwrap().heads.push(head);
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.unwrap();
        state.lock().unwrap().bodies.push(body);
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
}
