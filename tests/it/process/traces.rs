//! Traces: each operation is a span with children, part of the client's trace, and a collector that does not answer
//! delays nothing.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;

use crate::support::client::id;
use crate::support::collector::{Collector, Received};
use crate::support::{StoreKind, TestApp, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A program that sends traces to this collector.
async fn traced(collector: &Collector, more: &[(&str, &str)]) -> Option<TestApp> {
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.address), ("WINDLASS_LEDGER_PART_BYTES", "0")];
    TestApp::start(StoreKind::Directory, &[&settings, more].concat()).await
}

/// The spans of an operation, once they have been received: first its own, then its children, in any order.
async fn spans_of(collector: &Collector, name: &str) -> Vec<Received> {
    eventually(name, async || collector.spans().iter().any(|it| it.name == name)).await;
    let all = collector.spans();
    let own: Vec<_> = all.iter().filter(|it| it.name == name).cloned().collect();
    assert_eq!(own.len(), 1, "one span per operation: {own:?}");
    let in_trace = all.into_iter().filter(|it| it.trace == own[0].trace && it.id != own[0].id);
    own.iter().cloned().chain(in_trace).collect()
}

fn has_child(spans: &[Received], name: &str) -> bool {
    spans.iter().any(|it| it.name == name && it.parent == spans[0].id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_a_span_with_its_statements_and_store_operations() {
    let collector = Collector::start(false).await;
    let headers = [("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20team"), ("OTEL_SERVICE_NAME", "files-of-a-team")];
    let Some(app) = traced(&collector, &headers).await else { return };
    let upload = app.client.upload(3).await;
    let part = app.client.part(&upload, "abc").await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    assert_eq!(app.client.download(&file).await, b"abc");
    app.client.get("/v1/files/file-unknown").await.error(404, Some("id"));

    let created = spans_of(&collector, "POST /v1/uploads").await;
    assert!(has_child(&created, "wait for batch"), "{created:#?}");
    let part_added = spans_of(&collector, "POST /v1/uploads/{id}/parts").await;
    let own = &part_added[0].attributes;
    assert_eq!((&*own["http.request.method"], &*own["http.response.status_code"]), ("POST", "200"));
    assert_eq!((&*own["windlass.upload.id"], &*own["windlass.part.id"]), (&*upload, &*part));
    assert!(own["windlass.request.id"].starts_with("req_") && !part_added[0].has_failed);
    assert!(has_child(&part_added, "store put"), "{part_added:#?}");
    assert!(
        part_added
            .iter()
            .any(|it| it.attributes.get("db.query.text").is_some_and(|it| it.contains("insert into part")))
    );
    let completed = spans_of(&collector, "POST /v1/uploads/{id}/complete").await;
    let transaction = completed.iter().find(|it| it.name == "sql transaction").expect("a transaction");
    assert_eq!(transaction.parent, completed[0].id);
    assert!(completed.iter().any(|it| it.parent == transaction.id && it.name == "sql commit"), "{completed:#?}");
    let downloaded = spans_of(&collector, "GET /v1/files/{id}/content").await;
    assert!(has_child(&downloaded, "store read"), "{downloaded:#?}");
    let missing = spans_of(&collector, "GET /v1/files/{id}").await;
    assert_eq!(missing[0].attributes["http.response.status_code"], "404");
    assert!(!missing[0].has_failed, "an error of the client is none of the server");

    let (heads, text) = (collector.heads(), collector.text());
    assert!(heads.starts_with("post /v1/traces ") && heads.contains("x-team: a team"), "{heads}");
    assert!(text.contains("files-of-a-team"));
    assert!(!text.contains(&app.client.key) && !text.contains("a file.bin"), "no key and no filename");
    // Probes and the sweep are no operations.
    let names: Vec<_> = collector.spans().into_iter().map(|it| it.name).collect();
    assert!(!names.iter().any(|it| it.contains("/metrics") || it.contains("/readyz")), "{names:?}");
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_url_and_the_name_in_it_are_in_no_span() {
    let collector = Collector::start(false).await;
    let Some(app) = traced(&collector, &[]).await else { return };
    let file = app.client.file("abc").await;
    let signed = app.client.post(&format!("/v1/files/{file}/signed_url"), &json!({"expires_in": 60})).await.ok();
    let path = signed["url"].as_str().unwrap().split_once("/signed/").unwrap().1.to_owned();
    let answer = app.client.get(&format!("/signed/{path}")).await;
    assert_eq!(&*answer.body, b"abc");
    let token = path.split('/').next().unwrap();
    let spans = spans_of(&collector, "GET /signed/{token}/{name}").await;
    assert_eq!(spans[0].attributes["windlass.file.id"], file);
    assert!(!collector.text().contains(token) && !collector.text().contains("data.bin"));
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_the_request_is_continued_and_its_decision_respected() {
    let collector = Collector::start(false).await;
    let settings = [("WINDLASS_TRACE_RATIO", "0"), ("WINDLASS_LOG_FORMAT", "json")];
    let Some(app) = traced(&collector, &settings).await else { return };
    let get = async |path: &str, traceparent: &str| {
        let request = app.client.request(Method::GET, path).header("traceparent", traceparent);
        app.client.send(request.header("tracestate", "vendor=1").header("tracestate", "other=2")).await.ok();
    };
    // Neither is exported: one is not sampled by the client, and the other is malformed, so that the ratio decides.
    get("/v1/uploads", &format!("00-{TRACE}-{PARENT}-00")).await;
    get("/v1/usage", &format!("00-{TRACE}-{PARENT}-1")).await;
    get("/v1/files", &format!("00-{TRACE}-{PARENT}-01")).await;
    let spans = spans_of(&collector, "GET /v1/files").await;
    assert_eq!((&*spans[0].trace, &*spans[0].parent), (TRACE, PARENT));
    assert_eq!(spans[0].state, "vendor=1,other=2");
    assert!(collector.spans().iter().all(|it| it.name == "GET /v1/files" || it.parent == spans[0].id));
    let log = app.log();
    let line = log.lines().find(|it| it.contains("request completed") && it.contains("\"/v1/files\"")).unwrap();
    assert!(line.contains(&format!("\"trace_id\":\"{TRACE}\"")), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_there_are_no_traces() {
    let collector = Collector::start(false).await;
    let Some(app) = TestApp::start(StoreKind::Directory, &[("WINDLASS_LOG", "trace")]).await else { return };
    let request = app.client.request(Method::GET, "/v1/files");
    app.client.send(request.header("traceparent", format!("00-{TRACE}-{PARENT}-01"))).await.ok();
    let log = app.log();
    assert!(!log.contains(TRACE) && !log.contains("trace_id"), "{log}");
    assert_eq!(collector.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_delays_no_request_and_no_shutdown() {
    let collector = Collector::start(true).await;
    let Some(app) = traced(&collector, &[("WINDLASS_SHUTDOWN_DELAY", "0s")]).await else { return };
    let file = app.client.file("abc").await;
    eventually("the collector is tried", async || collector.requests() > 0).await;
    let dropped = async || {
        let text = app.client.get("/metrics").await.body;
        let text = String::from_utf8(text.to_vec()).unwrap();
        let value = text.lines().find_map(|it| it.strip_prefix("windlass_trace_spans_dropped_total "));
        value.unwrap().parse::<u64>().unwrap()
    };
    // More spans than the queue holds.
    eventually("spans are dropped", async || {
        let requests = (0..50).map(|_| app.client.get("/v1/files/file-unknown"));
        futures_util::future::join_all(requests).await;
        dropped().await > 0
    })
    .await;
    assert_eq!(app.client.download(&file).await, b"abc");
    app.program(|it| it.signal(Signal::SIGTERM));
    let began = Instant::now();
    assert!(app.program(|it| it.wait().success()));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}
