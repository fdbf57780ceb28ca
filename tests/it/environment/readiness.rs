//! What `/readyz` costs and what it reports.

use std::time::Duration;

use url::Url;

use crate::support::s3_faults::{Fault, FaultyS3, Rule};
use crate::support::store::IDENTITY;
use crate::support::tcp_proxy::{Mode, TcpProxy};
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp, eventually};

/// The codes of the reasons for which the service is not ready.
async fn causes(app: &TestApp) -> Vec<String> {
    let answer = app.client.get("/readyz").await;
    let health = answer.json();
    let causes: Vec<_> = health["causes"].as_array().unwrap().iter().collect();
    assert_eq!(answer.status == 200, causes.is_empty(), "{health}");
    assert_eq!(health["status"], if causes.is_empty() { "ready" } else { "not_ready" });
    assert_eq!(answer.header("retry-after").is_some(), !causes.is_empty());
    assert!(causes.iter().all(|it| it["message"].as_str().is_some_and(|it| it.ends_with('.'))), "{health}");
    causes.iter().map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cause_is_reported_while_postgres_and_the_store_are_gone() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let mut url: Url = app.setting("DATABASE_URL").parse().unwrap();
    let postgres = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let proxy = TcpProxy::to(postgres.parse().unwrap()).await;
    url.set_port(Some(proxy.address.port())).unwrap();
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    app.restart_with(&[("DATABASE_URL", url.as_str()), ("AWS_ENDPOINT_URL", &faults.endpoint)]);
    let reported = async |expected: &[&str]| {
        eventually("the causes are reported", async || causes(&app).await == expected).await;
        assert_eq!(app.client.get("/livez").await.status, 200, "a restart would not help");
    };
    // Until then, the store is not probed while the database fails.
    eventually("the first probe has succeeded", async || {
        let metrics = app.client.get("/metrics").await.body;
        let success = "windlass_background_last_success_timestamp_seconds{task=\"prober\"}";
        String::from_utf8_lossy(&metrics).contains(success)
    })
    .await;
    reported(&[]).await;
    proxy.set(Mode::Refused);
    proxy.cut();
    reported(&["database_unavailable"]).await;
    let refused = Fault::Refuses(403, "AccessDenied");
    faults.set(Rule { method: "GET", about: IDENTITY, after: 0, times: usize::MAX, fault: refused });
    reported(&["database_unavailable", "store_unavailable"]).await;
    proxy.set(Mode::Pass);
    reported(&["store_unavailable"]).await;
    let other = "{\"store_id\": \"store_0192f0c1a2b37c4d8e5f60718293a4b5\"}";
    faults.set(Rule { method: "GET", about: IDENTITY, after: 0, times: usize::MAX, fault: Fault::Answers(other) });
    reported(&["store_mismatch"]).await;
    // A database that does not respond at all delays neither its own report nor that of the store.
    proxy.set(Mode::Silent);
    reported(&["database_unavailable", "store_mismatch"]).await;
    proxy.hush();
    proxy.set(Mode::Pass);
    faults.heal();
    reported(&[]).await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_probed_at_intervals_however_many_requests_arrive() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    // A 403 is not retried, so each probe is a single request.
    let refused = Fault::Refuses(403, "AccessDenied");
    let rule = Rule { method: "GET", about: IDENTITY, after: 0, times: 50, fault: refused };
    faults.set(rule);
    eventually("it is not ready", async || app.client.get("/readyz").await.status == 503).await;
    for _ in 0..500 {
        assert_eq!(app.client.get("/readyz").await.status, 503);
    }
    assert!(!faults.heal(), "at least a tenth of the requests led to a request to the store");
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_respond_makes_the_service_unready_without_delaying_probes() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    let late = Fault::IsLate(Duration::from_mins(10));
    faults.set(Rule { method: "GET", about: IDENTITY, after: 0, times: 1000, fault: late });
    eventually("it is not ready", async || app.client.get("/readyz").await.status == 503).await;
    let metrics = app.client.get("/metrics").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("windlass_ready 0"), "{metrics:?}");
    faults.heal();
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
    app.nothing_is_lost_and_nothing_is_left().await;
}
