//! What `/readyz` costs and what it reports.

use std::time::Duration;

use crate::support::s3_faults::{Fault, FaultyS3, Rule};
use crate::support::store::IDENTITY;
use crate::support::{OBJECTS_ONLY, StoreKind, TestApp, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_the_store_is_asked_once_in_a_while() {
    let Some(app) = TestApp::start(StoreKind::Bucket, &[OBJECTS_ONLY]).await else { return };
    let faults = FaultyS3::before(app.setting("AWS_ENDPOINT_URL"));
    app.restart_with(&[("AWS_ENDPOINT_URL", &faults.endpoint)]);
    // A 403 is not retried, so each probe is a single request.
    let refused = Fault::Refuses(403, "AccessDenied");
    let rule = Rule { method: "GET", about: IDENTITY, after: 0, times: 50, fault: refused };
    faults.set(rule);
    eventually("it is not ready", async || app.client.get("/readyz").await.status == 503).await;
    for _ in 0..500 {
        app.client.get("/readyz").await.error(503, None);
    }
    assert!(!faults.heal(), "a tenth of the requests, or more, went on to the store");
    eventually("it is ready", async || app.client.get("/readyz").await.status == 200).await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_makes_the_service_unready_and_holds_up_no_probe() {
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
